"""Thresholds, curves and calibration against cases done by hand, AlexeyAB's counts and pycocotools."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from darkpy.evaluation.average_precision import AveragePrecision, RankedDetections
from darkpy.evaluation.ground_truth import GroundTruth
from darkpy.evaluation.score_sweep import (
    RECALL_POINTS,
    best_thresholds,
    calibrate,
    counts_above,
    precision_at_recall,
)
from darkpy.ops.boxes import Detections

CLASSES, IMAGES = 3, 20


def ranked(*rows: tuple[int, float, bool], truths: tuple[int, ...]) -> RankedDetections:
    """Detections of a class, a score, correct or not; the highest score of a class first."""
    rows = tuple(sorted(rows, key=lambda row: (row[0], -row[1])))
    class_N, score_N, is_tp_N = zip(*rows, strict=True) if rows else ((), (), ())
    return RankedDetections(
        torch.tensor(class_N, dtype=torch.int64),
        torch.tensor(score_N),
        torch.tensor(is_tp_N, dtype=torch.bool),
        torch.tensor(truths),
    )


def random_run(seed: int) -> tuple[GroundTruth, Detections]:
    """Objects far apart, and detections that are on one of them or nowhere."""
    rng = torch.Generator().manual_seed(seed)
    image_N = torch.randint(IMAGES, (60,), generator=rng)
    class_N = torch.randint(CLASSES, (60,), generator=rng)
    place_N = torch.arange(60) / 60
    boxes_N4 = torch.stack((place_N, place_N, torch.full((60,), 0.01), torch.full((60,), 0.01)), dim=1)
    chosen_M = torch.randperm(60, generator=rng)[:50]
    boxes_M4 = boxes_N4[chosen_M].clone()
    boxes_M4[::3, 0] += 0.5 / 60  # beside every object
    score_M = torch.rand(50, generator=rng) * 0.9 + 0.05
    prob_MK = torch.zeros(50, CLASSES)
    prob_MK[torch.arange(50), torch.where(torch.arange(50) % 7 == 0, 0, class_N[chosen_M])] = score_M
    return GroundTruth(image_N, class_N, boxes_N4), Detections(image_N[chosen_M], boxes_M4, score_M, prob_MK)


def ranking(
    truth: GroundTruth, detections: Detections, thresh: float = 0.25, difficult: GroundTruth | None = None
) -> AveragePrecision:
    precision = AveragePrecision(truth, CLASSES, thresh=thresh, difficult=difficult)
    precision.add(detections)
    return precision


def test_box_with_a_low_score_takes_its_object_as_in_detector_map_if_it_comes_first() -> None:
    """AlexeyAB's program counts in the order of the boxes: the second box is false, however high its score."""
    box = (0.5, 0.5, 0.2, 0.2)
    truth = GroundTruth(torch.tensor([0]), torch.tensor([0]), torch.tensor([box]))
    prob_MK = torch.tensor([[0.1, 0, 0], [0.9, 0, 0]])
    detections = Detections(torch.tensor([0, 0]), torch.tensor([box, box]), torch.ones(2), prob_MK)
    precision = ranking(truth, detections, 0.5)
    assert (precision.result().tp, precision.result().fp) == (0, 1)
    assert precision.result().classes[0].average_precision == 1
    tp_KS, fp_KS = counts_above(precision.ranked(in_order=True))
    assert (tp_KS[0, [5, 50]].tolist(), fp_KS[0, [5, 50]].tolist()) == ([1, 0], [1, 1])
    assert precision.ranked().is_tp_N.tolist() == [True, False]


@pytest.mark.parametrize("difficult", [0, 25, 60])
@pytest.mark.parametrize("thresh", [0.0, 0.25, 0.63, 0.9, 1.0])
def test_counts_at_a_threshold_are_those_of_detector_map(thresh: float, difficult: int) -> None:
    """Also with difficult objects: what matches only these is not ranked, but counts as false in both."""
    truth, detections = random_run(1)
    apart = GroundTruth(truth.image_N[:difficult], truth.class_N[:difficult], truth.boxes_N4[:difficult])
    truth = GroundTruth(truth.image_N[difficult:], truth.class_N[difficult:], truth.boxes_N4[difficult:])
    precision = ranking(truth, detections, difficult=apart)
    tp_KS, fp_KS = counts_above(precision.ranked(in_order=True))
    result = ranking(truth, detections, thresh, apart).result()
    assert result.fp + result.tp == (detections.prob_MK > torch.tensor(thresh)).sum()
    assert (len(precision.ranked().score_N) < 50) == bool(difficult)
    step = round(100 * thresh)
    assert tp_KS[:, step].tolist() == [row.tp for row in result.classes]
    assert fp_KS[:, step].tolist() == [row.fp for row in result.classes]


def test_score_equal_to_a_threshold_is_not_above_it() -> None:
    tp_KS, _ = counts_above(ranked((0, 0.63, True), truths=(1,)))
    assert (int(tp_KS[0, 62]), int(tp_KS[0, 63])) == (1, 0)


def test_best_threshold_has_the_highest_f1_and_is_the_middle_one() -> None:
    """Of three objects two are found above .605, with one mistake below: F1 is .8 from .41 to .60."""
    rows = ((0, 0.9, True), (0, 0.605, True), (0, 0.405, False), (0, 0.305, False))
    table = ranked(*rows, (1, 0.5, False), truths=(3, 1, 0))
    first, wrong, absent = best_thresholds(*counts_above(table), table.truths_K)
    assert first is not None and (wrong, absent) == (None, None)
    assert (first.thresh, first.f1) == pytest.approx((0.5, 0.8))
    assert (first.precision, first.recall) == pytest.approx((1, 2 / 3))


def test_nothing_detected_has_no_best_threshold_and_no_curve() -> None:
    table = ranked(truths=(2, 0))
    tp_KS, fp_KS = counts_above(table)
    assert best_thresholds(tp_KS, fp_KS, table.truths_K) == [None, None]
    assert not precision_at_recall(table).any() and not tp_KS.any() and not fp_KS.any()


def test_precision_at_recall_is_the_best_at_this_recall_or_a_later_one() -> None:
    """Right, wrong, right of four objects: 1 up to a recall of .25, 2/3 up to .5, then nothing."""
    table = ranked((0, 0.9, True), (0, 0.8, False), (0, 0.7, True), truths=(4,))
    (curve,) = precision_at_recall(table).tolist()
    assert len(curve) == RECALL_POINTS
    assert (curve[0], curve[25], curve[26], curve[50], curve[51]) == pytest.approx((1, 1, 2 / 3, 2 / 3, 0))


def test_precision_at_recall_is_that_of_pycocotools() -> None:
    coco_module = pytest.importorskip("pycocotools.coco")
    evaluation_module = pytest.importorskip("pycocotools.cocoeval")
    truth, detections = random_run(2)

    def data(image_N: Tensor, class_N: Tensor, boxes_N4: Tensor, score_N: Tensor) -> object:
        rows = zip(image_N.tolist(), class_N.tolist(), boxes_N4.double().tolist(), score_N.tolist(), strict=True)
        annotations = [
            {
                "id": index,
                "image_id": image,
                "category_id": class_id,
                "score": score,
                "iscrowd": 0,
                "bbox": [1e4 * (x - w / 2), 1e4 * (y - h / 2), 1e4 * w, 1e4 * h],
                "area": 1e8 * w * h,
            }
            for index, (image, class_id, (x, y, w, h), score) in enumerate(rows, start=1)
        ]
        data_set = coco_module.COCO()
        data_set.dataset = {
            "images": [{"id": image} for image in range(IMAGES)],
            "categories": [{"id": class_id} for class_id in range(CLASSES)],
            "annotations": annotations,
        }
        data_set.createIndex()
        return data_set

    score_M, class_M = detections.prob_MK.max(1)
    evaluation = evaluation_module.COCOeval(
        data(truth.image_N, truth.class_N, truth.boxes_N4, torch.ones(len(truth))),
        data(detections.image_M, class_M, detections.boxes_M4, score_M),
        "bbox",
    )
    evaluation.evaluate()
    evaluation.accumulate()
    expected_RK = torch.from_numpy(evaluation.eval["precision"][0, :, :, 0, -1])
    assert torch.allclose(precision_at_recall(ranking(truth, detections).ranked()), expected_RK.T, atol=1e-12)


def test_calibration_of_a_case_by_hand() -> None:
    """Four scores of .75 with three correct ones are right; two of .95, both wrong, are .95 too high."""
    scores = torch.tensor([0.75] * 4 + [0.95] * 2, dtype=torch.float64)
    calibration = calibrate(scores, torch.tensor([True, True, True, False, False, False]))
    assert calibration.ece == pytest.approx(2 / 6 * 0.95)
    assert calibration.gap == pytest.approx(4.9 / 6 - 0.5)
    filled = [bin_ for bin_ in calibration.bins if bin_.count]
    assert [(bin_.low, bin_.count, bin_.correct) for bin_ in filled] == [(0.7, 4, 0.75), (0.9, 2, 0.0)]
    assert calibration.bins[0].score is None


def test_calibration_of_nothing_is_none_and_a_score_of_1_is_in_the_last_bin() -> None:
    assert calibrate(torch.zeros(0), torch.zeros(0, dtype=torch.bool)).ece is None
    assert calibrate(torch.ones(1), torch.ones(1, dtype=torch.bool)).bins[-1].count == 1
