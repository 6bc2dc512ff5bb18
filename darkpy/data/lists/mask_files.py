"""Mask files: the class and the pixels of each object of an image, as run lengths.

Letters: H height, W width of the image; P its pixels, row by row; N runs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkpy.files import read_text

MAX_FILE_BYTES = 1 << 25
"""Size limit of a mask file; 500 objects with outlines of 5,000 runs are 12 MB."""
MAX_MASKS_PER_FILE = 5000
"""Masks that are read of a file: each of them is as large as its image."""
MAX_PROBLEMS_PER_FILE = 20
"""Further wrong lines of a file are only counted: in a file of another kind every line is wrong."""
_MASK_HINT = "a mask file has `class run,run,...` on each line: pixels outside the object, inside, outside, ..."
_RUNS_PATTERN = re.compile(r"\d{1,10}(?:,\d{1,10})*", re.ASCII)
_CLASS_PATTERN = re.compile(r"\d{1,9}", re.ASCII)


@dataclass(frozen=True, eq=False, slots=True)
class Mask:
    """Mask of an object. runs_N: pixels outside and inside it in turn, row by row. line: its line number in a file.

    Pixels behind the last run are on the other side of the object's edge than that run.
    """

    class_id: int
    runs_N: NDArray[np.int64]
    line: int = 0

    @property
    def pixels(self) -> int:
        """Number of pixels inside, of runs that cover their image."""
        return int(self.runs_N[1::2].sum())

    def render(self, w: int, h: int) -> NDArray[np.uint8]:
        """Return the mask as pixels, 255 inside and 0 outside, of an image of w x h that its runs fit into.

        Shapes:  (h, w).
        Source:  pjreddie/darknet src/data.c load_rle
        """
        count = len(self.runs_N)
        rest = w * h - int(self.runs_N.sum())
        side_N = np.where(np.arange(count + 1) % 2, 255, 0).astype(np.uint8)
        return np.repeat(side_N, np.append(self.runs_N, rest)).reshape(h, w)


@dataclass(frozen=True, eq=False, slots=True)
class MaskFile:
    """Masks of an image, and `file:line: what is wrong` for each line that is left out."""

    path: str
    masks: tuple[Mask, ...]
    problems: tuple[str, ...]

    def fitting(self, w: int, h: int) -> MaskFile:
        """Return the masks without those that cover more pixels than an image of w x h has."""
        totals = {mask: int(mask.runs_N.sum()) for mask in self.masks}
        too_long = [mask for mask in self.masks if totals[mask] > w * h]
        if not too_long:
            return self
        problems = [
            f"{self.path}:{mask.line}: its runs have {totals[mask]} pixels, the image of {w} x {h} has {w * h}"
            for mask in too_long
        ]
        masks = tuple(mask for mask in self.masks if totals[mask] <= w * h)
        return MaskFile(self.path, masks, (*self.problems, *_first(problems, self.path)))

    def render_classes(self, w: int, h: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield each class with its pixels, 255 in any of its masks and 0 elsewhere, of an image that the masks fit.

        Shapes:  (h, w).
        """
        for class_id in dict.fromkeys(mask.class_id for mask in self.masks):
            pixels = (mask.render(w, h) for mask in self.masks if mask.class_id == class_id)
            yield class_id, reduce(np.bitwise_or, pixels)


def read_masks(path: str | os.PathLike[str], classes: int) -> MaskFile:
    """Read a mask file.

    Raises:  DarkpyError when the file cannot be read or is not text.
    Source:  pjreddie/darknet src/data.c get_segmentation_image, fill_truth_iseg
    Differs: a line holds whole masks. Lines that are none, and classes beyond the last, are reported and left out;
             darknet stops at the first, and writes beyond its arrays for the second. A line has any length, darknet's
             buffer 32,787 characters.
    """
    file = str(Path(path))
    text = read_text(Path(path), max_bytes=MAX_FILE_BYTES, hint=_MASK_HINT)
    masks: list[Mask] = []
    problems = _first((f"{file}:{problem}" for problem in _collect_masks(text, classes, masks)), file)
    return MaskFile(file, tuple(masks), problems)


def format_masks(masks: Iterable[Mask]) -> str:
    """Return the text of a mask file."""
    return "".join(f"{mask.class_id} {','.join(map(str, mask.runs_N.tolist()))}\n" for mask in masks)


def encode_runs(is_inside_HW: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the runs of a mask, which begin with the pixels outside."""
    is_inside_P = is_inside_HW.reshape(-1)
    edges = np.flatnonzero(is_inside_P[1:] != is_inside_P[:-1]) + 1
    starts = np.concatenate(([0], edges, [len(is_inside_P)]))
    runs_N = np.diff(starts).astype(np.int64)
    return np.concatenate((np.zeros(1, np.int64), runs_N)) if is_inside_P[0] else runs_N


def _collect_masks(text: str, classes: int, masks: list[Mask]) -> Iterator[str]:
    """Add the masks of a text to a list. Yields: `line: what is wrong` for each that is left out."""
    for number, line in enumerate(text.split("\n"), start=1):
        words = line.split()
        if len(words) % 2:
            yield f"{number}: {_describe_line(words)}"
            continue
        for class_word, runs_word in zip(words[::2], words[1::2], strict=True):
            if not _CLASS_PATTERN.fullmatch(class_word) or not _RUNS_PATTERN.fullmatch(runs_word):
                yield f"{number}: {_describe_line([class_word, runs_word])}"
            elif int(class_word) >= classes:
                yield f"{number}: class {class_word} is not from 0 to {classes - 1}"
            elif len(masks) == MAX_MASKS_PER_FILE:
                yield f"{number}: more than {MAX_MASKS_PER_FILE} masks, the limit of a file"
            else:
                masks.append(Mask(int(class_word), np.array(runs_word.split(","), np.int64), number))


def _describe_line(words: list[str]) -> str:
    shown = " ".join(words)[:40]
    if len(words) == 5 and all(re.fullmatch(r"[\d.eE+-]+", word) for word in words):
        return f"{shown!r} is a box, `class x y w h`, and not a mask, `class run,run,...`"
    return f"{shown!r} is not `class run,run,...`"


def _first(problems: Iterable[str], file: str) -> tuple[str, ...]:
    """Return the first problems and the number of the others, which are never in memory at a time."""
    remaining = iter(problems)
    first = tuple(islice(remaining, MAX_PROBLEMS_PER_FILE))
    more = sum(1 for _ in remaining)
    return (*first, f"{file}: {more} more lines are wrong") if more else first
