"""pycocotools' numbers on cases that can be done by hand."""

from __future__ import annotations

import pytest
import torch

from darkpy.evaluation.coco import COCO_STATS, CocoPrecision, coco_precision
from darkpy.evaluation.detect import ImageStatus
from darkpy.evaluation.detection_store import DetectionStore
from darkpy.evaluation.ground_truth import GroundTruth
from darkpy.ops.boxes import Detections

IMAGES = [ImageStatus(0, "a.jpg", (200, 200)), ImageStatus(1, "b.jpg", (200, 200))]
WHOLE = (0.5, 0.5, 0.5, 0.5)
SEVENTY_PERCENT = (0.5, 0.5, 0.5, 0.35)


def judge(*rows: tuple[int, tuple[float, ...], tuple[float, ...]]) -> CocoPrecision:
    """Class 0 has an object on each image, class 1 one on the first, class 2 none."""
    truths = GroundTruth(torch.tensor([0, 1, 0]), torch.tensor([0, 0, 1]), torch.tensor([WHOLE] * 3))
    detections = DetectionStore()
    if rows:
        image_M, boxes_M4, prob_MK = (torch.tensor(column) for column in zip(*rows, strict=True))
        detections.add(Detections(image_M, boxes_M4, torch.ones(len(rows)), prob_MK))
    return coco_precision(detections, truths, IMAGES, 3)


def test_all_found_is_one_and_classes_without_an_object_do_not_count() -> None:
    detections = judge((0, WHOLE, (0.9, 0.8, 0.7)), (1, WHOLE, (0.9, 0.0, 0.0)))
    assert tuple(detections.stats) == COCO_STATS
    assert detections.stats["AP"] == pytest.approx(1)
    assert detections.classes[0] == pytest.approx((1, 1)) == detections.classes[1]
    assert detections.classes[2] == (None, None)


def test_each_overlap_counts_a_tenth() -> None:
    """An overlap of .7 is enough for .50 to .65; floats decide about .70 itself."""
    detections = judge(
        (0, WHOLE, (0.0, 0.8, 0.0)), (0, SEVENTY_PERCENT, (0.9, 0.0, 0.0)), (1, SEVENTY_PERCENT, (0.9, 0.0, 0.0))
    )
    everywhere, half = detections.classes[0]
    assert everywhere is not None and 0.39 < everywhere < 0.51
    assert half == pytest.approx(1) and detections.stats["AP75"] == pytest.approx(0.5)


def test_size_that_no_object_has_is_not_a_number() -> None:
    stats = judge((0, WHOLE, (0.9, 0.8, 0.0))).stats
    assert stats["AP_small"] is None and stats["AP_large"] is not None


def test_nothing_found_is_nought() -> None:
    detections = judge()
    assert (detections.stats["AP"], detections.classes[0], detections.classes[2]) == (0, (0, 0), (None, None))


def test_pycocotools_keeps_silent(capsys: pytest.CaptureFixture[str]) -> None:
    judge()
    assert capsys.readouterr() == ("", "")
