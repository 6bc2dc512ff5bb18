"""Atomic writes, output folders, and detection of what a file really contains."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from darkpy.errors import DarkpyError


class FileKind(NamedTuple):
    """Kind of a file that was mistaken for another one, and the hint for its user."""

    description: str
    hint: str


_DOWNLOAD_HINT = "download the real file"
_CONVERT_HINT = "convert it to .weights first"
_ARGUMENT_ORDER = "the order is CFG, WEIGHTS, IMAGES"
TEXT_FILE = FileKind("a text file", _ARGUMENT_ORDER)
_MAGIC_BYTES = (
    (b"version https://git-lfs", FileKind("a Git-LFS pointer (the file itself was not fetched)", "run: git lfs pull")),
    (b"PK\x03\x04", FileKind("a zip archive (a PyTorch .pt file, perhaps)", _CONVERT_HINT)),
    (b"\x80\x02", FileKind("a Python pickle (an old PyTorch file)", _CONVERT_HINT)),
    (b"\x89HDF", FileKind("an HDF5 file (Keras)", _CONVERT_HINT)),
    (b"\x1f\x8b", FileKind("a gzip archive", "unpack it")),
    (b"%PDF", FileKind("a PDF document", _DOWNLOAD_HINT)),
    (b"\xff\xd8\xff", FileKind("a JPEG image", _ARGUMENT_ORDER)),
    (b"\x89PNG", FileKind("a PNG image", _ARGUMENT_ORDER)),
    (b"\xff\xfe", FileKind("UTF-16 text", "save it as UTF-8")),
    (b"\xfe\xff", FileKind("UTF-16 text", "save it as UTF-8")),
)
_HTML_STARTS = (b"<!doctype", b"<html", b"<?xml", b"<head")
_CONTROL_BYTES = frozenset(range(32)) - frozenset(b"\t\n\f\r")


def identify(start: bytes) -> FileKind | None:
    """Identify a file by its first bytes: a known format or text; None for other binary data."""
    for magic, kind in _MAGIC_BYTES:
        if start.startswith(magic):
            return kind
    if start.removeprefix(b"\xef\xbb\xbf").lstrip()[:16].lower().startswith(_HTML_STARTS):
        return FileKind("a web page (an error or consent page, perhaps)", _DOWNLOAD_HINT)
    if start[8:10] == b'{"':
        return FileKind("a safetensors file", _CONVERT_HINT)
    if not start:
        return FileKind("an empty file", _DOWNLOAD_HINT)
    if len(start) < 8 or not _CONTROL_BYTES.isdisjoint(start):
        return None
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        return TEXT_FILE if error.reason == "unexpected end of data" else None  # the last character may be cut off
    return TEXT_FILE


def locate(path: Path, folder: Path) -> Path:
    """Find a file that a file in `folder` names: relative to the working directory, else to that folder.

    Returns: the path as named if the file exists in neither.
    """
    for candidate in (path, folder / path):
        try:
            if candidate.is_file():
                return candidate
        except OSError:  # a name too long, a folder without permission
            continue
    return path


def make_folder(folder: Path) -> None:
    """Create a folder and its parents unless it exists. Raises: DarkpyError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DarkpyError(f"{folder}: cannot be created: {error.strerror or error}") from error


def make_output_folder(folder: Path, subfolders: Sequence[str], *, overwrite: bool) -> None:
    """Create a folder for many results, with its subfolders.

    Raises: DarkpyError when it cannot be created, or when it is not empty and not to be overwritten.
    """
    make_folder(folder)
    try:
        is_empty = not any(folder.iterdir())
    except OSError as error:
        raise DarkpyError(f"{folder}: cannot be read: {error.strerror or error}") from error
    if not (is_empty or overwrite):
        raise DarkpyError(f"{folder}: is not empty", hint="name a new folder, or write over the files with --force")
    for name in subfolders:
        make_folder(folder / name)


def write_atomic(path: str | os.PathLike[str], chunks: Iterable[bytes], *, durable: bool = True) -> None:
    """Write a temporary file in the same folder, then rename it: readers see the old file or the new one.

    A device or a pipe, which cannot be replaced, is written to directly.

    durable: flush to disk, so that the file survives a power cut; not worth it for thousands of reproducible files.
    Raises: DarkpyError naming the file when it cannot be written.
    """
    target = Path(path).resolve()
    try:
        if target.exists() and not target.is_file():
            with target.open("wb") as stream:
                stream.writelines(chunks)
        else:
            _replace(target, chunks, durable)
    except OSError as error:
        raise DarkpyError(f"{path}: cannot be written: {error.strerror or error}") from error


def _replace(target: Path, chunks: Iterable[bytes], durable: bool) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{target.name[:64]}.", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.writelines(chunks)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        publish(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def publish(temporary: Path, target: Path) -> None:
    """Rename a finished temporary file or folder, with the permissions that the umask gives to new ones.

    Temporary files and folders are private to their user; results are not.
    """
    mask = os.umask(0)  # reading the umask requires setting it
    os.umask(mask)
    temporary.chmod((0o777 if temporary.is_dir() else 0o666) & ~mask)
    temporary.replace(target)
