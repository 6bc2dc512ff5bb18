from __future__ import annotations

import pytest
import torch

from darkpy.errors import DarkpyError
from darkpy.evaluation.result import Object, to_objects
from darkpy.ops.boxes import Detections

PAIR = Detections(
    image_M=torch.tensor([1, 0, 1]),
    boxes_M4=torch.tensor([[0.5, 0.5, 0.25, 0.25], [0.25, 0.5, 0.5, 0.5], [0.75, 0.5, -0.5, 2.0]]),
    objectness_M=torch.tensor([0.75, 0.5, 1.0]),
    prob_MK=torch.tensor([[0.25, 0.75], [0.5, 0.0], [0.5, 0.0]]),
)
NAMES = ["dog", "cat"]


def test_of_gives_the_candidates_of_one_image_in_order() -> None:
    assert PAIR.of(1).objectness_M.tolist() == [0.75, 1.0]
    assert len(PAIR.of(0)) == 1
    assert len(PAIR.of(7)) == 0


def test_select_keeps_every_column_together() -> None:
    last = PAIR.select(torch.tensor([False, False, True]))
    assert last.image_M.tolist() == [1]
    assert last.boxes_M4.tolist() == [[0.75, 0.5, -0.5, 2.0]]
    assert last.objectness_M.tolist() == [1.0]
    assert last.prob_MK.tolist() == [[0.5, 0.0]]


def test_cat_puts_one_part_after_the_other() -> None:
    both = Detections.cat([PAIR.of(0), PAIR])
    assert len(both) == 4
    assert both.image_M.tolist() == [0, 1, 0, 1]
    assert torch.equal(both.boxes_M4[1:], PAIR.boxes_M4)
    assert torch.equal(both.objectness_M[1:], PAIR.objectness_M)
    assert torch.equal(both.prob_MK[1:], PAIR.prob_MK)


def test_to_moves_every_column() -> None:
    moved = PAIR.to("meta")
    columns = (moved.image_M, moved.boxes_M4, moved.objectness_M, moved.prob_MK)
    assert {column.device.type for column in columns} == {"meta"}


def test_objects_are_one_for_each_class_above_thresh_in_detection_order() -> None:
    assert to_objects(PAIR, 1, NAMES, 0.2) == [
        Object(0, "dog", 0.25, (0.5, 0.5, 0.25, 0.25)),
        Object(1, "cat", 0.75, (0.5, 0.5, 0.25, 0.25)),
        Object(0, "dog", 0.5, (0.75, 0.5, -0.5, 2.0)),
    ]


def test_a_score_equal_to_thresh_is_no_object() -> None:
    assert to_objects(PAIR, 0, NAMES, 0.5) == []


def test_boxes_of_objects_are_not_clipped() -> None:
    assert to_objects(PAIR, 1, NAMES, 0.4)[-1].box_frac == (0.75, 0.5, -0.5, 2.0)


def test_too_few_names_are_an_error_that_gives_both_numbers() -> None:
    with pytest.raises(DarkpyError, match=r"2 classes.* 1\b"):
        to_objects(PAIR, 1, ["dog"], 0.2)
