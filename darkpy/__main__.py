"""The program `darkpy`, also to be had as `python -m darkpy`.

The only place that turns what the user did wrong into a message on stderr and exit code 2.
"""

from __future__ import annotations

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
from darkpy.errors import DarkpyError, DarkpyWarning
from darkpy.process import let_waiting_threads_sleep

MISTAKE, INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, the program's own by default. Returns: the exit code."""
    let_waiting_threads_sleep()
    arguments = sys.argv[1:] if arguments is None else arguments
    # file names are bytes, and may mean nothing as letters
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    with warnings.catch_warnings():
        warnings.simplefilter("default", DarkpyWarning)
        warnings.showwarning = _warning_printer(warnings.showwarning)
        try:
            code = app.main(list(arguments), prog_name="darkpy", standalone_mode=False, obj=tuple(arguments))
        except click.UsageError as error:
            console.error(_with_usage(error))
        except DarkpyError as error:
            console.error(error)
        except OSError as error:  # every file's own faults are DarkpyErrors by now: a full disk behind > or a pipe
            console.error(DarkpyError(f"{error.filename or 'standard output'}: {error.strerror or error}"))
            _drop_output()
        except click.Abort:
            return INTERRUPTED
        else:
            return code or 0
    return MISTAKE


def run() -> None:
    """The program: a command line, and out."""
    leave(main())


def leave(code: int) -> None:
    """End this process with that exit code, without taking torch to pieces: that takes half a second and frees nothing.

    Where somebody else still has to act at the end (a loader's process, a thread, a debugger's or test's hooks), Python
    ends as it always does.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # a full disk or a closed pipe, of which `main` has spoken
            code = code or MISTAKE
    if "torch" not in sys.modules or _is_awaited():
        sys.exit(code)
    os._exit(code)


def _is_awaited() -> bool:
    """Whether anybody but Python itself has something to do when this process ends."""
    import multiprocessing

    watchers = {"pytest", "coverage", "pdb"} & sys.modules.keys()
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    is_working = any(not thread.daemon for thread in others) or bool(multiprocessing.active_children())
    return is_working or bool(watchers) or sys.gettrace() is not None


def _drop_output() -> None:
    """Let Python not write once more, when it ends, what could not be written."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123


def _with_usage(error: click.UsageError) -> DarkpyError:
    message = error.format_message().removesuffix(".")
    message = message[:1].lower() + message[1:]
    if error.ctx is None:
        return DarkpyError(message)
    usage = " ".join([error.ctx.command_path, *error.ctx.command.collect_usage_pieces(error.ctx)])
    return DarkpyError(message, hint=f"{usage}; {error.ctx.command_path} --help tells more")


def _warning_printer(show_others: Any) -> Any:
    """Print darkpy's warnings as lines of ours, and leave other people's to Python."""

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, DarkpyWarning):
            console.warn(message)
        else:
            show_others(message, category, *place, **more)

    return show


if __name__ == "__main__":
    run()
