"""What is in a list of images: classes, sizes, and what is wrong with labels.

Letters: N boxes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpy.data.lists.image_list import ImageList
from darkpy.data.lists.labels import LabelTable

QUANTILES = (0, 5, 25, 50, 75, 95, 100)
"""Percentages of boxes that are no larger than what is told."""
EDGE = 1e-4
"""What rounding may move a box over the edge of its image."""

_WORDS = {
    "per_image": "boxes on an image",
    "width": "width of a box",
    "height": "height of a box",
    "unlabeled": "images without a label file",
    "empty": "images with a label file and without a box",
    "repeated": "lines name an image that stands in the list before",
    "sizeless": "boxes without a size",
    "outside": "boxes outside their image",
    "cut": "boxes that reach over the edge of their image",
    "doubled": "boxes that are there twice",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ListStatistics:
    """One list.

    images: lines of it; of these `unlabeled` have no label file, `empty` one without a box, and `repeated` stand in
        the list once more.
    classes: boxes of each, and images it is on.
    per_image, width, height: QUANTILES of how many boxes an image with labels has, and of their sizes as fractions.
    sizeless, outside, cut, doubled: boxes without a size, not on their image, over its edge, there twice to the last
        digit. problems: lines that are no box.
    """

    images: int
    unlabeled: int
    empty: int
    repeated: int
    boxes: int
    classes: Mapping[str, tuple[int, int]]
    per_image: tuple[float, ...]
    width: tuple[float, ...]
    height: tuple[float, ...]
    sizeless: int
    outside: int
    cut: int
    doubled: int
    problems: tuple[str, ...]

    def as_record(self) -> dict[str, Any]:
        """What a program wants to know."""
        # programs read this key by its first spelling
        record = {name.replace("unlabeled", "unlabelled"): getattr(self, name) for name in self.__slots__}
        record["classes"] = {name: {"boxes": boxes, "images": on} for name, (boxes, on) in self.classes.items()}
        for name in ("per_image", "width", "height"):
            record[name] = {f"{share}%": value for share, value in zip(QUANTILES, record[name], strict=False)}
        return record


def count_list(listed: ImageList, table: LabelTable) -> ListStatistics:
    """The statistics of a list and its labels."""
    has_labels = np.ones(len(listed.images), bool)
    has_labels[list(table.missing)] = False
    per_image = np.bincount(table.image_N, minlength=len(listed.images))
    x_N, y_N, w_N, h_N = table.box_N4.T
    is_sizeless_N = (w_N <= 0) | (h_N <= 0)
    reach_N = np.maximum(np.abs(x_N - 0.5) + w_N / 2, np.abs(y_N - 0.5) + h_N / 2) - 0.5
    gap_N = np.maximum(np.abs(x_N - 0.5) - w_N / 2, np.abs(y_N - 0.5) - h_N / 2) - 0.5
    is_outside_N = ~is_sizeless_N & (gap_N >= 0)
    good_N4 = table.box_N4[~is_sizeless_N]
    return ListStatistics(
        images=len(listed.images),
        unlabeled=len(table.missing),
        empty=int((per_image[has_labels] == 0).sum()),
        repeated=len(listed.images) - len(set(listed.images)),
        boxes=len(table),
        classes=_classes(listed, table),
        per_image=_quantiles(per_image[has_labels]),
        width=_quantiles(good_N4[:, 2]),
        height=_quantiles(good_N4[:, 3]),
        sizeless=int(is_sizeless_N.sum()),
        outside=int(is_outside_N.sum()),
        cut=int((~is_sizeless_N & ~is_outside_N & (reach_N > EDGE)).sum()),
        doubled=_doubled(table),
        problems=table.problems,
    )


def text_lines(key: str, one: ListStatistics) -> Iterator[str]:
    """What a person wants to know of a list."""
    yield f"{key}: {one.images} images, {one.boxes} boxes"
    for name, (boxes, on) in one.classes.items():
        yield f"  {name:<20} {boxes:>8} boxes on {on:>7} images"
    if one.width:
        yield f"  {'at most':<20} {' '.join(f'{share:>8} %' for share in QUANTILES)}"
        for name in ("per_image", "width", "height"):
            values = " ".join(f"{value:>10.4g}" for value in getattr(one, name))
            yield f"  {_WORDS[name]:<20} {values}"
    for name in ("unlabeled", "empty", "repeated", "sizeless", "outside", "cut", "doubled"):
        if count := getattr(one, name):
            yield f"  {count} {_WORDS[name]}"
    if one.problems:
        yield f"  {len(one.problems)} lines of label files are wrong; the first: {one.problems[0]}"


def shared_images(lists: Mapping[str, ImageList]) -> dict[tuple[str, str], int]:
    """How many images two lists have in common: what is trained on should not be judged by."""
    images = {
        key: {str(listed.file(number).absolute()) for number in range(len(listed.images))}
        for key, listed in lists.items()
    }
    counts = {pair: len(images[pair[0]] & images[pair[1]]) for pair in combinations(lists, 2)}
    return {pair: count for pair, count in counts.items() if count}


def _classes(listed: ImageList, table: LabelTable) -> dict[str, tuple[int, int]]:
    boxes = Counter(table.class_N.tolist())
    images = Counter(class_id for _, class_id in set(zip(table.image_N.tolist(), table.class_N.tolist(), strict=True)))
    count = max(len(listed.names), max(boxes, default=-1) + 1)
    return {listed.name(class_id): (boxes[class_id], images[class_id]) for class_id in range(count)}


def _quantiles(values: NDArray[Any]) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in np.percentile(values, QUANTILES)) if len(values) else ()


def _doubled(table: LabelTable) -> int:
    rows = np.column_stack([table.image_N, table.class_N, table.box_N4])
    return len(rows) - len(np.unique(rows, axis=0))
