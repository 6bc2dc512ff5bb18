"""Output of AlexeyAB's `calc_anchors`, to the character."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from darkpy.anchors.kmeans import Floats
from darkpy.data.lists.labels import LabelTable


def pixels(table: LabelTable, width: int, height: int) -> Floats:
    """Return the sizes of the boxes in pixels of the network's input. Shapes: (N, 2).

    Differs: boxes with a negative side, or one a million images long, are left out; darknet treats both as large.
    """
    sizes_N2 = table.box_N4[:, 2:]
    return sizes_N2[((sizes_N2 >= 0) & (sizes_N2 <= 1e6)).all(1)] * (width, height)


def class_counts(table: LabelTable, classes: int) -> list[int]:
    """Count the boxes of each class, including classes of the labels beyond `classes`."""
    counts: list[int] = np.bincount(table.class_N, minlength=classes).tolist()
    return counts


def anchors_text(anchors_K2: Floats, width: int) -> str:
    """Format pairs as integers for a network wider than 32, else with four decimals: then they are in cells.

    Source: AlexeyAB/darknet src/detector.c calc_anchors
    """
    pairs = (f"{w:3.0f},{h:3.0f}" if width > 32 else f"{w:2.4f},{h:2.4f}" for w, h in anchors_K2.tolist())
    return ", ".join(pairs)


def counters_text(counts: Iterable[int]) -> str:
    """Format the key counters_per_class of the heads."""
    return f"counters_per_class = {', '.join(map(str, counts))}"


def wrong_boxes(table: LabelTable) -> Iterator[str]:
    """Yield a line for each box with a number outside 0 < number <= 1.

    Source: AlexeyAB/darknet src/detector.c calc_anchors
    """
    is_wrong_N = ((table.box_N4 > 1) | (table.box_N4 <= 0)).any(1)
    first_N = np.searchsorted(table.image_N, table.image_N)  # index of the first box of each box's image
    for index in np.flatnonzero(is_wrong_N).tolist():
        image = int(table.image_N[index])
        x, y, w, h = table.box_N4[index]
        j = index - int(first_N[index])
        yield f"Wrong label: {table.files[image]} - j = {j}, x = {x:f}, y = {y:f}, width = {w:f}, height = {h:f}"
