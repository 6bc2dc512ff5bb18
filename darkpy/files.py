"""Atomic writes, output folders, and detection of what a file really contains."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from darkpy.errors import DarkpyError, DarkpyWarning

TEMPORARY_SUFFIX = ".darkpy_tmp"
MAX_NAME_BYTES = 255
MAX_TEMPORARY_START_BYTES = 64
"""Bytes of a file's name with which the name of its temporary file begins."""
_CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class FileKind(NamedTuple):
    """Kind of a file that was mistaken for another one, and the hint for its user."""

    description: str
    hint: str


_DOWNLOAD_HINT = "download the real file"
_CONVERT_HINT = "darkpy convert FILE NEW.weights --cfg CFG makes a weight file of it"
_EXPORT_HINT = "give the .weights file that it was made from"
_ARGUMENT_ORDER = "the order is CFG, WEIGHTS, IMAGES"
TEXT_FILE = FileKind("a text file", _ARGUMENT_ORDER)
ZIP_ARCHIVE = FileKind("a zip archive (a PyTorch .pt file, perhaps)", _CONVERT_HINT)
"""Archives of many programs, which only their names tell apart."""
_MAGIC_BYTES = (
    (b"version https://git-lfs", FileKind("a Git-LFS pointer (the file itself was not fetched)", "run: git lfs pull")),
    (b"PK\x03\x04", ZIP_ARCHIVE),
    (b"\x80\x02", FileKind("a Python pickle (an old PyTorch file)", _CONVERT_HINT)),
    (b"\x80\x03", FileKind("a Python pickle", _EXPORT_HINT)),
    (b"\x80\x04", FileKind("a Python pickle (of PaddlePaddle, perhaps)", _EXPORT_HINT)),
    (b"\x80\x05", FileKind("a Python pickle", _EXPORT_HINT)),
    (b"\x89HDF", FileKind("an HDF5 file (Keras)", _EXPORT_HINT)),
    (b"ptrt", FileKind("a TensorRT engine", _EXPORT_HINT)),
    (b"ftrt", FileKind("a TensorRT engine", _EXPORT_HINT)),
    (b"7767517", FileKind("an ncnn .param file", _EXPORT_HINT)),
    (b"\xdd\x85v\0", FileKind("an ncnn .param.bin file", _EXPORT_HINT)),
    (b"\x47\x6b\x30\x01", FileKind("an ncnn .bin file", _EXPORT_HINT)),  # its first array in 16-bit floats
    (b"RKNN", FileKind("an RKNN model", _EXPORT_HINT)),
    (b"\x1f\x8b", FileKind("a gzip archive", "unpack it")),
    (b"%PDF", FileKind("a PDF document", _DOWNLOAD_HINT)),
    (b"\xff\xd8\xff", FileKind("a JPEG image", _ARGUMENT_ORDER)),
    (b"\x89PNG", FileKind("a PNG image", _ARGUMENT_ORDER)),
    (b"\xff\xfe", FileKind("UTF-16 text", "save it as UTF-8")),
    (b"\xfe\xff", FileKind("UTF-16 text", "save it as UTF-8")),
)
_MAGIC_PATTERNS = (
    (rb"(?s:....)TFL3", FileKind("a TFLite file", _EXPORT_HINT)),
    (rb"(?s:....ftyp|RIFF....(AVI |WEBP))|\x1aE\xdf\xa3", FileKind("a video or an image", _ARGUMENT_ORDER)),
    # a length, then notes in JSON
    (rb'[\x02-\xff][\0-\x7f]\0\0{"', FileKind("a TensorRT engine, as ultralytics writes it", _EXPORT_HINT)),
    # a node: name, op
    (
        rb"\n[\x01-\xff][\0-\x7f]?\n[\x01-\x7f][ -~]+\x12[\x01-\x40][A-Z_]\w",
        FileKind("a TensorFlow graph (.pb)", _EXPORT_HINT),
    ),
    # the first fields of ONNX's ModelProto and of Core ML's Model: a version, then a text, a number or the graph
    (rb"\x08[\x01-\x1f][\x12\x1a\x22\x28\x32\x3a\x42]", FileKind("an ONNX or Core ML file", _EXPORT_HINT)),
    (rb"\s*(<\?xml[^>]*>)?\s*<net\s", FileKind("an OpenVINO .xml file", _EXPORT_HINT)),
)
_HTML_STARTS = (b"<!doctype", b"<html", b"<?xml", b"<head")
_CONTROL_BYTES = frozenset(range(32)) - frozenset(b"\t\n\f\r")

_KINDS_BY_SUFFIX = {
    **dict.fromkeys((".pb", ".pbtxt"), "a TensorFlow graph"),
    **dict.fromkeys((".h5", ".keras", ".hdf5"), "a Keras file"),
    **dict.fromkeys((".engine", ".trt", ".plan"), "a TensorRT engine"),
    **dict.fromkeys((".mlmodel", ".mlpackage"), "a Core ML model"),
    ".bin": "a .bin file of ncnn or OpenVINO",
    ".xml": "an OpenVINO .xml file",
    ".onnx": "an ONNX file",
    ".torchscript": "a TorchScript program",
    ".pt2": "a program of torch.export",
    ".tflite": "a TFLite file",
    ".param": "an ncnn .param file",
    ".mnn": "an MNN model",
    ".rknn": "an RKNN model",
    ".caffemodel": "a Caffe model",
    ".pdparams": "a PaddlePaddle file",
}


def identify_by_suffix(path: str | os.PathLike[str]) -> FileKind | None:
    """Identify a file of another program by its name, for zip archives and binary data without a mark of their own."""
    description = _KINDS_BY_SUFFIX.get(Path(path).suffix.lower())
    return FileKind(description, _EXPORT_HINT) if description else None


def identify(start: bytes) -> FileKind | None:
    """Identify a file by its first bytes: a known format or text; None for other binary data."""
    for magic, kind in _MAGIC_BYTES:
        if start.startswith(magic):
            return kind
    for pattern, kind in _MAGIC_PATTERNS:
        if re.match(pattern, start):
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


_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)  # opening a pipe would otherwise wait for its writer
)


MAX_PROTECTED_INPUTS = 1 << 18
"""Inputs remembered by device and inode, some 30 MB; images read after these are not protected."""
_protected_inputs: set[tuple[int, int]] | None = None


@contextmanager
def protect_inputs() -> Iterator[None]:
    """Make `write_atomic` refuse, until the end of the block, to replace files that were opened for reading in it.

    A file is identified by device and inode: links and other spellings of its path are the same file.
    """
    global _protected_inputs
    previous, _protected_inputs = _protected_inputs, set()
    try:
        yield
    finally:
        _protected_inputs = previous


def note_input(file: str | os.PathLike[str] | int) -> None:
    """Remember a path or an open descriptor as an input, within `protect_inputs`."""
    if _protected_inputs is not None and len(_protected_inputs) < MAX_PROTECTED_INPUTS:
        with suppress(OSError, ValueError):
            status = os.fstat(file) if isinstance(file, int) else Path(file).stat()
            if stat.S_ISREG(status.st_mode):
                _protected_inputs.add((status.st_dev, status.st_ino))


def is_input(path: Path) -> bool:
    """True if a file, or what its link leads to, was read in this block of `protect_inputs`."""
    with suppress(OSError, ValueError):
        status = path.stat()
        return _protected_inputs is not None and (status.st_dev, status.st_ino) in _protected_inputs
    return False


PROGRAM_MARK = "darkpy"
"""Text in the first bytes of drawings and reports, which are written again over others of their kind only."""
MARKED_BYTES = 1 << 16


def is_own_output(path: Path) -> bool:
    """True if a file names darkpy as its program."""
    with suppress(OSError, ValueError), os.fdopen(os.open(path, _OPEN_FLAGS), "rb") as stream:
        return PROGRAM_MARK.encode() in stream.read(MARKED_BYTES)
    return False


def open_descriptor(path: str | os.PathLike[str]) -> int:
    """Open a regular file for reading, without a Python file object, which costs more than reading a short file.

    Raises: OSError, also for a folder, pipe or device, which may block or never end; ValueError for a name that
        cannot exist.
    """
    descriptor = os.open(path, _OPEN_FLAGS)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        note_input(descriptor)
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a regular file")
    kind = "a pipe" if stat.S_ISFIFO(mode) else "a device"
    raise OSError(errno.EINVAL, f"is {kind}, not a regular file")


def is_true(predicate: Callable[[], bool]) -> bool:
    """Call a predicate of a path; False where it raises because the name is too long or contains a zero byte."""
    try:
        return predicate()
    except (OSError, ValueError):
        return False


def is_file(path: str | os.PathLike[str]) -> bool:
    """True for a regular file or a link to one; False for a name that no file can have, as `is_true`."""
    return is_true(Path(path).is_file)


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading. Raises: as `open_descriptor`."""
    return os.fdopen(open_descriptor(path), "rb")


_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_UTF_32_MARK = b"\xff\xfe\0\0"  # it begins as the mark of UTF-16
UTF_16_PROBLEM = "is UTF-16 text, which no darknet reads"
ENCODING_HINT = "save it as UTF-8 (in PowerShell: Get-Content OLD | Set-Content -Encoding utf8 NEW)"
_BYTE_ORDER_MARK = "\ufeff"
_LINE_MARKS = re.compile(f"^{_BYTE_ORDER_MARK}+", re.MULTILINE)  # byte order marks, also of files that were joined
_BINARY_BYTES = bytes(_CONTROL_BYTES - frozenset(b"\x1a"))  # DOS programs end text with \x1a


def is_utf_16(data: bytes) -> bool:
    """True if text starts with the byte order mark of UTF-16, as PowerShell's `>` writes it."""
    return data[:2] in _UTF_16_MARKS


def decode_text(data: bytes, file: str, *, hint: str | None, keep_bytes: bool = False) -> str:
    """Decode a text file: UTF-8 with or without byte order mark, or UTF-16 with it; line ends become newlines.

    file: its name, for messages. hint: what the file should be.
    keep_bytes: keep bytes that are not UTF-8 as surrogates: names of files are bytes.
    Raises: DarkpyError for other encodings and for files that are not text.
    """
    if data.startswith(_UTF_32_MARK):
        raise DarkpyError(f"{file}: is UTF-32 text", hint=ENCODING_HINT)
    if is_utf_16(data):
        try:
            text = data.decode("utf-16")
        except UnicodeDecodeError as error:
            raise DarkpyError(f"{file}: is damaged UTF-16 text: {error.reason}", hint=ENCODING_HINT) from error
        if "\0" in text:
            raise DarkpyError(f"{file}: is damaged UTF-16 text: it holds NUL characters", hint=hint)
    else:
        kind = identify(data[:512])
        if kind is not None and kind is not TEXT_FILE and data:
            own_hint = hint if kind.hint in (_ARGUMENT_ORDER, _CONVERT_HINT, _EXPORT_HINT) else kind.hint
            raise DarkpyError(f"{file}: is {kind.description}", hint=own_hint)
        if b"\0" in data:
            start = data[: 1 << 12]
            zeros = sorted((start[0::2].count(0), start[1::2].count(0)))
            if zeros[1] > len(start) // 8 and zeros[0] * 8 < zeros[1]:
                raise DarkpyError(f"{file}: is UTF-16 text without a byte order mark", hint=ENCODING_HINT)
            line = data.count(b"\n", 0, data.index(0)) + 1
            raise DarkpyError(f"{file}: is a binary file, or damaged: a NUL byte in line {line}", hint=hint)
        if len(data[:512].translate(None, _BINARY_BYTES)) < min(len(data), 512):
            raise DarkpyError(f"{file}: is a binary file", hint=hint)
        try:
            text = data.decode("utf-8-sig", errors="surrogateescape" if keep_bytes else "strict")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            word = data[max(0, error.start - 10) : error.start + 10].decode("cp1252", errors="replace")
            message = f"{file}:{line}: is not UTF-8 (in Windows-1252 it would be {' '.join(word.split())!r})"
            raise DarkpyError(message, hint=ENCODING_HINT) from error
    text = text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
    return _LINE_MARKS.sub("", text) if _BYTE_ORDER_MARK in text else text


def read_text(path: str | os.PathLike[str], *, max_bytes: int, hint: str | None, keep_bytes: bool = False) -> str:
    """Read a text file from any editor; UTF-16 is warned about.

    hint, keep_bytes: as in `decode_text`.
    Raises: DarkpyError when it cannot be read, is not a regular file, larger than `max_bytes`, or not text.
    """
    file = os.fspath(path)
    file = file if file.isprintable() else ascii(file)
    try:
        with open_regular(path) as stream:
            is_too_large = os.fstat(stream.fileno()).st_size > max_bytes
            data = stream.read(512 if is_too_large else max_bytes + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        message = reason if reason.startswith("is a") else f"cannot be read: {reason}"
        raise DarkpyError(f"{file}: {message}", hint=hint) from error
    if is_too_large or len(data) > max_bytes:
        size = f"{max_bytes >> 20} MB" if max_bytes >> 20 else f"{max_bytes} bytes"
        raise DarkpyError(f"{file}: is larger than {size}, too large for a file of its kind", hint=hint)
    text = decode_text(data, file, hint=hint, keep_bytes=keep_bytes)
    if is_utf_16(data):
        warnings.warn(f"{file}: {UTF_16_PROBLEM}: save it as UTF-8", DarkpyWarning, stacklevel=3)
    return text


def unquote(text: str) -> str:
    """Remove quotes around a path, as Windows' "Copy as path" puts there."""
    return text[1:-1] if len(text) > 2 and text[0] in "\"'" and text[-1] == text[0] else text


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


def find_by_tail(entry: str, folder: Path) -> tuple[str, Path] | None:
    """Find a file that another computer's path names: by the end of the path, here or in a folder.

    entry: a path that does not exist, with slashes or backslashes.
    Returns: the start of the path, with slashes, that is not on this computer, and the path that stands for it.
    """
    slashed = entry.replace("\\", "/")
    parts = slashed.split("/")
    for count in range(1, min(len(parts), MAX_PATH_PARTS)):
        start, tail = "/".join(parts[:count]), "/".join(parts[count:])
        for base in (Path(), folder):
            with suppress(OSError, ValueError):
                if tail and (base / tail).is_file() and not Path(f"{start}/").is_dir():
                    return f"{start}/", base
    return None


MAX_PATH_PARTS = 100
WINDOWS_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def with_slashes(path: Path) -> Path:
    """Return a path written with the backslashes of Windows as this system writes it, if that exists or can be made.

    A `~` that no shell has replaced is the home folder. Raises: DarkpyError for a path on a drive of Windows.
    """
    text = os.fspath(path)
    if path.parts[:1] == ("~",) and not path.exists():
        return Path(os.path.expanduser(text))  # noqa: PTH111  pathlib's raises where there is no home
    if os.sep == "\\" or ("\\" not in text and not WINDOWS_DRIVE.match(text)) or path.exists():
        return path
    slashed = Path(text.replace("\\", "/"))
    if WINDOWS_DRIVE.match(text):
        mounted = f"/mnt/{text[0].lower()}{slashed.as_posix()[2:]}"
        raise DarkpyError(f"{text}: is a path on a drive of Windows", hint=f"on WSL, {mounted}")
    return slashed if slashed.exists() or slashed.parent.is_dir() else path


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


def write_atomic(
    path: str | os.PathLike[str], chunks: Iterable[bytes], *, durable: bool = True, replace_input: bool = False
) -> None:
    """Write a temporary file in the same folder, then rename it: readers see the old file or the new one.

    A device or a pipe, which cannot be replaced, is written to directly. A file that is there keeps its permissions, a
    new one gets those that the umask leaves.

    durable: flush to disk, so that the file survives a power cut; not worth it for thousands of reproducible files.
    replace_input: replace a file even if it was read within `protect_inputs`.
    Raises: DarkpyError naming the file when it cannot be written, or when it is an input.
    """
    target = Path(path).resolve()
    if not replace_input and is_input(target):
        raise DarkpyError(f"{path}: is an input of this command", hint="write to another file")
    try:
        if target.exists() and not target.is_file():
            with target.open("wb") as stream:
                stream.writelines(chunks)
        else:
            _replace(target, chunks, durable)
    except OSError as error:
        raise DarkpyError(f"{path}: cannot be written: {error.strerror or error}") from error


def require_output_folder(folder: Path, names: Collection[str], *, mark: str, overwrite: bool) -> None:
    """Check that a folder may be written whole: new, empty, or with `overwrite` one that holds such files only.

    names: of its files. mark: the one that names darkpy as its program. Raises: DarkpyError.
    """
    try:
        present = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    except OSError as error:
        raise DarkpyError(
            f"{folder}: cannot be written: {error.strerror or error}", hint="name a new folder"
        ) from error
    for name in present:
        if is_input(folder / name):
            raise DarkpyError(f"{folder / name}: is an input of this command", hint="name a new folder")
    others = [name for name in present if name not in names]
    if others or (present and not is_own_output(folder / mark)):
        name = (others or present)[0]
        raise DarkpyError(f"{folder}: holds {name}, which darkpy did not write", hint="name a new folder")
    if present and not overwrite:
        raise DarkpyError(f"{folder}: already exists", hint="--force overwrites it")


def write_folder(folder: Path, files: Mapping[str, Iterable[bytes]]) -> None:
    """Write files into a temporary folder, then rename it: readers see the whole folder or none of it.

    A folder that is there is replaced; check it with `require_output_folder` before. Raises: DarkpyError.
    """
    target = folder.resolve()
    temporary, former = temporary_path(target), temporary_path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        for name, chunks in files.items():
            with (temporary / name).open("wb") as stream:
                stream.writelines(chunks)
        if target.exists():
            target.rename(former)
        temporary.rename(target)
    except OSError as error:
        raise DarkpyError(f"{folder}: cannot be written: {error.strerror or error}") from error
    finally:
        if former.exists() and not target.exists():
            former.rename(target)
        for leftover in (temporary, former):
            shutil.rmtree(leftover, ignore_errors=True)


def _replace(target: Path, chunks: Iterable[bytes], durable: bool) -> None:
    mode = stat.S_IMODE(target.stat().st_mode) & 0o777 if target.exists() else None
    temporary = temporary_path(target)
    # created with the mode of a new file, from which the kernel takes the umask: no process-wide state is touched
    handle = os.open(temporary, _CREATE_FLAGS, 0o666 if mode is None else mode)
    try:
        with os.fdopen(handle, "wb") as stream:
            if mode is not None and hasattr(os, "fchmod"):
                os.fchmod(handle, mode)
            stream.writelines(chunks)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
            status = os.fstat(handle)
        temporary.replace(target)
        if _protected_inputs is not None:  # the file system may reuse the inode of an input that is gone
            _protected_inputs.discard((status.st_dev, status.st_ino))
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def temporary_path(target: Path) -> Path:
    """Path beside `target` for a file or folder that is renamed to it when it is finished."""
    start = os.fsencode(target.name)[:MAX_TEMPORARY_START_BYTES].decode(errors="ignore")  # a name has at most 255 bytes
    return target.with_name(f".{start}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")


def fit_name(stem: str, ending: str) -> str:
    """Return the name of a file, with its stem cut where it would have more bytes than file systems take."""
    start, room = os.fsencode(stem), MAX_NAME_BYTES - len(os.fsencode(ending))
    return (stem if len(start) <= room else start[:room].decode(errors="ignore")) + ending


def remove_temporaries(folder: Path, names: str) -> None:
    """Remove what a killed process left in a folder of files whose names match the regular expression `names`.

    Only names that `temporary_path` gives are removed; what cannot be removed stays.
    """
    pattern = re.compile(rf"\.({names})\.[0-9a-f]{{8}}{re.escape(TEMPORARY_SUFFIX)}")
    try:
        leftovers = [path for path in folder.iterdir() if pattern.fullmatch(path.name)]
    except OSError:
        return
    for path in leftovers:
        with suppress(OSError):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
