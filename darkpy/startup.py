"""Ctrl-C while the program's modules are being imported, and after its work: it ends the process without a traceback.

Imported before all else by the package, in a process of the program only; in `InterruptsRaise` the program handles
Ctrl-C itself. Python's own start cannot be covered: for some 10 ms, until its `site` and `runpy` modules have run, no
code of a package has, and Ctrl-C prints Python's traceback. A .pth file could end that, in every other program too.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # typing would be imported for it
if TYPE_CHECKING:
    from types import FrameType

EXIT_CODE_INTERRUPTED = 130
_PROGRAM_FILE = os.path.join("darkpy", "__main__.py")  # noqa: PTH118  pathlib takes a tenth of the time to import


def _is_program() -> bool:
    """True in a process of the program: not where its modules are imported by another one."""
    words = sys.orig_argv
    # while `python -m darkpy` imports the package, the program's file is not known yet
    is_module = any(words[index : index + 2] == ["-m", "darkpy"] for index in range(len(words)))
    name = sys.argv[0] if sys.argv else ""
    return name.endswith(_PROGRAM_FILE) or (is_module if name == "-m" else _stem(name) == "darkpy")


def _stem(name: str) -> str:
    return os.path.splitext(os.path.basename(name))[0]  # noqa: PTH119, PTH122


def _end(*_: object) -> None:
    """End the process as `main` ends it: no code of a program that is half imported or done runs any more."""
    try:
        os.write(2, b"\n")
    finally:
        os._exit(EXIT_CODE_INTERRUPTED)


_is_quiet = (
    _is_program()
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else ignored, as in the background of a script
)
if _is_quiet:
    try:
        signal.signal(signal.SIGINT, _end)
    except ValueError:  # not in the main thread
        _is_quiet = False


def _raise(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; end the process while torch or numpy is imported, before any work.

    torch's C code drops what is raised in its import of numpy, and a half of numpy fails much later.
    """
    specs = (getattr(sys.modules.get(name), "__spec__", None) for name in ("torch", "numpy"))
    if any(getattr(spec, "_initializing", False) for spec in specs):
        _end()
    signal.default_int_handler(number, frame)


class InterruptsRaise:
    """Context of the program's work: Ctrl-C raises KeyboardInterrupt again."""

    def __enter__(self) -> None:
        if _is_quiet and signal.getsignal(signal.SIGINT) is _end:
            signal.signal(signal.SIGINT, _raise)

    def __exit__(self, *_: object) -> None:
        if _is_quiet and signal.getsignal(signal.SIGINT) is _raise:
            signal.signal(signal.SIGINT, _end)
