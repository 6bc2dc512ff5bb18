"""Repair of label files that all have the same mistake: corrected copies of them, in a new data set.

Letters: I images of a list, N boxes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkpy.data.formats.annotations import ImportReport, unique_image_names
from darkpy.data.formats.darknet_reader import read_labeled_lists
from darkpy.data.formats.darknet_writer import DarknetSet, LabelTexts
from darkpy.data.lists.labels import LabelTable
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError

MIN_PIXEL_VALUE = 2.0
"""A fraction of the image is at most 1; boxes over its edge are rarely beyond 1.5."""
MIN_MISTAKE_FRAC = 0.5
"""Fraction of boxes from which a mistake is systematic."""
_LABEL_LINE = "%d %.10g %.10g %.10g %.10g\n"


class LabelMistake(Enum):
    """Mistake of all label files. Values: its names on the command line.

    CLASSES_FROM_1: classes are counted from 1. PIXELS: x, y, w, h in pixels. PERCENT: in percent of the image's sides.
    CORNERS: x1, y1, x2, y2 as fractions.
    CORNER_PIXELS: x1, y1, x2, y2 in pixels. TOP_LEFT: x, y of the top left corner instead of the center.
    """

    CLASSES_FROM_1 = "classes-from-1"
    PIXELS = "pixels"
    PERCENT = "percent"
    CORNER_PIXELS = "corner-pixels"
    CORNERS = "corners"
    TOP_LEFT = "top-left"


class RepairedLabels(NamedTuple):
    """Corrected data set, to be written.

    unchanged: lists that do not have the mistake. losses: locations of what is left out, by its description.
    """

    dataset: DarknetSet
    unchanged: tuple[str, ...]
    losses: Mapping[str, Sequence[str]]


def correct_labels(
    mistake: LabelMistake, class_N: NDArray[np.intp], box_N4: NDArray[np.float64], size_px_N2: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Correct a mistake. size_px_N2: width and height of each box's image.

    Returns: classes from 0, and x, y of the center, w, h as fractions of the image.
    """
    if mistake is LabelMistake.CLASSES_FROM_1:
        return class_N - 1, box_N4
    if mistake in (LabelMistake.PIXELS, LabelMistake.CORNER_PIXELS):
        box_N4 = box_N4 / np.tile(size_px_N2, 2)
    elif mistake is LabelMistake.PERCENT:
        box_N4 = box_N4 / 100
    first_N2, second_N2 = box_N4[:, :2], box_N4[:, 2:]
    if mistake in (LabelMistake.CORNERS, LabelMistake.CORNER_PIXELS):
        box_N4 = np.hstack([(first_N2 + second_N2) / 2, second_N2 - first_N2])
    elif mistake is LabelMistake.TOP_LEFT:
        box_N4 = np.hstack([first_N2 + second_N2 / 2, second_N2])
    return class_N, box_N4


def may_have(mistake: LabelMistake, class_N: NDArray[np.intp], box_N4: NDArray[np.float64]) -> bool:
    """Return False if the labels plainly do not have the mistake; there is no box, or they are correct already."""
    if mistake is LabelMistake.CLASSES_FROM_1:
        return bool(class_N.size and class_N.min() > 0)
    is_pixel_N = box_N4.max(axis=1, initial=0) > MIN_PIXEL_VALUE
    is_ordered_N = (box_N4[:, 2:] > box_N4[:, :2]).all(axis=1)
    has_mistake_N = {
        LabelMistake.PIXELS: is_pixel_N,
        LabelMistake.PERCENT: is_pixel_N,
        LabelMistake.CORNER_PIXELS: is_pixel_N & is_ordered_N,
        LabelMistake.CORNERS: ~is_pixel_N & is_ordered_N,
        LabelMistake.TOP_LEFT: ~is_pixel_N,
    }[mistake]
    return bool(has_mistake_N.size and has_mistake_N.mean() >= MIN_MISTAKE_FRAC)


def repair_labels(source: Path, mistake: LabelMistake, dialect: Dialect | None = None) -> RepairedLabels:
    """Read the lists of a `.data` file, or one list or folder, and correct a mistake of all labels.

    Images without labels or that cannot be read, and wrong label lines, are losses.
    Raises: DarkpyError as `read_labeled_lists`, and when no list may have the mistake.
    """
    report = ImportReport()
    lists = read_labeled_lists(source, dialect, report)
    unchanged: list[str] = []
    plain: dict[Path, str] = {}
    difficult: dict[Path, str] = {}
    files: dict[str, list[Path]] = {}
    max_class = -1
    for key, listed in lists.by_key.items():
        size_px_I2 = np.array([lists.sizes_px.get(file, (1, 1)) for file in listed.files], np.float64)
        has_mistake = may_have(
            mistake,
            np.concatenate([table.class_N for table in listed.tables]),
            np.concatenate([table.box_N4 for table in listed.tables]),
        )
        unchanged += [] if has_mistake else [key]
        for table, texts in zip(listed.tables, (plain, difficult), strict=False):
            class_N, box_N4 = table.class_N, table.box_N4
            if has_mistake:
                class_N, box_N4 = correct_labels(mistake, class_N, box_N4, size_px_I2[table.image_N])
            max_class = max(max_class, int(class_N.max(initial=-1)))
            for index, text in enumerate(_label_texts(table, class_N, box_N4)):
                texts.setdefault(listed.files[index], text)
        missing = set(listed.plain.missing)
        report.losses["images have no labels and are left out"] += [
            str(listed.files[index]) for index in listed.plain.missing
        ]
        files[key] = [
            file for index, file in enumerate(listed.files) if file in lists.sizes_px and index not in missing
        ]
    if len(unchanged) == len(lists.by_key):
        message = f"{source}: the labels do not have the mistake {mistake.value}: nothing to repair"
        raise DarkpyError(message, hint="darkpy doctor CFG DATA names the mistake of labels that cannot be trained on")
    names = unique_image_names(list(dict.fromkeys(file for members in files.values() for file in members)))
    dataset = DarknetSet(
        images={name: file for file, name in names.items()},
        labels={name: LabelTexts(plain[file], difficult.get(file, "")) for file, name in names.items()},
        splits={key: [names[file] for file in members] for key, members in files.items() if members},
        names=lists.class_names(max_class),
    )
    if not dataset.splits:
        hint = next(filter(None, report.losses.values()))[0]
        raise DarkpyError(f"{source}: no image with labels can be read", hint=hint)
    return RepairedLabels(dataset, tuple(unchanged), report.found_losses())


def _label_texts(table: LabelTable, class_N: NDArray[np.intp], box_N4: NDArray[np.float64]) -> Iterator[str]:
    """Yield the text of each image's label file."""
    rows_N5 = np.column_stack([class_N, box_N4])
    ends = np.searchsorted(table.image_N, np.arange(len(table.files)), side="right")
    for rows in np.split(rows_N5, ends[:-1]):
        yield _LABEL_LINE * len(rows) % tuple(rows.ravel().tolist())
