"""How far long work is, on a terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator
from time import perf_counter
from typing import TypeVar

from darkpy.cli.console import ERASE

Item = TypeVar("Item")
PATIENCE = 1.0
"""Seconds after which somebody who watches wants to be told."""


def track(items: Iterable[Item], total: int) -> Iterator[Item]:
    """Hand the items on; between them stands a bar with rate and time left, if stderr is a terminal.

    The bar is gone while an item is in use, so that what is printed for it stands on a line of its own.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    began = perf_counter()
    is_shown = False
    try:
        for done, item in enumerate(items, start=1):
            if is_shown:
                _write(ERASE)
            yield item
            now = perf_counter()
            is_shown = now - began > PATIENCE and done < total
            if is_shown:
                _write(bar_line(done, total, now - began, shutil.get_terminal_size().columns))
    finally:
        if is_shown:
            _write(ERASE)


def bar_line(done: int, total: int, seconds: float, columns: int) -> str:
    """`[####....] 120/5000  31.2/s  2:36 left`, no wider than the terminal."""
    left = round(seconds / done * (total - done))
    clock = f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02}" if left >= 3600 else f"{left // 60}:{left % 60:02}"
    text = f" {done}/{total}  {done / seconds:.3g}/s  {clock} left"
    width = min(40, columns - len(text) - 3)
    filled = max(0, width) * done // total
    bar = f"[{'#' * filled}{'.' * (width - filled)}]" if width > 0 else ""
    return f"{bar}{text}"[: columns - 1]


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
