"""AlexeyAB's texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from darkpy.anchors.format import anchors_text, class_counts, counters_text, pixels, wrong_boxes
from darkpy.data.lists.labels import LabelTable, read_label_table


def table(tmp_path: Path) -> LabelTable:
    (tmp_path / "a.txt").write_text("0 .5 .5 .5 .25\n2 0 .5 .1 .1\n")
    (tmp_path / "b.txt").write_text("0 .5 .5 .5 -.5\n0 .5 .5 1.5 0\n0 .5 .5 1e30 .1\n")
    return read_label_table(["a.jpg", "b.jpg"], tmp_path)


def test_anchors_are_whole_numbers_or_cells() -> None:
    anchors_K2 = np.array([(9.6, 12.4), (100.0, 200.0)])
    assert anchors_text(anchors_K2, 33) == " 10, 12, 100,200"
    assert anchors_text(anchors_K2, 32) == "9.6000,12.4000, 100.0000,200.0000"


def test_counts_go_beyond_the_classes_where_labels_do(tmp_path: Path) -> None:
    counts = class_counts(table(tmp_path), 2)
    assert counters_text(counts) == "counters_per_class = 4, 0, 1"
    assert class_counts(table(tmp_path), 5) == [4, 0, 1, 0, 0]


def test_wrong_boxes_are_reported_with_their_index_in_the_file(tmp_path: Path) -> None:
    a, b = tmp_path / "a.txt", tmp_path / "b.txt"
    assert list(wrong_boxes(table(tmp_path))) == [
        f"Wrong label: {a} - j = 1, x = 0.000000, y = 0.500000, width = 0.100000, height = 0.100000",
        f"Wrong label: {b} - j = 0, x = 0.500000, y = 0.500000, width = 0.500000, height = -0.500000",
        f"Wrong label: {b} - j = 1, x = 0.500000, y = 0.500000, width = 1.500000, height = 0.000000",
        f"Wrong label: {b} - j = 2, x = 0.500000, y = 0.500000, width = {1e30:f}, height = 0.100000",
    ]


def test_sizes_are_pixels_of_the_input(tmp_path: Path) -> None:
    assert pixels(table(tmp_path), 100, 200).tolist() == [[50, 50], [10, 20], [150, 0]]
