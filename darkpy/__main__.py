"""The program `darkpy`, also `python -m darkpy`.

The only place that turns user errors into a message on stderr and exit code 2.
"""

from __future__ import annotations

from darkpy.cli import startup  # before all that takes its time

# isort: split
import io
import os
import sys
import threading
import warnings
from collections.abc import Sequence
from typing import Any

import click

from darkpy.cli import console
from darkpy.cli.app import app
from darkpy.errors import DarkpyError, DarkpyNote, DarkpyWarning
from darkpy.process import let_waiting_threads_sleep

EXIT_CODE_WRONG_INPUT, EXIT_CODE_INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default this process's. Returns: the exit code."""
    let_waiting_threads_sleep()
    arguments = sys.argv[1:] if arguments is None else arguments
    # file names are bytes, perhaps not valid in any encoding
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    with warnings.catch_warnings():
        warnings.simplefilter("default", DarkpyWarning)
        warnings.showwarning = _warning_printer(warnings.showwarning)
        try:
            startup.listen()
            code = app.main(list(arguments), prog_name="darkpy", standalone_mode=False, obj=tuple(arguments))
        except click.UsageError as error:
            console.error(_with_usage(error))
        except DarkpyError as error:
            console.error(error)
        except OSError as error:  # files raise DarkpyErrors: a full disk or closed pipe behind stdout
            console.error(DarkpyError(f"{error.filename or 'standard output'}: {error.strerror or error}"))
            # keeps Python from flushing the failed output once more at exit
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
        except click.Abort:
            return EXIT_CODE_INTERRUPTED
        else:
            return code or 0
    return EXIT_CODE_WRONG_INPUT


def run() -> None:
    """Run the program and exit."""
    leave(main())


def leave(code: int) -> None:
    """Exit at once, skipping the half second in which torch is torn down to no use.

    Exits normally if something still has to run: a loader's process, a thread, hooks of a debugger or test runner.
    """
    import multiprocessing

    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # a full disk or closed pipe, reported by `main`
            code = code or EXIT_CODE_WRONG_INPUT
    tools = {"pytest", "coverage", "pdb"} & sys.modules.keys()
    has_threads = any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread())
    is_in_use = has_threads or bool(multiprocessing.active_children()) or bool(tools) or sys.gettrace() is not None
    if "torch" not in sys.modules or is_in_use:
        sys.exit(code)
    os._exit(code)


def _with_usage(error: click.UsageError) -> DarkpyError:
    message = error.format_message().removesuffix(".")
    message = message[:1].lower() + message[1:]
    if error.ctx is None:
        return DarkpyError(message)
    usage = " ".join([error.ctx.command_path, *error.ctx.command.collect_usage_pieces(error.ctx)])
    return DarkpyError(message, hint=f"{usage}; see {error.ctx.command_path} --help")


def _warning_printer(show_others: Any) -> Any:
    """Print darkpy's warnings as console messages, each text once, and leave those of other packages to Python."""
    printed: set[tuple[type[Warning], str]] = set()

    def show(message: Warning | str, category: type[Warning], *location: Any, **details: object) -> None:
        if issubclass(category, DarkpyWarning) and (category, str(message)) in printed:
            return
        printed.add((category, str(message)))
        if issubclass(category, DarkpyNote):
            console.info(str(message))
        elif issubclass(category, DarkpyWarning):
            console.warn(message)
        else:
            show_others(message, category, *location, **details)

    return show


if __name__ == "__main__":
    run()
