"""Reader of small text files of a data set, from any editor."""

from __future__ import annotations

import os
from pathlib import Path

from darkpy.errors import DarkpyError
from darkpy.files import TEXT_FILE, identify

MAX_SIZE_BYTES = 1 << 22  # the largest in use, the names of ImageNet's 22,000 classes, has 0.5 MB


def read_lines(path: str | os.PathLike[str], *, hint: str) -> list[str]:
    """Read the lines of a text file, without carriage returns, byte order mark and blank lines at the end.

    hint: hint of the error for a file of another kind.
    Raises: DarkpyError when the file cannot be read, is empty or not text.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_SIZE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DarkpyError(f"{path}: cannot be read: {reason}", hint=hint) from error
    kind = identify(data[:512])
    if kind is not None and kind is not TEXT_FILE:
        raise DarkpyError(f"{path}: is {kind.description}", hint=hint if kind.hint == TEXT_FILE.hint else kind.hint)
    if b"\0" in data or len(data) > MAX_SIZE_BYTES:
        raise DarkpyError(f"{path}: is a binary file or larger than any list of names", hint=hint)
    lines = [line.rstrip("\r") for line in data.decode("utf-8-sig", errors="replace").split("\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise DarkpyError(f"{path}: is an empty file", hint=hint)
    return lines
