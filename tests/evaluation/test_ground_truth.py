from __future__ import annotations

from pathlib import Path

import pytest

from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.evaluation.ground_truth import read_ground_truth


def write_labels(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path.with_suffix(".jpg")


def test_objects_know_the_number_of_their_image(tmp_path: Path) -> None:
    paths = [
        write_labels(tmp_path / "a.txt", "0 .5 .5 .25 .25\n1 .25 .5 .25 .25\n"),
        write_labels(tmp_path / "b.txt", ""),
    ]
    paths.append(write_labels(tmp_path / "c.txt", "2 .5 .5 .5 .5"))
    truths = read_ground_truth(paths, Dialect.ALEXEYAB, 3)
    assert (truths.image_N.tolist(), truths.class_N.tolist(), len(truths)) == ([0, 0, 2], [0, 1, 2], 3)
    assert truths.boxes_N4[1].tolist() == [0.25, 0.5, 0.25, 0.25]
    assert (truths.missing, truths.problems) == ((), ())


def test_labels_are_where_the_dialect_looks_for_them(tmp_path: Path) -> None:
    write_labels(tmp_path / "labels" / "a.txt", "0 .5 .5 .5 .5")
    image = tmp_path / "images" / "a.jpg"
    assert len(read_ground_truth([image], Dialect.PJREDDIE, 1)) == 1
    assert len(read_ground_truth([image], Dialect.ALEXEYAB, 1)) == 1  # no file where this darknet looks
    write_labels(tmp_path / "images" / "a.txt", "")
    assert len(read_ground_truth([image], Dialect.ALEXEYAB, 1)) == 0
    other = tmp_path / "images" / "b.jpg"
    with pytest.raises(
        DarkpyError, match=r"b\.jpg: file not found, nor is any other image of the list\n  hint: paths in"
    ):
        read_ground_truth([other], Dialect.ALEXEYAB, 1)
    other.touch()
    with pytest.raises(DarkpyError, match="no image of the list has labels"):
        read_ground_truth([other], Dialect.ALEXEYAB, 1)


def test_image_without_labels_has_no_objects_and_is_reported(tmp_path: Path) -> None:
    paths = [tmp_path / "a.jpg", write_labels(tmp_path / "b.txt", "0 .5 .5 .5 .5"), tmp_path / "c.heap"]
    truths = read_ground_truth(paths, Dialect.ALEXEYAB, 1)
    assert truths.image_N.tolist() == [1]
    assert len(truths.missing) == 2 and str(tmp_path / "a.txt") in truths.missing[0]


def test_invalid_line_is_reported_and_ignored(tmp_path: Path) -> None:
    path = write_labels(tmp_path / "a.txt", "7 .5 .5 .5 .5\n0 .5 .5 .5 .5\n0 .5 .5 0 .5\n")
    truths = read_ground_truth([path], Dialect.ALEXEYAB, 2)
    assert len(truths) == 1 and len(truths.problems) == 2
    assert truths.problems[0].startswith(f"{path.with_suffix('.txt')}:1: ")
