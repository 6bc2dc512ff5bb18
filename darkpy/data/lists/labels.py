"""What the labels of an image say.

Letters: N boxes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from darkpy.data.lists.label_table import MAX_SIZE, parse_line
from darkpy.errors import DarkpyError

MAX_PROBLEMS = 20
"""How many lines of one file are complained of one by one: a file of another kind is wrong in each."""


class Labels(NamedTuple):
    """boxes_N5: center x, y, width, height as fractions of the image, then the class.

    problems: `file:line: what is wrong`, one line each. lines: where in the file each box stands, from 1.
    """

    boxes_N5: Tensor
    problems: tuple[str, ...]
    lines: tuple[int, ...] = ()


def read_labels(path: str | os.PathLike[str], classes: int, *, allow_class_only: bool = False) -> Labels:
    """The objects of a label file, `class x y w h` on each line.

    keeps_class_only: a line whose x and y are 0 tells a class and no place; else it is wrong.
    Raises:  DarkpyError when the file cannot be read or is no text.
    Source:  pjreddie/darknet and AlexeyAB/darknet src/data.c read_boxes, correct_boxes, fill_truth_detection
    Differs: a wrong line is reported and left out; darknet reads numbers wherever lines end, and stops at the first
             word that is none. A sixth number is reported and ignored. A class may be written 2.0. Classes below 0 or
             beyond the last, boxes without a size and boxes outside the image are left out in both dialects.
    """
    path = Path(path)
    found: list[tuple[float, ...]] = []
    lines: list[int] = []
    problems: list[str] = []
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        values, problem = _parse(line, classes, allow_class_only)
        if values is not None:
            found.append(values)
            lines.append(number)
        if problem is not None:
            problems.append(f"{path}:{number}: {problem}")
    if len(problems) > MAX_PROBLEMS:
        problems[MAX_PROBLEMS:] = [f"{path}: {len(problems) - MAX_PROBLEMS} more lines are wrong"]
    return Labels(torch.tensor(found, dtype=torch.float32).view(-1, 5), tuple(problems), tuple(lines))


def read_tags(path: str | os.PathLike[str], classes: int) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The classes that a tag file names, one or more on a line, and its problems.

    Raises:  DarkpyError when the file cannot be read or is no text.
    Source:  pjreddie/darknet src/data.c load_tags_paths
    """
    path = Path(path)
    found: set[int] = set()
    problems: list[str] = []
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        for word in line.split():
            if word.isdecimal() and int(word) < classes:
                found.add(int(word))
            else:
                problems.append(f"{path}:{number}: {word[:20]!r} is no class from 0 to {classes - 1}")
    return tuple(sorted(found)), tuple(problems[:MAX_PROBLEMS])


def _parse(line: str, classes: int, allow_class_only: bool) -> tuple[tuple[float, ...] | None, str | None]:
    """x, y, w, h, class of a line, if it is good for anything, and what is wrong with it."""
    found, problem = parse_line(line, classes)
    if found is None:
        return None, problem
    class_id, x, y, w, h = found
    is_class_only = allow_class_only and x == y == 0
    if x == y == 0 and not allow_class_only:
        return None, "x = 0, y = 0: an object in the corner of the image, or without a place"
    if not is_class_only and not (w > 0 and h > 0):
        return None, f"w = {w:g}, h = {h:g}: the box has no size"
    if max(abs(x - 0.5) - w / 2, abs(y - 0.5) - h / 2) > 0.5:
        return None, f"x = {x:g}, y = {y:g}, w = {w:g}, h = {h:g}: the box is outside the image"
    values = (x, y, w, h, class_id)
    if problem is not None:
        return values, problem
    if not (0 <= x <= 1 and 0 <= y <= 1 and w <= 1 and h <= 1):
        return values, f"x = {x:g}, y = {y:g}, w = {w:g}, h = {h:g}: the box is cut off at the image's edge"
    return values, None


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_SIZE + 1)
    except (OSError, ValueError) as error:
        raise DarkpyError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > MAX_SIZE or b"\0" in data:
        raise DarkpyError(f"{path}: is a binary file or larger than any list of boxes")
    return data.decode("utf-8-sig", errors="replace")
