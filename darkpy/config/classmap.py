"""The `map=` file of a head with a class tree: one number a line, the class of the tree that a label's class is."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

from darkpy.errors import DarkpyError

MAX_SIZE = 1 << 20  # bytes; coco9k.map has 80 lines
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_HINT = "each line is the number of a class, counted from 0"


def read_class_map(path: str | os.PathLike[str], classes: int) -> tuple[int, ...]:
    """The classes of the labels 0, 1, ..., read again only when the file has changed.

    Raises: DarkpyError when the file cannot be read, or holds a line that is no class below `classes`.
    Source: pjreddie/darknet src/utils.c read_map.
    """
    path = Path(path)
    try:
        state = path.stat()
        found = _read(path, state.st_mtime_ns, state.st_size)
    except (OSError, ValueError) as error:
        raise DarkpyError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}", hint=_HINT) from error
    for line, number in enumerate(found, start=1):
        if number >= classes:
            raise DarkpyError(f"{path}:{line}: names class {number}, but classes={classes}", hint=_HINT)
    return found


@lru_cache(maxsize=4)
def _read(path: Path, changed: int, size: int) -> tuple[int, ...]:
    if not path.is_file() or size > MAX_SIZE:
        raise DarkpyError(f"{path}: is no map of classes: it is larger than {MAX_SIZE} bytes, or no file", hint=_HINT)
    lines = path.read_text(encoding="utf-8-sig", errors="replace").split()
    for line, word in enumerate(lines, start=1):
        if not _NUMBER.fullmatch(word):
            raise DarkpyError(f"{path}:{line}: {word[:40]!r} is no number of a class", hint=_HINT)
    if not lines:
        raise DarkpyError(f"{path}: is an empty file", hint=_HINT)
    return tuple(map(int, lines))
