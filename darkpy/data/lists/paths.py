"""Paths of images, and of the label file of an image."""

from __future__ import annotations

import glob
import os
import re
import warnings
from collections.abc import Iterable
from pathlib import Path

from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, DarkpyWarning
from darkpy.files import ENCODING_HINT, find_by_tail, is_file, is_true, read_text, unquote

MAX_LIST_BYTES = 1 << 30  # 14 million images with paths of 70 letters
MAX_SEARCHED_FOLDERS = 30
MAX_TRIED_LINES = 20
"""First lines of a list, which show whether it was written elsewhere."""
MAX_PATH_LENGTH = 4096  # longest path that Linux opens
_LIST_HINT = "a list has one image path on each line"
IMAGE_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "bmp", "dib", "gif", "tif", "tiff", "webp", "avif", "heic", "heif"),
        *("jp2", "ppm", "pgm", "pbm", "pnm", "tga", "psd", "pcx"),
    )
)
"""Endings of image files in a folder, in either case, also of kinds that Pillow may not decode."""

_SEVERAL_PATHS = re.compile(r"\.(?:jpe?g|png|bmp|tiff?|webp)[\"']?(?:\s+|\s*[,;|]\s*)\S", re.IGNORECASE)
_SURROGATE_PATTERN = re.compile("[\udc80-\udcff]")  # a byte that is not UTF-8

_PJREDDIE_REPLACEMENTS = (
    *(("images", "labels"), ("JPEGImages", "labels"), ("raw", "labels")),
    *((".jpg", ".txt"), (".png", ".txt"), (".JPG", ".txt"), (".JPEG", ".txt")),
)
_MASK_REPLACEMENTS = (("images", "mask"), ("JPEGImages", "mask"), (".jpg", ".txt"), (".JPG", ".txt"), (".JPEG", ".txt"))
_ALEXEYAB_FOLDERS = re.compile(r"([/\\])(?:images(?=\1(?:train|val)20(?:14|17)\1)|JPEGImages(?=\1))")


def label_path(image_path: str | os.PathLike[str], dialect: Dialect) -> Path:
    """Return the label file of an image, as `label_path_text` does."""
    return Path(label_path_text(os.fspath(image_path), dialect))


def label_path_text(image: str, dialect: Dialect) -> str:
    """Return the label file of an image.

    pjreddie's rule replaces the first `images`, `JPEGImages`, `raw` and extension anywhere in the path; AlexeyAB's
    only the folders of COCO and VOC, and the extension at the end.

    Raises:  DarkpyError when the name does not end like an image's.
    Source:  pjreddie/darknet src/data.c fill_truth_detection; AlexeyAB/darknet src/utils.c replace_image_to_label
    Differs: images of kinds that darknet does not read have labels too.
    """
    if dialect is Dialect.PJREDDIE:
        text = _replace_each(image, _PJREDDIE_REPLACEMENTS)
    else:
        text = (_ALEXEYAB_FOLDERS.sub(r"\1labels", image) if "mages" in image else image).strip()
    return _with_text_suffix(text, image)


def mask_path(image: str) -> Path:
    """Return the mask file of an image: `images` and `JPEGImages` in the path become `mask`, the suffix `.txt`.

    Raises:  DarkpyError when the name does not end like an image's.
    Source:  pjreddie/darknet src/data.c get_segmentation_image
    Differs: images of other kinds than JPEG have masks too.
    """
    return Path(_with_text_suffix(_replace_each(image, _MASK_REPLACEMENTS), image))


def find_masks(image: str) -> Path | None:
    """Return the mask file of an image; None if there is none."""
    try:
        file = mask_path(image)
    except DarkpyError:
        return None
    return file if is_file(file) else None


def _replace_each(text: str, replacements: Iterable[tuple[str, str]]) -> str:
    for word, replacement in replacements:
        text = text.replace(word, replacement, 1)
    return text


def _with_text_suffix(text: str, image: str) -> str:
    start, suffix = os.path.splitext(text)  # noqa: PTH122  (lists are long, and Path is slow)
    label = f"{start}.txt" if suffix.lower() in IMAGE_SUFFIXES else text
    if not label.endswith(".txt") or label == image:
        raise DarkpyError(f"{image}: no label file belongs to it", hint="an image's name ends in .jpg, .png, ...")
    return label


def find_label(image: str | os.PathLike[str], dialect: Dialect) -> Path:
    """Return the label file of an image where the dialect looks, or else where the other darknet does.

    Returns: the dialect's path if there is no file in either place.
    Raises:  DarkpyError as `label_path_text`.
    Differs: each darknet knows its own place only; without a file there, it finds no objects.
    """
    first = label_path(image, dialect)
    if not is_true(first.exists):
        for other in Dialect:
            file = label_path(image, other)
            if is_file(file):
                return file
    return first


def label_nearby(image: str) -> Path | None:
    """Return a file that looks like the labels of an image where no darknet looks; None if there is none."""
    path = Path(image)
    try:
        siblings = sorted(folder for folder in path.parent.parent.iterdir() if folder.is_dir())[:MAX_SEARCHED_FOLDERS]
    except OSError:
        siblings = []
    for folder in (path.parent, path.parent / "labels", *siblings):
        for name in (f"{path.stem}.txt", f"{path.stem}.TXT", f"{path.name}.txt", f"{path.stem}.xml"):
            file = folder / name
            if is_file(file) and (folder == path.parent or not _has_image(file)):
                return file
    return None


def _has_image(label: Path) -> bool:
    """True if an image of the same name is beside a label file, which then belongs to that one."""
    return any(is_file(label.with_suffix(suffix)) for suffix in IMAGE_SUFFIXES)


def listed_folder(folder: Path, example: str) -> str:
    """Return the path of a folder for use in lists: absolute, or relative where only that keeps the labels findable.

    example: an image in the folder.
    Raises:  DarkpyError when one of the darknets would not look for its labels beside it.
    """
    for path in (folder.absolute().as_posix(), folder.as_posix()):
        image = f"{path}/{example}"
        label = Path(image).with_suffix(".txt")
        if image.isprintable() and all(label_path(image, dialect) == label for dialect in Dialect):
            return path
    raise DarkpyError(
        f"{folder}: one of the darknets would not find labels beside images here",
        hint="name a folder whose path contains no `images`, `raw`, `.jpg` or `.png`, and no blanks at its ends",
    )


def require_listable(path: str | os.PathLike[str]) -> None:
    """Raises: DarkpyError for a path that a line of a list cannot represent."""
    text = os.fspath(path)
    if text != text.strip() or any(letter in text for letter in "\r\n\0"):
        hint = "rename the file: lists have one path a line, without blanks around it"
        raise DarkpyError(f"{printable(text)}: cannot stand in a list", hint=hint)


def expand_paths(arguments: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Expand the arguments of a command to image files, in order.

    A folder stands for the images directly in it, sorted by name, without hidden files; a `.txt` or `.list` file for
    the images it lists; a pattern with `*`, `?` or `[` that is not a file's name for the files that it matches, sorted;
    anything else for itself, even if it does not exist: `load_image` reports that.

    Raises:  DarkpyError when a folder or list cannot be read or has no image, a pattern matches no file, or there is no
        argument.
    """
    paths: list[Path] = []
    for argument in map(Path, arguments):
        if is_true(argument.is_dir):
            try:
                names = sorted(argument.iterdir())
            except OSError as error:
                raise DarkpyError(f"{printable(argument)}: cannot be read: {error.strerror or error}") from error
            images = [name for name in names if name.suffix.lower() in IMAGE_SUFFIXES and name.name[0] != "."]
            if not images:
                known = " ".join(sorted(IMAGE_SUFFIXES))
                raise DarkpyError(
                    f"{printable(argument)}: no image in this folder", hint=f"images end in one of {known}"
                )
            paths += images
        elif argument.suffix.lower() in (".txt", ".list"):
            paths += read_image_list(argument)
        elif glob.has_magic(str(argument)) and not is_true(argument.exists):
            files = [Path(name) for name in sorted(glob.glob(str(argument))) if is_file(Path(name))]  # noqa: PTH207
            if not files:
                raise DarkpyError(f"{printable(argument)}: matches no file", hint="name image files, or their folder")
            paths += files
        else:
            paths.append(argument)
    if not paths:
        raise DarkpyError("no images given", hint="name image files, folders, or list files (.txt, .list)")
    return paths


def read_image_list(path: str | os.PathLike[str]) -> list[Path]:
    """Read the images of a list file, one path on a line; blank lines, and blanks around a path, are ignored.

    Raises:  DarkpyError when the list cannot be read or names no image.
    Differs: a path that is not found from the working directory may also be relative to the list file.
    """
    path = Path(path)
    return [find_image(Path(line), path.parent) for line in read_list_lines(path)]


def read_list_lines(path: Path) -> list[str]:
    """Read the lines of a list file, without looking for the images.

    Raises:  DarkpyError when the list cannot be read or names no image.
    """
    if path.is_dir():
        name = printable(path)
        hint = f"darkpy dataset split {name} lists/ writes lists of its images"
        raise DarkpyError(f"{name}: is a folder, not a list", hint=hint)
    text = read_text(path, max_bytes=MAX_LIST_BYTES, hint=_LIST_HINT, keep_bytes=True)
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    if not lines:
        raise DarkpyError(f"{printable(path)}: names no image", hint=_LIST_HINT)
    if unquote(lines[0]) != lines[0] and not _exists(lines[0], path.parent):
        lines = list(map(unquote, lines))
        message = f"{printable(path)}: its paths are in quotes, which no darknet removes; they are read without"
        warnings.warn(message, DarkpyWarning, stacklevel=3)
    for line in dict.fromkeys((lines[0], max(lines, key=len))):
        require_one_path(line, f"{printable(path)}: path {lines.index(line) + 1} of the list", path.parent)
    lines = _relocate(lines, path)
    undecoded = [line for line in lines if _SURROGATE_PATTERN.search(line)]
    if not any(_exists(line, path.parent) for line in undecoded):
        for line in undecoded:
            require_decoded(line, str(path))
    first = lines[:MAX_TRIED_LINES]
    if not any(_names_image(line) or _exists(line, path.parent) for line in first):
        message = f"{printable(path)}: is not a list of images: path 1 is {printable(first[0][:60])}"
        raise DarkpyError(message, hint=f"{_LIST_HINT}; darkpy dataset from-voc reads VOC's lists of names")
    return lines


def require_one_path(entry: str, place: str, folder: Path) -> None:
    """Raises: DarkpyError for an entry of a list that is several paths, or a path and more, and not a file's name.

    place: of the entry, for the message. folder: of the list.
    """
    is_suspect = len(entry) > MAX_PATH_LENGTH or _SEVERAL_PATHS.search(entry)
    if is_suspect and not _exists(entry, folder):
        raise DarkpyError(f"{place} is more than a path: {printable(entry[:60])}", hint=_LIST_HINT)


def require_decoded(entry: str, file: str) -> None:
    """Raises: DarkpyError for a path with bytes that are not UTF-8."""
    if _SURROGATE_PATTERN.search(entry):
        shown = os.fsencode(entry).decode("cp1252", errors="replace")
        message = f"{printable(file)}: is not UTF-8, and no file has the name that it gives as {printable(shown)}"
        raise DarkpyError(message, hint=ENCODING_HINT)


def _names_image(entry: str) -> bool:
    return Path(entry).suffix.lower() in IMAGE_SUFFIXES


def _relocate(lines: list[str], file: Path) -> list[str]:
    """Replace the paths of a list that was written on another computer by those of the same files here.

    This is done if the first images of the list do not exist, and one of them is found by the end of its path. In a
    list that was joined of two, the paths with backslashes are replaced alone.
    """
    first = lines[:MAX_TRIED_LINES]
    if any(_exists(line, file.parent) for line in first):
        renamed = {line: line.replace("\\", "/") for line in lines if os.sep == "/" and "\\" in line}
        renamed = {
            line: slashed
            for line, slashed in renamed.items()
            if not _exists(line, file.parent) and _exists(slashed, file.parent)
        }
        if renamed:
            message = f"{printable(file)}: {len(renamed)} of {len(lines)} paths have backslashes, as on Windows; "
            warnings.warn(f"{message}they are read as slashes", DarkpyWarning, stacklevel=3)
        return [renamed.get(line, line) for line in lines]
    slashed = [line.replace("\\", "/") for line in first] if os.sep == "/" else first
    if slashed != first and any(_exists(line, file.parent) for line in slashed):
        message = f"{printable(file)}: its paths have backslashes, as on Windows; they are read as slashes"
        warnings.warn(message, DarkpyWarning, stacklevel=3)
        return [line.replace("\\", "/") for line in lines]
    found = next((found for line in first if (found := find_by_tail(line, file.parent)) is not None), None)
    if found is None:
        return lines
    start, base = found
    slashed = [line.replace("\\", "/") if os.sep == "/" else line for line in lines]
    count = sum(line.startswith(start) for line in slashed)
    warnings.warn(
        f"{printable(file)}: {count} of {len(lines)} paths begin with {printable(start)}, which is not on this "
        f"computer; the same files in {printable(base.absolute())} are read",
        DarkpyWarning,
        stacklevel=3,
    )
    return [str(base / line[len(start) :]) if line.startswith(start) else line for line in slashed]


def _exists(entry: str, folder: Path) -> bool:
    return is_true((folder / entry).exists) or is_true(Path(entry).exists)


def find_image(entry: Path, folder: Path) -> Path:
    """Find an image that a list in `folder` names: relative to the working directory, else to the folder."""
    beside = folder / entry
    return beside if not is_true(entry.exists) and is_true(beside.exists) else entry


def find_images_below(folder: Path) -> list[Path]:
    """Return the images in a folder and the folders below it, without hidden files.

    Raises: DarkpyError for a folder that cannot be read, or that is the root of the file system.
    """
    if is_true(lambda: folder.samefile(folder / "..")):
        raise DarkpyError(
            f"{printable(folder)}: is the root of the file system", hint="name the folder that holds the images"
        )
    try:
        files = [path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES]
    except OSError as error:
        raise DarkpyError(f"{folder}: cannot be read: {error.strerror}") from error
    return sorted(path for path in files if path.name[0] != "." and is_file(path))


def printable(text: object) -> str:
    """Return text as one printable line, escaped if a hostile name needs it."""
    name = str(text)
    return name if name.isprintable() else ascii(name)
