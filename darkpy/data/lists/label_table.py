"""The labels of many images at once, in arrays; nothing is checked but that they are numbers.

Letters: N boxes.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from darkpy.data.lists.paths import label_name
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_SIZE = 1 << 22  # a label file of this size would hold 100,000 boxes
MAX_CLASS = 1 << 20
_TOGETHER = 1000
_USUAL = 1 << 14
_OPEN = os.O_RDONLY | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, eq=False, slots=True)
class LabelTable:
    """The boxes of a list of images, in its order.

    image_N: the number of each box's image in the list. box_N4: x, y, w, h as fractions of the image.
    files: the label file of each image; of one that has none, where it is looked for.
    missing: the numbers of the images without a label file that can be read.
    problems: `file:line: what is wrong` of lines that are no boxes, and are left out.
    """

    image_N: NDArray[np.intp]
    class_N: NDArray[np.intp]
    box_N4: NDArray[np.float64]
    files: tuple[str, ...]
    missing: tuple[int, ...]
    problems: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.class_N)


def read_table(images: Sequence[str], folder: Path, dialect: Dialect | None = None) -> LabelTable:
    """Read the label files of images.

    folder: where a path is looked for that is not found from the working directory.
    dialect: whose rule says where labels lie; None for AlexeyAB's, and pjreddie's where there is nothing.
    Differs: a line that is no box is left out; darknet reads no further in that file. A sixth number is left out.
    """
    dialects = (Dialect.ALEXEYAB, Dialect.PJREDDIE) if dialect is None else (dialect,)
    files: list[str] = []
    missing: list[int] = []
    parts: list[NDArray[np.float64]] = [np.empty((0, 6))]
    problems: list[str] = []
    numbered = enumerate(images)
    while batch := list(islice(numbered, _TOGETHER)):
        texts: dict[int, bytes] = {}
        for number, image in batch:
            try:
                file, text = _read_first(image, folder, dialects)
            except DarkpyError as error:
                file, text = image, None
                problems.append(error.message)
            files.append(file)
            if text is None:
                missing.append(number)
            else:
                texts[number] = text
        part = _parse_together(texts)
        parts.append(_parse_one_by_one(texts, files, problems) if part is None else part)
    table = np.concatenate(parts)
    numbers = table[:, :2].astype(np.intp)
    return LabelTable(numbers[:, 0], numbers[:, 1], table[:, 2:], tuple(files), tuple(missing), tuple(problems))


def parse_line(
    line: str, classes: int = MAX_CLASS
) -> tuple[tuple[float, float, float, float, float] | None, str | None]:
    """Class, x, y, w, h of a line, if they can be told, and what is wrong with it.

    Differs: a class may be written 2.0; a sixth number is reported and ignored.
    """
    words = line.split()
    try:
        class_id, x, y, w, h, *more = map(float, words)
    except ValueError:
        return None, f"{line.strip()[:60]!r} is not `class x y w h`"
    if len(more) > 1:
        return None, f"{len(words)} numbers, where `class x y w h` are 5"
    if not all(map(math.isfinite, (class_id, x, y, w, h))):
        return None, "a number is not finite"
    if not class_id.is_integer() or not 0 <= class_id < classes:
        return None, f"class {words[0][:20]} is not from 0 to {classes - 1}"
    return (class_id, x, y, w, h), "6 numbers, where `class x y w h` are 5; the last is ignored" if more else None


def _read_first(image: str, folder: Path, dialects: Sequence[Dialect]) -> tuple[str, bytes | None]:
    """The first label file of an image that is there."""
    file = first = label_name(image, dialects[0])
    text = _read(file)
    if text is None:
        starts = (image, os.path.join(folder, image))  # noqa: PTH118
        for file in (label_name(start, dialect) for start in starts for dialect in dialects):
            if (text := _read(file)) is not None:
                break
    return (first, None) if text is None else (file, text)


def _read(file: str) -> bytes | None:
    try:
        handle = os.open(file, _OPEN)
    except (OSError, ValueError):
        return None
    try:
        text = os.read(handle, _USUAL)
        if len(text) == _USUAL:
            text += os.read(handle, MAX_SIZE)
    except OSError:  # a folder
        return None
    finally:
        os.close(handle)
    if len(text) > MAX_SIZE:
        raise DarkpyError(f"{file}: is a binary file or larger than any list of boxes")
    return text


def _parse_together(texts: dict[int, bytes]) -> NDArray[np.float64] | None:
    """Image, class, x, y, w, h of all boxes; None where a line is not just that. Shapes: (N, 6)."""
    joined = b"\n".join(texts.values()) + b"\n"
    characters = np.frombuffer(joined, np.uint8)
    is_blank = characters <= ord(" ")
    is_start = ~is_blank
    is_start[1:] &= is_blank[:-1]
    ends = np.flatnonzero(characters == ord("\n"))
    words_by_line = np.bincount(np.searchsorted(ends, np.flatnonzero(is_start)), minlength=len(ends))
    has_box = words_by_line == 5
    if not (has_box | (words_by_line == 0)).all():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy's way to say that there is more than numbers
        try:
            values = np.fromstring(joined, sep=" ").reshape(-1, 5)
        except (ValueError, DeprecationWarning):
            return None
    class_N = values[:, 0]
    is_good = np.isfinite(values).all() and ((class_N >= 0) & (class_N < MAX_CLASS) & (class_N % 1 == 0)).all()
    if len(values) != has_box.sum() or not is_good:
        return None
    lines_by_image = [text.count(b"\n") + 1 for text in texts.values()]
    image_of_line = np.repeat(np.fromiter(texts, np.float64, len(texts)), lines_by_image)
    return np.column_stack([image_of_line[has_box], values])


def _parse_one_by_one(texts: dict[int, bytes], files: Sequence[str], problems: list[str]) -> NDArray[np.float64]:
    rows = [(number, *values) for number, text in texts.items() for values in _boxes(text, files[number], problems)]
    return np.array(rows, np.float64).reshape(-1, 6)


def _boxes(text: bytes, file: str, problems: list[str]) -> Iterator[tuple[float, float, float, float, float]]:
    if b"\0" in text:
        problems.append(f"{file}: is a binary file")
        return
    for number, line in enumerate(text.decode("utf-8-sig", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        values, problem = parse_line(line)
        if problem is not None:
            problems.append(f"{file}:{number}: {problem}")
        if values is not None:
            yield values
