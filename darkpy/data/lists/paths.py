"""Which images are meant, and where the labels of an image lie."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError

IMAGE_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "bmp", "dib", "gif", "tif", "tiff", "webp", "avif", "heic", "heif"),
        *("jp2", "ppm", "pgm", "pbm", "pnm", "tga", "psd", "pcx"),
    )
)
"""What counts as an image in a folder, in small or capital letters, also where Pillow may have to refuse it."""

_PJREDDIE_WORDS = (
    *(("images", "labels"), ("JPEGImages", "labels"), ("raw", "labels")),
    *((".jpg", ".txt"), (".png", ".txt"), (".JPG", ".txt"), (".JPEG", ".txt")),
)
_ALEXEYAB_FOLDERS = re.compile(r"([/\\])(?:images(?=\1(?:train|val)20(?:14|17)\1)|JPEGImages(?=\1))")


def label_path(image_path: str | os.PathLike[str], dialect: Dialect) -> Path:
    """The label file of an image, as `label_name`."""
    return Path(label_name(os.fspath(image_path), dialect))


def label_name(image: str, dialect: Dialect) -> str:
    """The label file of an image.

    pjreddie replaces the first `images`, `JPEGImages`, `raw` and extension wherever they stand in the path; AlexeyAB
    only the folders of COCO and VOC, and the extension at the end.

    Raises:  DarkpyError when the name does not end as images do.
    Source:  pjreddie/darknet src/data.c fill_truth_detection; AlexeyAB/darknet src/utils.c replace_image_to_label
    Differs: images of other kinds than darknet reads have labels, too.
    """
    text = _replace_words(image) if dialect is Dialect.PJREDDIE else _replace_folders(image)
    start, suffix = os.path.splitext(text)  # noqa: PTH122  (lists are long, and Path is slow)
    label = f"{start}.txt" if suffix.lower() in IMAGE_SUFFIXES else text
    if not label.endswith(".txt") or label == image:
        raise DarkpyError(f"{image}: no label file belongs to it", hint="an image's name ends in .jpg, .png, ...")
    return label


def listed_folder(folder: Path, example: str) -> str:
    """How lists name a folder: from the root, so that they are good everywhere, if both forks find labels there.

    example: an image in the folder.
    Raises:  DarkpyError when not both forks would find its labels beside it.
    """
    for place in (folder.absolute().as_posix(), folder.as_posix()):
        image = f"{place}/{example}"
        label = Path(image).with_suffix(".txt")
        if image.isprintable() and all(label_path(image, dialect) == label for dialect in Dialect):
            return place
    raise DarkpyError(
        f"{folder}: not both darknets would find labels beside images here",
        hint="name a folder whose path has no `images`, `raw`, `.jpg`, `.png`, nor blanks at its ends",
    )


def expand_paths(arguments: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The image files that the arguments of a command stand for, in their order.

    A folder stands for the images directly in it, by name, without hidden files; a `.txt` or `.list` file for those it
    lists; anything else for itself, whether it is there or not: `load_image` says what is wrong with it.

    Raises:  DarkpyError when a folder or list cannot be read or has no image, or there is no argument.
    """
    paths: list[Path] = []
    for argument in map(Path, arguments):
        if _answers(argument.is_dir):
            paths += _list_folder(argument)
        elif argument.suffix.lower() in (".txt", ".list"):
            paths += read_image_list(argument)
        else:
            paths.append(argument)
    if not paths:
        raise DarkpyError("no images given", hint="name image files, folders, or list files (.txt, .list)")
    return paths


def read_image_list(path: str | os.PathLike[str]) -> list[Path]:
    """The images that a list file names, one path a line; blank lines, and blanks and CR around a path, do not count.

    Raises:  DarkpyError when the list cannot be read or names no image.
    Differs: a path that is not found from the working directory is looked for beside the list file as well.
    """
    path = Path(path)
    return [find_image(Path(line), path.parent) for line in read_list_lines(path)]


def read_list_lines(path: Path) -> list[str]:
    """The lines of a list file, as `read_image_list` without looking for the images.

    Raises:  DarkpyError when the list cannot be read or names no image.
    """
    try:
        # file names are bytes: what is not UTF-8 in a name must come back unchanged
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except (OSError, ValueError) as fault:
        raise _unreadable(path, fault) from fault
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    if not lines:
        raise DarkpyError(f"{printable(path)}: names no image", hint="a list has one image path on each line")
    return lines


def find_image(entry: Path, folder: Path) -> Path:
    """An image as a list in that folder names it: from the working directory, or else from the folder."""
    beside = folder / entry
    return beside if not _answers(entry.exists) and _answers(beside.exists) else entry


def _list_folder(folder: Path) -> list[Path]:
    try:
        names = sorted(folder.iterdir())
    except OSError as fault:
        raise _unreadable(folder, fault) from fault
    paths = [name for name in names if name.suffix.lower() in IMAGE_SUFFIXES and not name.name.startswith(".")]
    if not paths:
        known = " ".join(sorted(IMAGE_SUFFIXES))
        raise DarkpyError(f"{printable(folder)}: no image in this folder", hint=f"images end in one of {known}")
    return paths


def _answers(question: Callable[[], bool]) -> bool:
    """Path's own questions, with no for an answer where a name is too long to ask about or has a zero byte in it."""
    try:
        return question()
    except (OSError, ValueError):
        return False


def _unreadable(path: Path, fault: OSError | ValueError) -> DarkpyError:
    reason = fault.strerror if isinstance(fault, OSError) and fault.strerror else str(fault)
    return DarkpyError(f"{printable(path)}: cannot be read: {reason.lower()}")


def printable(text: object) -> str:
    """One line, whatever a hostile name holds."""
    name = str(text)
    return name if name.isprintable() else ascii(name)


def _replace_words(path: str) -> str:
    for word, replacement in _PJREDDIE_WORDS:
        path = path.replace(word, replacement, 1)
    return path


def _replace_folders(path: str) -> str:
    return (_ALEXEYAB_FOLDERS.sub(r"\1labels", path) if "mages" in path else path).strip()
