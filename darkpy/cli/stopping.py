"""Runs that are asked to end, and do so between two updates."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from darkpy.cli.console import info


@dataclass
class Wish:
    """That the run may end: the exit code it is to have, 0 as long as nobody wants it to."""

    code: int = 0
    earlier: dict[int, signal._HANDLER] = field(default_factory=dict)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.code = 128 + number
        info("ending after this update; once more ends at once")
        self.restore()

    def restore(self) -> None:
        for number, handler in self.earlier.items():
            signal.signal(number, handler)


@contextmanager
def stoppable() -> Iterator[Wish]:
    """Let Ctrl-C, and the signal that schedulers send, end a run between two updates."""
    wish = Wish()
    if threading.current_thread() is threading.main_thread():
        wish.earlier = {number: signal.signal(number, wish) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wish
    finally:
        wish.restore()
