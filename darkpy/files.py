"""Files that appear whole or not at all, and a look at what a file really is."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from darkpy.errors import DarkpyError


class Foreign(NamedTuple):
    """A file that is something else than its name says."""

    what: str
    hint: str


_FETCH = "download the real file"
_MAGIC = (
    (b"version https://git-lfs", Foreign("a Git-LFS pointer (the file itself was not fetched)", "run: git lfs pull")),
    (b"PK\x03\x04", Foreign("a zip archive (a PyTorch .pt file, perhaps)", "convert it to .weights first")),
    (b"\x80\x02", Foreign("a Python pickle (an old PyTorch file)", "convert it to .weights first")),
    (b"\x89HDF", Foreign("an HDF5 file (Keras)", "convert it to .weights first")),
    (b"\x1f\x8b", Foreign("a gzip archive", "unpack it")),
    (b"%PDF", Foreign("a PDF document", _FETCH)),
    (b"\xff\xd8\xff", Foreign("a JPEG picture", "the order is CFG, WEIGHTS, IMAGES")),
    (b"\x89PNG", Foreign("a PNG picture", "the order is CFG, WEIGHTS, IMAGES")),
)
_TEXT = frozenset(range(32, 127)) | {9, 10, 13}


def describe(start: bytes) -> Foreign | None:
    """What a file is, from its first bytes, when it is plainly something known or text; None for binary data."""
    for magic, foreign in _MAGIC:
        if start.startswith(magic):
            return foreign
    head = start.lstrip()[:64].lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return Foreign("a web page (an error or consent page, perhaps)", _FETCH)
    if not start:
        return Foreign("an empty file", _FETCH)
    if len(start) >= 8 and all(byte in _TEXT for byte in start):
        return Foreign("a text file", "the order is CFG, then WEIGHTS")
    return None


def write_whole(path: str | os.PathLike[str], chunks: Iterable[bytes]) -> None:
    """Write beside the target, flush to disk, then rename over it: a reader sees the old file or the new one.

    Raises: DarkpyError naming the file when the place cannot be written.
    """
    path = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise DarkpyError(f"{path}: cannot be written: {error.strerror or error}") from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            for chunk in chunks:
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes private files; a result is for everybody the umask lets in
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise DarkpyError(f"{path}: cannot be written: {error.strerror or error}") from error
        raise
