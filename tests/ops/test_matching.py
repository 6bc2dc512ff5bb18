"""Assignment of targets to predictions."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from darkpy.ops.boxes import BoxCoder
from darkpy.ops.matching import TargetBoxes, best_overlaps, match, match_predictions, read_target_boxes

CODE = BoxCoder(torch.tensor((4, 4)), torch.tensor((100, 100)))
ANCHORS = torch.tensor(((10.0, 10.0), (20.0, 40.0), (40.0, 20.0), (80.0, 80.0)))
SMALL, TALL, WIDE, LARGE = (0.1, 0.1), (0.2, 0.4), (0.4, 0.2), (0.8, 0.8)


def truths(*images: Sequence[tuple[float, ...]]) -> TargetBoxes:
    truth_BTE = torch.zeros(len(images), 8, 5)
    for image, rows in enumerate(images):
        for row, numbers in enumerate(rows):
            truth_BTE[image, row] = torch.tensor(numbers)
    return read_target_boxes(truth_BTE, 3)


def test_a_truth_belongs_to_the_anchor_of_its_size_in_its_cell() -> None:
    found = match(truths([(0.3, 0.6, *TALL, 1)]), CODE, ANCHORS, (1, 2), 1.0, "iou")
    assert (found.cell_M2.tolist(), found.anchor_M.tolist(), found.class_M.tolist()) == ([[1, 2]], [0], [1])


def test_a_truth_whose_anchor_is_another_heads_is_not_matched() -> None:
    assert len(match(truths([(0.3, 0.6, *LARGE, 1)]), CODE, ANCHORS, (0, 1), 1.0, "iou")) == 0


def test_of_anchors_that_fit_alike_the_first_wins() -> None:
    found = match(truths([(0.5, 0.5, 0.3, 0.3, 0)]), CODE, ANCHORS, (2, 1), 1.0, "iou")
    assert found.anchor_M.tolist() == [1]


def test_a_threshold_adds_every_anchor_that_is_like_enough() -> None:
    one = truths([(0.3, 0.6, *TALL, 1)])
    assert match(one, CODE, ANCHORS, (0, 1, 2), 0.3, "iou").anchor_M.tolist() == [1, 2]
    assert match(one, CODE, ANCHORS, (0, 1, 2), 1 / 3, "iou").anchor_M.tolist() == [1]
    assert match(one, CODE, ANCHORS, (0, 1, 2), 0.3, "giou").anchor_M.tolist() == [1]


def test_truths_that_share_a_prediction_know_who_comes_first_and_last() -> None:
    company = [(0.3, 0.6, *TALL, 1), (0.3, 0.6, *WIDE, 0), (0.31, 0.61, *TALL, 2), (0.32, 0.6, *TALL, 1)]
    found = match(truths(company, company[:1]), CODE, ANCHORS, (0, 1, 2), 1.0, "iou")
    assert found.image_M.tolist() == [0, 0, 0, 0, 1]
    assert found.row_M.tolist() == [0, 1, 2, 3, 0]
    assert (found.first_P.tolist(), found.later_P.tolist()) == ([0, 1, 4], [2, 3])
    assert found.last_P.tolist() == [1, 3, 4]


def test_overlaps_are_with_truths_of_the_own_image_and_0_without_any() -> None:
    found = truths([(0.5, 0.5, *LARGE, 1), (0.2, 0.2, *SMALL, 2)], [])
    pred_frac_BHWA4 = torch.tensor([0.2, 0.2, *SMALL]).expand(2, 1, 1, 1, 4)
    overlap_BHWA, row_BHWA = best_overlaps(found, pred_frac_BHWA4)
    assert torch.allclose(overlap_BHWA.flatten(), torch.tensor((1.0, 0.0)))
    assert row_BHWA[0].item() == 1
    matches = match_predictions(found, row_BHWA, overlap_BHWA > 0.5)
    assert (matches.image_M.tolist(), matches.class_M.tolist()) == ([0], [2])


def test_nothing_matches_nothing() -> None:
    none = truths([], [])
    assert len(match(none, CODE, ANCHORS, (0, 1, 2), 0.1, "ciou")) == 0
    assert len(match_predictions(none, torch.zeros(2, 4, 4, 3, dtype=torch.long), torch.zeros(2, 4, 4, 3).bool())) == 0
