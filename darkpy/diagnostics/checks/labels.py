"""Checks of all label files together, for mistakes that every one of them has.

Letters: N boxes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkpy.data.augment.config import DetectionAugmentConfig
from darkpy.data.lists.labels import LabelTable, read_label_table
from darkpy.data.loading.datasets import DetectionData
from darkpy.finding import Cause, Finding, Location, Severity
from darkpy.training.setup import TrainingSetup

FINDING_NAME = "labels-unusable"
MAX_FILES = 2000
"""Label files that are read first: spread over the list, they show a systematic mistake."""
MIN_MISTAKE_FRAC = 0.5
"""Fraction of boxes from which a mistake is systematic."""
MIN_PIXEL_VALUE = 2.0
"""A fraction of the image is at most 1; boxes over its edge are rarely beyond 1.5."""
MIN_CORNER_BOXES = 5
"""Boxes over the image's edge that tell corners from centers: centers have hardly any."""
MIN_CORNER_FRAC = 0.01
"""The same as a fraction of all boxes."""
EDGE_TOLERANCE_FRAC = 0.02


class _Mistake(NamedTuple):
    """Systematic mistake. first: index of the first box with it."""

    first: int
    message: str
    hints: tuple[str, ...]


def check_labels(setup: TrainingSetup) -> Iterator[Finding]:
    """Find a mistake of all labels; an error if no examined image has a usable object."""
    dataset = setup.source.dataset
    if not isinstance(dataset, DetectionData):
        return
    config = dataset.augment_config
    step = -(-len(setup.paths) // MAX_FILES)
    table = read_label_table(setup.paths[::step], Path(), config.dialect)
    is_usable = _has_usable_box(table, config)
    if step > 1 and not is_usable:
        table = read_label_table(setup.paths, Path(), config.dialect)
        is_usable = _has_usable_box(table, config)
    label_count = len(table.files) - len(table.missing)
    if not label_count:  # `check_files` finds it
        return
    mistake = _find_mistake(table, config.classes)
    if mistake is None and is_usable:
        return
    file = table.files[table.image_N[mistake.first]] if mistake else str(setup.data.path)
    if mistake is None:
        if len(table):
            reason = f"none of the {len(table)} boxes is inside its image with a size and a class of the network"
        elif table.problems:
            reason = f"no line of the label files is `class x y w h`; the first: {table.problems[0]}"
        else:
            reason = f"all {label_count} label files are empty"
        mistake = _Mistake(0, reason, ("label the objects: `class x y w h` on each line",))
    message, hints = mistake.message, mistake.hints
    if not is_usable:
        message = f"no image of the list has a usable object: {message}"
        hints = (*hints, "--allow-empty trains all the same")
    yield Finding(
        name=FINDING_NAME,
        message=message,
        severity=Severity.WARNING if is_usable else Severity.ERROR,
        cause=Cause.DATA,
        location=Location(file),
        hints=hints,
    )


def _has_usable_box(table: LabelTable, config: DetectionAugmentConfig) -> bool:
    """True if training would use one of the boxes."""
    x_N, y_N, w_N, h_N = table.box_N4.T
    is_corner_N = (x_N == 0) & (y_N == 0)
    reach_N = np.maximum(np.abs(x_N - 0.5) - w_N / 2, np.abs(y_N - 0.5) - h_N / 2)
    is_box_N = (w_N > 0) & (h_N > 0) & (reach_N <= 0.5) & ~is_corner_N
    if config.allow_class_only:
        is_box_N |= is_corner_N
    return bool((is_box_N & (table.class_N < config.classes)).any())


def _find_mistake(table: LabelTable, classes: int) -> _Mistake | None:
    if not len(table):
        return None
    total = f"of {len(table)} boxes"
    x_N, y_N, w_N, h_N = table.box_N4.T
    is_ordered = bool((w_N > x_N).all() and (h_N > y_N).all())
    is_pixel_N = table.box_N4.max(axis=1) > MIN_PIXEL_VALUE
    if is_pixel_N.mean() >= MIN_MISTAKE_FRAC:
        message = f"boxes in pixels instead of fractions of the image: {is_pixel_N.sum()} {total} are"
        hint = "divide x and w by the image's width, y and h by its height"
        if is_ordered and len(table) >= MIN_CORNER_BOXES:
            message = f"corners in pixels instead of centers and sizes: {is_pixel_N.sum()} {total} are"
            hint = f"{_CORNER_HINT}; then {hint}"
        return _Mistake(_first(is_pixel_N), message, (hint,))
    is_beyond_N = table.class_N >= classes
    if is_beyond_N.any() and table.class_N.min() == 1 and table.class_N.max() == classes:
        message = f"classes are counted from 1: labels have 1 to {classes}, and the network has 0 to {classes - 1}"
        return _Mistake(_first(is_beyond_N), message, ("subtract 1 from the class in every label file",))
    if is_beyond_N.mean() >= MIN_MISTAKE_FRAC:
        message = f"{is_beyond_N.sum()} {total} have classes beyond the network's last, {classes - 1}"
        hints = ("count the classes from 0", f"a larger classes= than {classes} in the heads, and filters= before them")
        return _Mistake(_first(is_beyond_N), message, hints)
    is_over_start_N = np.minimum(x_N - w_N / 2, y_N - h_N / 2) < -EDGE_TOLERANCE_FRAC
    is_over_end_N = np.maximum(x_N + w_N / 2, y_N + h_N / 2) > 1 + EDGE_TOLERANCE_FRAC
    is_over_N = is_over_start_N | is_over_end_N
    if is_ordered and _is_many(is_over_N):
        message = "boxes look like corners x1 y1 x2 y2 instead of centers:"
        message = f"{message} {is_over_N.sum()} {total} reach over the edge"
        return _Mistake(_first(is_over_N), message, (_CORNER_HINT,))
    is_inside = bool((np.maximum(x_N + w_N, y_N + h_N) <= 1 + EDGE_TOLERANCE_FRAC).all())
    if is_inside and _is_many(is_over_start_N):
        message = (
            f"x and y look like top left corners instead of centers: {is_over_start_N.sum()} {total} reach over the"
            " left or top edge, none over the others"
        )
        return _Mistake(_first(is_over_start_N), message, ("add w / 2 to x and h / 2 to y",))
    return None


_CORNER_HINT = "write (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1"


def _is_many(is_over_N: NDArray[np.bool_]) -> bool:
    return bool(is_over_N.sum() >= MIN_CORNER_BOXES and is_over_N.mean() >= MIN_CORNER_FRAC)


def _first(is_true_N: NDArray[np.bool_]) -> int:
    return int(is_true_N.argmax())
