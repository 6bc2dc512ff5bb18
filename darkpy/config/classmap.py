"""Reader of the `map=` file of a head with a class tree: line n holds the tree's class for label class n."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

from darkpy.errors import DarkpyError
from darkpy.files import read_text

MAX_SIZE = 1 << 20  # bytes; coco9k.map has 80 lines
_CLASS_INDEX = re.compile(r"\d{1,9}", re.ASCII)
_LINE_HINT = "each line is a class index, counted from 0"


def read_class_map(path: str | os.PathLike[str], classes: int) -> tuple[int, ...]:
    """Read the tree's classes of the labels 0, 1, ...; cached until the file changes.

    Raises: DarkpyError when the file cannot be read, or has a line that is not a class index below `classes`.
    Source: pjreddie/darknet src/utils.c read_map.
    """
    path = Path(path)
    try:
        state = path.stat()
        class_map = _read(path, state.st_mtime_ns, state.st_size)
    except (OSError, ValueError) as error:
        raise DarkpyError(
            f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}", hint=_LINE_HINT
        ) from error
    for line, index in enumerate(class_map, start=1):
        if index >= classes:
            raise DarkpyError(f"{path}:{line}: names class {index}, but classes={classes}", hint=_LINE_HINT)
    return class_map


@lru_cache(maxsize=4)
def _read(path: Path, changed: int, size: int) -> tuple[int, ...]:
    lines = read_text(path, max_bytes=MAX_SIZE, hint=_LINE_HINT).split()
    for line, word in enumerate(lines, start=1):
        if not _CLASS_INDEX.fullmatch(word):
            raise DarkpyError(f"{path}:{line}: {word[:40]!r} is not a class index", hint=_LINE_HINT)
    if not lines:
        raise DarkpyError(f"{path}: is an empty file", hint=_LINE_HINT)
    return tuple(map(int, lines))
