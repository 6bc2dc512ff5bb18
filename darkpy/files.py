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
_CONVERT = "convert it to .weights first"
_ORDER = "the order is CFG, WEIGHTS, IMAGES"
TEXT = Foreign("a text file", _ORDER)
_MAGIC = (
    (b"version https://git-lfs", Foreign("a Git-LFS pointer (the file itself was not fetched)", "run: git lfs pull")),
    (b"PK\x03\x04", Foreign("a zip archive (a PyTorch .pt file, perhaps)", _CONVERT)),
    (b"\x80\x02", Foreign("a Python pickle (an old PyTorch file)", _CONVERT)),
    (b"\x89HDF", Foreign("an HDF5 file (Keras)", _CONVERT)),
    (b"\x1f\x8b", Foreign("a gzip archive", "unpack it")),
    (b"%PDF", Foreign("a PDF document", _FETCH)),
    (b"\xff\xd8\xff", Foreign("a JPEG image", _ORDER)),
    (b"\x89PNG", Foreign("a PNG image", _ORDER)),
    (b"\xff\xfe", Foreign("UTF-16 text", "save it as UTF-8")),
    (b"\xfe\xff", Foreign("UTF-16 text", "save it as UTF-8")),
)
_PAGE = (b"<!doctype", b"<html", b"<?xml", b"<head")
_CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\f\r")


def describe(start: bytes) -> Foreign | None:
    """What a file is, from its first bytes, when it is plainly something known or text; None for binary data."""
    for magic, foreign in _MAGIC:
        if start.startswith(magic):
            return foreign
    if start.removeprefix(b"\xef\xbb\xbf").lstrip()[:16].lower().startswith(_PAGE):
        return Foreign("a web page (an error or consent page, perhaps)", _FETCH)
    if start[8:10] == b'{"':
        return Foreign("a safetensors file", _CONVERT)
    if not start:
        return Foreign("an empty file", _FETCH)
    return TEXT if _is_text(start) else None


def _is_text(start: bytes) -> bool:
    """Whether bytes read as UTF-8 without control characters; the last character may be cut off."""
    if len(start) < 8 or not _CONTROLS.isdisjoint(start):
        return False
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return True


def locate(path: Path, folder: Path) -> Path:
    """Where a file lies that a file in `folder` names: as named, else from that folder; as named if it is nowhere."""
    for place in (path, folder / path):
        try:
            if place.is_file():
                return place
        except OSError:  # a name too long, a folder that is closed to us
            continue
    return path


def make_folder(folder: Path) -> None:
    """Raises: DarkpyError when it is not there and cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DarkpyError(f"{folder}: cannot be made: {error.strerror or error}") from error


def write_whole(path: str | os.PathLike[str], chunks: Iterable[bytes], *, is_durable: bool = True) -> None:
    """Write beside the target, flush to disk, then rename over it: a reader sees the old file or the new one.

    A device or a pipe, which cannot be replaced, is written to as it is.

    is_durable: wait for the disk, so that it holds after a power cut, too; not for thousands of files that can be made
        again.
    Raises: DarkpyError naming the file when the place cannot be written.
    """
    target = Path(path).resolve()
    try:
        if target.exists() and not target.is_file():
            with target.open("wb") as stream:
                stream.writelines(chunks)
        else:
            _write_beside(target, chunks, is_durable)
    except OSError as error:
        raise DarkpyError(f"{path}: cannot be written: {error.strerror or error}") from error


def _write_beside(target: Path, chunks: Iterable[bytes], is_durable: bool) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{target.name[:64]}.", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.writelines(chunks)
            if is_durable:
                stream.flush()
                os.fsync(stream.fileno())
        # mkstemp makes private files; a result is for everybody the umask lets in
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
