from __future__ import annotations

import pytest
import torch

from darkpy.evaluation import truth_matching
from darkpy.evaluation.truth_matching import GroupedGroundTruth, first_occurrences, match_greedily
from darkpy.ops.boxes import iou


@pytest.mark.parametrize("pairs", [1, 7, 1 << 20])
def test_truth_that_is_found_is_the_best_of_its_group_however_many_are_compared_at_once(
    pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(truth_matching, "MAX_PAIRS", pairs)
    rng = torch.Generator().manual_seed(1)
    boxes_D4, boxes_T4 = (torch.rand(count, 4, generator=rng) * 0.5 + 0.1 for count in (200, 90))
    group_D, group_T = (torch.randint(7, (count,), generator=rng) for count in (200, 90))
    iou_DT = iou(boxes_D4[:, None], boxes_T4) * (group_D[:, None] == group_T)
    truths = GroupedGroundTruth(boxes_T4, group_T)

    truth_D, iou_D = truths.find(boxes_D4, group_D, 0.4)
    most_D, best_D = iou_DT.max(dim=1)
    assert torch.equal(truth_D, torch.where(most_D > 0.4, best_D, -1))
    assert torch.equal(iou_D, torch.where(most_D > 0.4, most_D, 0))
    assert torch.equal(truths.best_iou_per_truth(boxes_D4, group_D), iou_DT.max(dim=0).values)


def test_where_there_are_no_truths_none_is_found() -> None:
    truths = GroupedGroundTruth(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    truth_D, iou_D = truths.find(torch.ones(2, 4), torch.tensor([0, 1]), 0.5)
    assert (truth_D.tolist(), iou_D.tolist()) == ([-1, -1], [0, 0])


def test_first_of_each_number_is_marked() -> None:
    numbers = torch.tensor([2, -1, 0, 2, 0, -1, 1])
    assert first_occurrences(numbers, 3).tolist() == [True, False, True, False, False, False, True]
    assert first_occurrences(torch.full((3,), -1), 0).tolist() == [False] * 3


def test_greedy_matching_is_that_of_a_loop_over_the_detections() -> None:
    """Equal scores and equal overlaps included."""
    for seed in range(60):
        rng = torch.Generator().manual_seed(seed)
        detections, objects = int(torch.randint(12, (1,), generator=rng)), int(torch.randint(1, 8, (1,), generator=rng))
        detection_P, truth_P = (torch.rand(detections, objects, generator=rng) < 0.6).nonzero().unbind(1)
        overlap_P = (torch.rand(len(detection_P), generator=rng) * 5).round() / 5
        score_D = (torch.rand(detections, generator=rng) * 6).round() / 6

        expected, taken = [-1] * detections, set()
        for detection in sorted(range(detections), key=lambda index: -float(score_D[index])):
            pairs = [p for p in range(len(truth_P)) if detection_P[p] == detection and int(truth_P[p]) not in taken]
            if pairs:
                expected[detection] = int(truth_P[min(pairs, key=lambda p: (-float(overlap_P[p]), int(truth_P[p])))])
                taken.add(expected[detection])
        assert match_greedily(detection_P, truth_P, overlap_P, score_D).tolist() == expected
