"""Ctrl-C while the program's modules are still being imported: it ends as programs do, without a traceback.

Imported first by `darkpy.__main__`; `listen` hands Ctrl-C back to Python when the program can handle it.
"""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

_PROGRAM_FILE = Path(__file__).resolve().parents[1] / "__main__.py"


def _is_program() -> bool:
    """True in a process of the program: not where its modules are imported by another one."""
    start = Path(sys.argv[0] if sys.argv else "")
    return start.stem == "darkpy" or start.resolve() == _PROGRAM_FILE


_is_quiet = (
    threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else ignored, as in the background of a script
    and _is_program()
)
if _is_quiet:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def listen() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again."""
    if _is_quiet and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
