"""Repair of label files that all have the same mistake: corrected copies of them, in a new data set.

Letters: I images of a list, N boxes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkpy.data.formats.annotations import unique_image_names
from darkpy.data.formats.darknet_writer import DarknetSet, LabelTexts
from darkpy.data.lists.image_list import LIST_SUFFIXES, ImageList, open_lists
from darkpy.data.lists.labels import LabelTable
from darkpy.data.lists.text_files import DIFFICULT_KEYS, read_data
from darkpy.data.loading.decoding import read_image_size
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, ImageError

MIN_PIXEL_VALUE = 2.0
"""A fraction of the image is at most 1; boxes over its edge are rarely beyond 1.5."""
MIN_MISTAKE_FRAC = 0.5
"""Fraction of boxes from which a mistake is systematic."""
_LABEL_LINE = "%d %.10g %.10g %.10g %.10g\n"


class LabelMistake(Enum):
    """Mistake of all label files. Values: its names on the command line.

    CLASSES_FROM_1: classes are counted from 1. PIXELS: x, y, w, h in pixels. CORNERS: x1, y1, x2, y2 as fractions.
    CORNER_PIXELS: x1, y1, x2, y2 in pixels. TOP_LEFT: x, y of the top left corner instead of the center.
    """

    CLASSES_FROM_1 = "classes-from-1"
    PIXELS = "pixels"
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
        LabelMistake.CORNER_PIXELS: is_pixel_N & is_ordered_N,
        LabelMistake.CORNERS: ~is_pixel_N & is_ordered_N,
        LabelMistake.TOP_LEFT: ~is_pixel_N,
    }[mistake]
    return bool(has_mistake_N.size and has_mistake_N.mean() >= MIN_MISTAKE_FRAC)


def repair_labels(source: Path, mistake: LabelMistake, dialect: Dialect | None = None) -> RepairedLabels:
    """Read the lists of a `.data` file, or one list or folder, and correct a mistake of all labels.

    Images without labels or that cannot be read, and wrong label lines, are losses.
    Raises: DarkpyError when a list cannot be read or has no labels, or no list may have the mistake.
    """
    lists = open_lists(source, ("train", "valid", "test", *DIFFICULT_KEYS.values()))
    tables = {key: images.read_labels(dialect) for key, images in lists.items()}
    splits = {key: images for key, images in lists.items() if key not in DIFFICULT_KEYS.values()}
    losses: defaultdict[str, list[str]] = defaultdict(list)
    files = {key: [images.file(index) for index in range(len(images.images))] for key, images in splits.items()}
    sizes_px = _read_sizes([file for listed in files.values() for file in listed], losses)
    unchanged: list[str] = []
    plain: dict[Path, str] = {}
    difficult: dict[Path, str] = {}
    max_class = -1
    for key, listed in files.items():
        size_px_I2 = np.array([sizes_px.get(file, (1, 1)) for file in listed], np.float64)
        texts_of_list = {key: plain, DIFFICULT_KEYS.get(key, ""): difficult}
        members = {list_key: tables[list_key] for list_key in texts_of_list if list_key in tables}
        has_mistake = may_have(
            mistake,
            np.concatenate([table.class_N for table in members.values()]),
            np.concatenate([table.box_N4 for table in members.values()]),
        )
        unchanged += [] if has_mistake else [key]
        for list_key, table in members.items():
            if len(table.files) != len(listed):
                raise DarkpyError(f"{source}: {list_key}= lists {len(table.files)} images, {key}= {len(listed)}")
            losses["label lines are wrong and left out"] += table.problems
            class_N, box_N4 = table.class_N, table.box_N4
            if has_mistake:
                class_N, box_N4 = correct_labels(mistake, class_N, box_N4, size_px_I2[table.image_N])
            max_class = max(max_class, int(class_N.max(initial=-1)))
            for index, text in enumerate(_label_texts(table, class_N, box_N4)):
                texts_of_list[list_key].setdefault(listed[index], text)
        missing = set(tables[key].missing)
        losses["images have no labels and are left out"] += [str(listed[index]) for index in sorted(missing)]
        files[key] = [file for index, file in enumerate(listed) if file in sizes_px and index not in missing]
    if len(unchanged) == len(splits):
        message = f"{source}: the labels do not have the mistake {mistake.value}: nothing to repair"
        raise DarkpyError(message, hint="darkpy doctor CFG DATA names the mistake of labels that cannot be trained on")
    names = unique_image_names(list(dict.fromkeys(file for listed in files.values() for file in listed)))
    dataset = DarknetSet(
        images={name: file for file, name in names.items()},
        labels={name: LabelTexts(plain[file], difficult.get(file, "")) for file, name in names.items()},
        splits={key: [names[file] for file in listed] for key, listed in files.items() if listed},
        names=_class_names(source, splits, max_class),
    )
    if not dataset.splits:
        raise DarkpyError(f"{source}: no image with labels can be read", hint=next(filter(None, losses.values()))[0])
    return RepairedLabels(dataset, tuple(unchanged), {text: places for text, places in losses.items() if places})


def _read_sizes(files: Sequence[Path], losses: defaultdict[str, list[str]]) -> dict[Path, tuple[int, int]]:
    """Read width and height of each image that can be read."""
    sizes_px: dict[Path, tuple[int, int]] = {}
    for file in dict.fromkeys(files):
        try:
            sizes_px[file] = read_image_size(file)
        except ImageError as error:
            losses["images cannot be read and are left out"].append(error.message)
    return sizes_px


def _label_texts(table: LabelTable, class_N: NDArray[np.intp], box_N4: NDArray[np.float64]) -> Iterator[str]:
    """Yield the text of each image's label file."""
    rows_N5 = np.column_stack([class_N, box_N4])
    ends = np.searchsorted(table.image_N, np.arange(len(table.files)), side="right")
    for rows in np.split(rows_N5, ends[:-1]):
        yield _LABEL_LINE * len(rows) % tuple(rows.ravel().tolist())


def _class_names(source: Path, splits: Mapping[str, ImageList], max_class: int) -> tuple[str, ...]:
    """Return a name for each class of the `.data` file and of the labels: its number, if it has none."""
    named = max(splits.values(), key=lambda images: len(images.names))
    count = max(max_class + 1, len(named.names))
    if not named.names and not source.is_dir() and source.suffix.lower() not in LIST_SUFFIXES:
        stated = read_data(source).entries.get("classes", "")
        count = max(count, int(stated)) if stated.isdecimal() and len(stated) < 7 else count
    return tuple(map(named.name, range(count)))
