"""Confusion, kinds of errors and the worst ones, on cases with a known answer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from darkpy.errors import ImageError
from darkpy.evaluation.average_precision import AveragePrecision
from darkpy.evaluation.detect import ImageStatus
from darkpy.evaluation.error_analysis import MAX_LISTED_ERRORS, DetectionErrors, ErrorAnalysis
from darkpy.evaluation.ground_truth import GroundTruth
from darkpy.ops.boxes import Detections

A, B, C, D = (0.2, 0.2, 0.2, 0.2), (0.7, 0.2, 0.2, 0.2), (0.2, 0.7, 0.2, 0.2), (0.7, 0.7, 0.2, 0.2)
"""Four places that do not overlap."""
CAT, DOG, HEN = range(3)

Box = tuple[float, ...]


def shifted(box: Box, part: float) -> Box:
    """The box moved to the right by a part of its width: an IoU of (1 - part) / (1 + part)."""
    return (box[0] + part * box[2], *box[1:])


def analyse(
    truths: Sequence[tuple[int, int, Box]],
    boxes: Sequence[tuple[int, int, Box, float]],
    *,
    images: int = 2,
    batches: int = 1,
    statuses: list[ImageStatus] | None = None,
) -> DetectionErrors:
    """Errors of detections (image, class, box, score) above a threshold of .25."""
    table = torch.tensor([(image, class_id, *box) for image, class_id, box in truths]).view(-1, 6)
    truth = GroundTruth(table[:, 0].long(), table[:, 1].long(), table[:, 2:])
    analysis = ErrorAnalysis(AveragePrecision(truth, 3), truth, 3, images)
    for batch in range(batches):
        rows = [row for row in boxes if row[0] * batches // images == batch]
        prob_MK = torch.zeros(len(rows), 3)
        for index, (_, class_id, _, score) in enumerate(rows):
            prob_MK[index, class_id] = score
        image_M = torch.tensor([row[0] for row in rows], dtype=torch.int64)
        boxes_M4 = torch.tensor([row[2] for row in rows]).view(-1, 4)
        analysis.add(Detections(image_M, boxes_M4, torch.ones(len(rows)), prob_MK))
    return analysis.result(statuses or [ImageStatus(index, f"{index}.png", (200, 200)) for index in range(images)])


TRUTHS = [(0, CAT, A), (0, DOG, B), (0, HEN, C), (0, CAT, D), (1, DOG, A), (1, DOG, B)]
BOXES = [
    (0, CAT, A, 0.9),  # correct
    (0, CAT, shifted(A, 0.05), 0.8),  # a second box
    (0, HEN, B, 0.7),  # a dog taken for a hen
    (0, HEN, shifted(C, 0.5), 0.6),  # IoU 1/3 with the hen
    (0, DOG, (0.45, 0.45, 0.1, 0.1), 0.5),  # nothing there
    (0, CAT, D, 0.1),  # below the threshold
    (1, DOG, A, 0.95),
    (1, CAT, shifted(B, 0.5), 0.3),  # IoU 1/3 with a dog
]


def test_confusion_of_a_case_by_hand() -> None:
    errors = analyse(TRUTHS, BOXES)
    assert set(errors.confusion) == {
        (CAT, CAT, 1),
        (DOG, HEN, 1),
        (DOG, DOG, 1),
        (HEN, -1, 1),
        (CAT, -1, 1),
        (DOG, -1, 1),
        (-1, CAT, 2),
        (-1, HEN, 1),
        (-1, DOG, 1),
    }
    assert errors.wrong_class == ((DOG, HEN, 1),)


def test_object_goes_to_the_highest_score_of_any_class_and_the_next_one_gets_what_is_left() -> None:
    """Both overlap the first object most; the dog's detection comes first, the cat's takes the other object."""
    near = shifted(A, 0.2)
    errors = analyse([(0, CAT, A), (0, CAT, near)], [(0, CAT, A, 0.6), (0, DOG, A, 0.9)])
    assert set(errors.confusion) == {(CAT, DOG, 1), (CAT, CAT, 1)}


def test_every_error_has_its_kind() -> None:
    errors = analyse(TRUTHS, BOXES)
    kinds = {"duplicate": 1, "wrong_class": 1, "poorly_placed": 1, "both": 1, "background": 1}
    assert errors.false_positives == kinds
    missed = {"wrong_class": 1, "below_thresh": 1, "poorly_placed": 1, "not_detected": 1, "unreadable": 0}
    assert errors.missed == missed
    assert errors.truths_I.tolist() == [4, 2]
    assert errors.tp_I.tolist() == [1, 1] and errors.fp_I.tolist() == [4, 1]


def test_batches_change_nothing() -> None:
    whole, parts = analyse(TRUTHS, BOXES), analyse(TRUTHS, BOXES, batches=2)
    assert whole.confusion == parts.confusion and whole.false_positives == parts.false_positives
    assert whole.worst_false_positives == parts.worst_false_positives and whole.worst_missed == parts.worst_missed


def test_worst_errors_come_with_their_reason() -> None:
    errors = analyse(TRUTHS, BOXES)
    first, second, *_ = errors.worst_false_positives
    assert (first.kind, first.class_id, first.other_class_id) == ("duplicate", CAT, CAT)
    assert first.score == pytest.approx(0.8) and first.iou == pytest.approx(0.95 / 1.05, abs=1e-4)
    assert (second.kind, second.class_id, second.other_class_id) == ("wrong_class", HEN, DOG)
    assert len(errors.worst_false_positives) == 3, "two of an image at most"
    by_class = {error.class_id: error for error in errors.worst_missed}
    assert by_class[DOG].kind in ("wrong_class", "not_detected") and by_class[HEN].kind == "poorly_placed"


def test_lists_of_errors_stay_short_and_hold_the_worst() -> None:
    boxes = [(image, CAT, A, 0.3 + image / 200) for image in range(100)]
    truths = [(image, DOG, D) for image in range(100)]
    errors = analyse(truths, boxes, images=100, batches=10)
    assert len(errors.worst_false_positives) == len(errors.worst_missed) == MAX_LISTED_ERRORS
    assert [error.image for error in errors.worst_false_positives[:3]] == [99, 98, 97]


def test_sizes_are_cocos_in_pixels_of_each_image() -> None:
    """A fifth of 100 pixels is small, of 200 medium, of 1000 large."""
    statuses = [ImageStatus(index, "x", (side, side)) for index, side in enumerate((100, 200, 1000))]
    truths = [(0, CAT, A), (1, CAT, A), (2, CAT, A), (2, CAT, D)]
    errors = analyse(truths, [(2, CAT, A, 0.9)], images=3, statuses=statuses)
    assert [(size.name, size.truths, size.found) for size in errors.sizes] == [
        ("small", 1, 0),
        ("medium", 1, 0),
        ("large", 2, 1),
    ]


def test_objects_on_unreadable_images_are_missed_for_that_reason() -> None:
    statuses = [ImageStatus(0, "x", error=ImageError("x: is empty")), ImageStatus(1, "y", (200, 200))]
    errors = analyse(TRUTHS, [BOXES[6]], statuses=statuses)
    assert errors.missed["unreadable"] == 4 and errors.missed["not_detected"] == 1
    assert sum(size.truths for size in errors.sizes) == 2
    assert {error.image for error in errors.worst_missed} == {1}


def test_without_detections_all_is_missed_and_without_truth_all_is_background() -> None:
    assert set(analyse([(0, CAT, A)], []).confusion) == {(CAT, -1, 1)}
    errors = analyse([], [(0, CAT, A, 0.9)])
    assert errors.confusion == ((-1, CAT, 1),) and errors.false_positives["background"] == 1
    assert analyse([], []).confusion == ()


def test_box_with_nan_is_a_false_positive_on_the_background() -> None:
    errors = analyse([(0, CAT, A)], [(0, CAT, (math.nan, 0.2, 0.2, 0.2), 0.9)])
    assert errors.false_positives["background"] == 1 and errors.missed["not_detected"] == 1
