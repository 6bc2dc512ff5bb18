"""Label files: one reader and two views of what it reads.

`read_labels` returns the boxes of one image, checked as training needs them; `read_label_table` returns
the boxes of a whole list of images in arrays, checked only to be numbers.

Letters: N boxes.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from darkpy.data.lists.paths import label_path_text
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.files import UTF_16_PROBLEM, decode_text, is_utf_16, open_descriptor

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

MAX_FILE_BYTES = 1 << 22  # a label file of this size would hold 100,000 boxes
MAX_CLASS = 1 << 20
_LABEL_HINT = "a label file has `class x y w h` on each line"
MAX_PROBLEMS_PER_FILE = 20
"""Further wrong lines of a file are only counted: in a file of another kind every line is wrong."""
_FILES_PER_PARSE = 1000  # label files that are joined for one call of numpy's parser
_FIRST_READ_BYTES = 1 << 14  # nearly every label file is shorter and needs one system call
_FLOAT_PATTERN = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_BOX_START = re.compile(r"\s*([+-]?\d+)" + rf"\s+({_FLOAT_PATTERN})" * 4, re.ASCII)
"""Box that C's fscanf reads, whatever follows it."""
_CLASS_PATTERN = re.compile(r"[+-]?\d{1,9}", re.ASCII)
NOT_BY_LINE_PROBLEM = "boxes do not end with lines: the numbers are read one after another"

Box = tuple[float, float, float, float, float]


class Labels(NamedTuple):
    """Boxes of one image.

    boxes_N5: center x, y, width, height as fractions of the image, then the class.
    problems: `file:line: what is wrong`, one line each. lines: line number of each box, from 1.
    """

    boxes_N5: Tensor
    problems: tuple[str, ...]
    lines: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False, slots=True)
class LabelTable:
    """Boxes of a list of images, in its order.

    image_N: index of each box's image in the list. box_N4: x, y, w, h as fractions of the image.
    files: label file of each image; if it has none, the path where it was expected.
    missing: indices of the images without a readable label file.
    problems: `file:line: what is wrong` for each line that is not a box and is left out.
    """

    image_N: NDArray[np.intp]
    class_N: NDArray[np.intp]
    box_N4: NDArray[np.float64]
    files: tuple[str, ...]
    missing: tuple[int, ...]
    problems: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.class_N)


def read_labels(path: str | os.PathLike[str], classes: int, *, allow_class_only: bool = False) -> Labels:
    """Read the objects of a label file, `class x y w h` of each, usually one on a line.

    allow_class_only: accept lines with x = y = 0, which give a class without a box.
    Raises:  DarkpyError when the file cannot be read or is not text.
    Source:  pjreddie/darknet and AlexeyAB/darknet src/data.c read_boxes, correct_boxes, fill_truth_detection
    Differs: both darknets ignore line ends and stop at the first word that is not a number. Files that they read
             whole are read alike; otherwise each line is read for itself: words behind its boxes, and a sixth
             number, are reported and ignored, and a wrong line is reported and left out. A class may be written 2.0.
             Classes below 0 or beyond the last, boxes without a size and boxes outside the image are left out in
             both dialects.
    """
    import torch  # the table view is used by commands that start without torch

    file = str(Path(path))
    boxes: list[Box] = []
    lines: list[int] = []
    problems: list[str] = []
    text = _read_text_file(file)
    if is_utf_16(text):
        problems.append(f"{file}: {UTF_16_PROBLEM}")
    for number, box, problem in _parse_boxes(decode_text(text, file, hint=_LABEL_HINT), classes):
        if box is not None:
            box, problem = _check_box(box, problem, allow_class_only)
        if box is not None:
            class_id, *center_and_size = box
            boxes.append((*center_and_size, class_id))  # type: ignore[arg-type]
            lines.append(number)
        if problem is not None:
            problems.append(f"{file}:{number}: {problem}")
    if len(problems) > MAX_PROBLEMS_PER_FILE:
        problems[MAX_PROBLEMS_PER_FILE:] = [f"{file}: {len(problems) - MAX_PROBLEMS_PER_FILE} more lines are wrong"]
    return Labels(torch.tensor(boxes, dtype=torch.float32).view(-1, 5), tuple(problems), tuple(lines))


def read_tags(path: str | os.PathLike[str], classes: int) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Read the classes of a tag file, one or more on a line.

    Returns: the classes in ascending order, and problems as `file:line: what is wrong`.
    Raises:  DarkpyError when the file cannot be read or is not text.
    Source:  pjreddie/darknet src/data.c load_tags_paths
    """
    file = str(Path(path))
    tags: set[int] = set()
    problems: list[str] = []
    for number, line in _lines(decode_text(_read_text_file(file), file, hint="a tag file has a class on each line")):
        for word in line.split():
            if _CLASS_PATTERN.fullmatch(word) and 0 <= int(word) < classes:
                tags.add(int(word))
            else:
                problems.append(f"{file}:{number}: {word[:20]!r} is not a class from 0 to {classes - 1}")
    return tuple(sorted(tags)), tuple(problems[:MAX_PROBLEMS_PER_FILE])


def read_numbers(path: str | os.PathLike[str], count: int) -> tuple[float, ...]:
    """Read the first `count` numbers of a file, the target of a regressor; what follows them is not read.

    Raises:  DarkpyError when the file cannot be read, or does not begin with so many numbers.
    Source:  pjreddie/darknet src/data.c load_regression_labels_paths
    Differs: numbers that are not there are 0 in darknet, which also takes `nan` and `inf`.
    """
    file = str(Path(path))
    hint = "a label file of a regressor has numbers, between blanks or on lines"
    words = decode_text(_read_text_file(file), file, hint=hint).split(None, count)[:count]
    for word in words:
        if not re.fullmatch(_FLOAT_PATTERN, word, re.ASCII) or not math.isfinite(np.float32(word)):
            raise DarkpyError(f"{file}: {word[:20]!r} is not a number", hint=hint)
    if len(words) < count:
        raise DarkpyError(f"{file}: has {len(words)} numbers, and the network gives {count}", hint=hint)
    return tuple(map(float, words))


def read_label_table(images: Sequence[str], folder: Path, dialect: Dialect | None = None) -> LabelTable:
    """Read the label files of a list of images.

    folder: second place to look for paths that are not found from the working directory.
    dialect: rule for the place of label files, before the other's; None for AlexeyAB's.
    Differs: as `read_labels`.
    """
    dialects = (Dialect.PJREDDIE, Dialect.ALEXEYAB) if dialect is Dialect.PJREDDIE else tuple(Dialect)[::-1]
    files: list[str] = []
    missing: list[int] = []
    parts: list[NDArray[np.float64]] = [np.empty((0, 6))]
    problems: list[str] = []
    indexed = enumerate(images)
    while batch := list(islice(indexed, _FILES_PER_PARSE)):
        texts: dict[int, bytes] = {}
        for index, image in batch:
            try:
                file, text = _find_label_file(image, folder, dialects)
            except DarkpyError as error:
                file, text = image, None
                problems.append(error.message)
            files.append(file)
            if text is None:
                missing.append(index)
            else:
                texts[index] = text
        part = _parse_joined(texts)
        parts.append(_parse_by_line(texts, files, problems) if part is None else part)
    table = np.concatenate(parts)
    image_class_N2 = table[:, :2].astype(np.intp)
    return LabelTable(
        image_class_N2[:, 0], image_class_N2[:, 1], table[:, 2:], tuple(files), tuple(missing), tuple(problems)
    )


def _parse_boxes(text: str, classes: int = MAX_CLASS) -> Iterator[tuple[int, Box | None, str | None]]:
    """Yield line number, box and problem of each box or wrong line of a label file; one of the latter may be None."""
    lines = list(_lines(text))
    if any(len(line.split()) != 5 for _, line in lines):
        words = [(number, word) for number, line in lines for word in line.split()]
        class_words = words[::5]
        if len(words) % 5 == 0 and all(_CLASS_PATTERN.fullmatch(word) for _, word in class_words):
            problem: str | None = NOT_BY_LINE_PROBLEM
            for index, (number, _) in enumerate(class_words):
                box, wrong = _parse_line(" ".join(word for _, word in words[5 * index : 5 * index + 5]), classes)
                yield number, box, wrong or problem
                problem = None  # once for each file
            return
    for number, line in lines:
        box, problem = _parse_line(line, classes)
        match = _BOX_START.match(line) if box is None else None
        if match is None or not (rest := line[match.end() :].strip()) or _is_number(rest.split()[0]):
            yield number, box, problem
            continue
        box, problem = _parse_line(match[0], classes)
        yield number, box, problem or f"{rest[:30]!r} behind the box is ignored"


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _parse_line(line: str, classes: int = MAX_CLASS) -> tuple[Box | None, str | None]:
    """Parse class, x, y, w, h. Returns: the box, None if there is none; and a problem, None if there is none."""
    words = line.split()
    try:
        if "_" in line or not line.isascii():  # numbers of Python, not of C
            raise ValueError(line)
        class_id, x, y, w, h, *more = map(float, words)
    except ValueError:
        return None, f"{line.strip()[:60]!r} is not `class x y w h`"
    if len(more) > 1:
        return None, f"{len(words)} numbers, where `class x y w h` are 5"
    if not all(map(math.isfinite, (class_id, x, y, w, h))):
        return None, "a number is non-finite (NaN or inf)"
    if not class_id.is_integer() or not 0 <= class_id < classes:
        return None, f"class {words[0][:20]} is not from 0 to {classes - 1}"
    return (class_id, x, y, w, h), "6 numbers, where `class x y w h` are 5; the last is ignored" if more else None


def _check_box(box: Box, problem: str | None, allow_class_only: bool) -> tuple[Box | None, str | None]:
    """Check that a box can be trained on. Returns: as `_parse_line`, a `problem` of the line kept."""
    _, x, y, w, h = box
    is_class_only = allow_class_only and x == y == 0
    if x == y == 0 and not allow_class_only:
        return None, "x = 0, y = 0: an object in the corner of the image, or a class without a box"
    if not is_class_only and not (w > 0 and h > 0):
        return None, f"w = {w:g}, h = {h:g}: the box has no size"
    if max(abs(x - 0.5) - w / 2, abs(y - 0.5) - h / 2) > 0.5:
        return None, f"x = {x:g}, y = {y:g}, w = {w:g}, h = {h:g}: the box is outside the image"
    if problem is None and not (0 <= x <= 1 and 0 <= y <= 1 and w <= 1 and h <= 1):
        problem = f"x = {x:g}, y = {y:g}, w = {w:g}, h = {h:g}: the box is cut off at the image's edge"
    return box, problem


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, with their numbers from 1."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line


def _read_text_file(file: str) -> bytes:
    try:
        text = _read(file)
    except (OSError, ValueError) as error:
        raise DarkpyError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return text


def _read(file: str) -> bytes:
    """Read a file in one system call if it is short. Raises: OSError, ValueError for a name that cannot exist."""
    handle = open_descriptor(file)
    try:
        text = os.read(handle, _FIRST_READ_BYTES)
        if len(text) == _FIRST_READ_BYTES:
            text += os.read(handle, MAX_FILE_BYTES)
    finally:
        os.close(handle)
    if len(text) > MAX_FILE_BYTES:
        raise DarkpyError(f"{file}: is larger than any list of boxes, {MAX_FILE_BYTES >> 20} MB")
    return text


def _find_label_file(image: str, folder: Path, dialects: Sequence[Dialect]) -> tuple[str, bytes | None]:
    """Return path and content of an image's first label file that exists; else the first path and None.

    Raises: DarkpyError when the file is there and cannot be read, because it is a pipe, for example.
    """
    starts = (image, os.path.join(folder, image))  # noqa: PTH118  (Path is slow, and lists are long)
    first = label_path_text(image, dialects[0])
    for start in starts:
        for dialect in dialects:
            file = label_path_text(start, dialect)
            try:
                return file, _read(file)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
                continue
            except OSError as error:
                raise DarkpyError(f"{file}: cannot be read: {error.strerror or error}") from error
    return first, None


def _parse_joined(texts: dict[int, bytes]) -> NDArray[np.float64] | None:
    """Parse many label files at once: image index, class, x, y, w, h of all boxes.

    Returns: None if a line is anything but 5 valid numbers; `_parse_by_line` then finds it. Shapes: (N, 6).
    """
    joined = b"\n".join(texts.values()) + b"\n"
    # Count the words of each line: numpy's parser does not see line ends, and two lines of 4 and 6 numbers would
    # pass for two boxes.
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
        warnings.simplefilter("error")  # numpy warns where the text does not end with its last number
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


def _parse_by_line(texts: dict[int, bytes], files: Sequence[str], problems: list[str]) -> NDArray[np.float64]:
    """Parse label files line by line and add what is wrong to `problems`. Shapes: as `_parse_joined`."""
    rows: list[tuple[float, ...]] = []
    for index, text in texts.items():
        try:
            decoded = decode_text(text, files[index], hint=_LABEL_HINT)
        except DarkpyError as error:
            problems.append(str(error))
            continue
        if is_utf_16(text):
            problems.append(f"{files[index]}: {UTF_16_PROBLEM}")
        for number, box, problem in _parse_boxes(decoded):
            if problem is not None:
                problems.append(f"{files[index]}:{number}: {problem}")
            if box is not None:
                rows.append((index, *box))
    return np.array(rows, np.float64).reshape(-1, 6)
