"""Anchors as AlexeyAB's `calc_anchors` writes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from darkpy.anchors.kmeans import Floats
from darkpy.data.lists.labels import LabelTable


def pixels(table: LabelTable, width: int, height: int) -> Floats:
    """The sizes of the boxes on the network's input. Shapes: (N, 2).

    Differs: a box with a side below 0, or a million images long, does not count; darknet's takes both for large ones.
    """
    sizes_N2 = table.box_N4[:, 2:]
    return sizes_N2[((sizes_N2 >= 0) & (sizes_N2 <= 1e6)).all(1)] * (width, height)


def class_counts(table: LabelTable, classes: int) -> list[int]:
    """How many boxes each class has; classes that labels know and `classes` does not are there, too."""
    counts: list[int] = np.bincount(table.class_N, minlength=classes).tolist()
    return counts


def anchors_text(anchors_K2: Floats, width: int) -> str:
    """Pairs of whole numbers for a network wider than 32, else of four decimals.

    Source: AlexeyAB/darknet src/detector.c calc_anchors
    """
    pairs = (f"{w:3.0f},{h:3.0f}" if width > 32 else f"{w:2.4f},{h:2.4f}" for w, h in anchors_K2.tolist())
    return ", ".join(pairs)


def counters_text(counts: Iterable[int]) -> str:
    """A line for the cfg's heads."""
    return f"counters_per_class = {', '.join(map(str, counts))}"


def wrong_boxes(table: LabelTable) -> Iterator[str]:
    """A line for each box with a number that is not above 0 and at most 1.

    Source: AlexeyAB/darknet src/detector.c calc_anchors
    """
    is_wrong_N = ((table.box_N4 > 1) | (table.box_N4 <= 0)).any(1)
    first_N = np.searchsorted(table.image_N, table.image_N)  # the place of each image's first box
    for place in np.flatnonzero(is_wrong_N).tolist():
        image = int(table.image_N[place])
        x, y, w, h = table.box_N4[place]
        j = place - int(first_N[place])
        yield f"Wrong label: {table.files[image]} - j = {j}, x = {x:f}, y = {y:f}, width = {w:f}, height = {h:f}"
