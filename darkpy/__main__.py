"""The program `darkpy`, also `python -m darkpy`.

The only place that turns user errors into a message on stderr and exit code 2.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import click

from darkpy import startup
from darkpy.cli import console
from darkpy.cli.app import app
from darkpy.errors import DarkpyError, DarkpyNote, DarkpyWarning, is_out_of_memory
from darkpy.files import protect_inputs
from darkpy.process import limit_thread_spinning

EXIT_CODE_WRONG_INPUT = 2
EXIT_CODE_PIPE_CLOSED = 141
"""Exit code that shells report for a program ended by SIGPIPE."""
MAX_REASON_LENGTH = 200
MAX_CHILD_SECONDS = 5.0
"""Time for a daemon process to end."""
OUT_OF_MEMORY_HINT = (
    "smaller width= and height= in [net] take less memory; so do more subdivisions= in a training, and --batch-size 1 "
    "in commands that have it"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default this process's. Returns: the exit code."""
    limit_thread_spinning()
    _open_closed_streams()
    arguments = _strip_line_ends(sys.argv[1:] if arguments is None else arguments)
    # file names are bytes, perhaps not valid in any encoding
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            with suppress(io.UnsupportedOperation):  # a program that calls this has read from it already
                stream.reconfigure(errors=errors)
    with warnings.catch_warnings():
        warnings.simplefilter("default", DarkpyWarning)
        warnings.showwarning = _warning_printer(warnings.showwarning)
        try:
            with startup.InterruptsRaise(), protect_inputs():
                code = app.main(list(arguments), prog_name="darkpy", standalone_mode=False, obj=tuple(arguments))
        except click.UsageError as error:
            console.error(_with_usage(error))
        except DarkpyError as error:
            console.error(error)
            if isinstance(error, console.StandardOutputError):
                _discard_output()
        except (click.Abort, KeyboardInterrupt):
            return startup.EXIT_CODE_INTERRUPTED
        except SystemExit:  # click's answer to a closed pipe
            return EXIT_CODE_PIPE_CLOSED
        except Exception as error:
            if is_out_of_memory(error):
                reason = str(error).partition("\n")[0][:MAX_REASON_LENGTH]
                console.error(DarkpyError(f"out of memory: {reason or 'Python'}", hint=OUT_OF_MEMORY_HINT))
            elif isinstance(error, OSError):  # those of files are DarkpyErrors
                place = f"{error.filename}: " if error.filename else ""
                console.error(DarkpyError(f"{place}{error.strerror or error}"))
            else:
                raise
        else:
            return code or 0
    return EXIT_CODE_WRONG_INPUT


def _open_closed_streams() -> None:
    """Open standard output and standard error where the caller has closed them (`>&-`): their output is discarded.

    Otherwise the next files to be opened would take their place, and other libraries' output.
    """
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_WRONLY)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8"))


def _discard_output() -> None:
    """Redirect failed standard output to the null device: Python would flush it again at exit."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123


def _strip_line_ends(arguments: Sequence[str]) -> list[str]:
    """Remove line ends from the arguments, which scripts written on Windows leave there, as AlexeyAB's program does."""
    stripped = [argument.rstrip("\r\n") for argument in arguments]
    return [argument for argument, given in zip(stripped, arguments, strict=True) if argument or not given]


def run() -> None:
    """Run the program and exit."""
    leave(main())


def leave(code: int) -> None:
    """Exit at once, skipping torch's teardown, which takes half a second.

    Threads of torch.distributed do not always survive it: after the clear message of a training that has lost its other
    processes, C++ would abort. Daemons, such as a loader's processes, are ended as Python does. Exits normally if
    something still has to run: a process, a thread, hooks of a debugger or test runner.
    """
    import multiprocessing

    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        code = EXIT_CODE_PIPE_CLOSED if isinstance(error, BrokenPipeError) else code or EXIT_CODE_WRONG_INPUT
        _discard_output()
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    tools = {"pytest", "coverage", "pdb"} & sys.modules.keys()
    has_threads = any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread())
    children = multiprocessing.active_children()
    has_processes = not all(child.daemon for child in children)
    if "torch" not in sys.modules or has_threads or has_processes or tools or sys.gettrace() is not None:
        sys.exit(code)
    for child in children:
        child.terminate()
    for child in children:
        child.join(MAX_CHILD_SECONDS)
        child.kill()  # one that is suspended
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
