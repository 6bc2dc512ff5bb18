"""Reader of small text files of a data set, from any editor."""

from __future__ import annotations

import os

from darkpy.errors import DarkpyError
from darkpy.files import read_text

MAX_SIZE_BYTES = 1 << 22  # the largest in use, the names of ImageNet's 22,000 classes, has 0.5 MB


def read_lines(path: str | os.PathLike[str], *, hint: str, keep_bytes: bool = False) -> list[str]:
    """Read the lines of a text file, without carriage returns, byte order mark and blank lines at the end.

    hint: what the file should be, for errors.
    keep_bytes: keep bytes that are not UTF-8 as surrogates: names of files are bytes.
    Raises: DarkpyError when the file cannot be read, is empty or not text.
    """
    lines = read_text(path, max_bytes=MAX_SIZE_BYTES, hint=hint, keep_bytes=keep_bytes).split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise DarkpyError(f"{os.fspath(path)}: is an empty file", hint=hint)
    return lines
