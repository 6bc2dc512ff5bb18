"""darkpy's mAP against what AlexeyAB's program printed, a published example, and a slow implementation of the rules.

The golden holds made-up detections (image, x, y, w, h, a score for each class), truths and difficult objects (image,
class, x, y, w, h), and for some command lines the lines that `detector map` printed when it was fed with them.
"""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from darkpy.evaluation.average_precision import AveragePrecision, MeanAveragePrecision
from darkpy.evaluation.ground_truth import GroundTruth
from darkpy.evaluation.metric_tables import map_lines
from darkpy.ops.boxes import Detections

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "average-precision.npz")
ANSWERS = {str(words): str(text) for words, text in GOLDEN["answers"]}
SQUARE = (0.5, 0.5, 0.25, 0.25)
"""A box; moved to the side by an eighth it overlaps itself by a third."""


class Object(NamedTuple):
    image: int
    class_id: int
    box: tuple[float, ...]


class Box(NamedTuple):
    image: int
    box: tuple[float, ...]
    scores: tuple[float, ...]


def moved(x: float, box: tuple[float, ...] = SQUARE) -> tuple[float, ...]:
    return (box[0] + x, *box[1:])


def truths_of(objects: list[Object]) -> GroundTruth:
    return truths_from(torch.tensor([(*one[:2], *one.box) for one in objects]).view(-1, 6))


def truths_from(table: Tensor) -> GroundTruth:
    return GroundTruth(table[:, 0].long(), table[:, 1].long(), table[:, 2:])


def from_table(table: Tensor) -> Detections:
    return Detections(table[:, 0].long(), table[:, 1:5], torch.ones(len(table)), table[:, 5:])


def evaluate(
    boxes: list[Box],
    objects: list[Object],
    classes: int = 1,
    *,
    iou_thresh: float = 0.5,
    thresh: float = 0.25,
    points: int = 0,
    difficult: list[Object] | None = None,
) -> MeanAveragePrecision:
    hard_truth = None if difficult is None else truths_of(difficult)
    ranking = AveragePrecision(truths_of(objects), classes, iou_thresh=iou_thresh, thresh=thresh, difficult=hard_truth)
    table = torch.tensor([(one.image, *one.box, *one.scores) for one in boxes])
    ranking.add(from_table(table.view(-1, 5 + classes)))
    return ranking.result(points)


@pytest.mark.parametrize("words", ANSWERS)
def test_lines_are_those_of_alexeyabs_program(words: str) -> None:
    options = dict(itertools.pairwise(words.split()))
    hard_truth, objects = (truths_from(torch.from_numpy(GOLDEN[name])) for name in ("difficult", "truths"))
    classes = GOLDEN["detections"].shape[1] - 5
    ranking = AveragePrecision(
        objects,
        classes,
        iou_thresh=float(options.get("-iou_thresh", 0.5)),
        thresh=float(options.get("-thresh", 0.25)),
        difficult=hard_truth if "difficult" in words else None,
    )
    ranking.add(from_table(torch.from_numpy(GOLDEN["detections"])))
    lines = map_lines(ranking.result(int(options.get("-points", 0))), [f"class {k}" for k in range(classes)])
    assert [*lines, ""] == ANSWERS[words].replace("-nan", "0.00").split("\n")


@pytest.mark.parametrize(("points", "percent"), [(0, "24.57"), (11, "26.84")])
def test_published_example_is_met_to_the_digit(shared: Path, points: int, percent: str) -> None:
    """Its pixels are counted with both ends, as VOC does: a box from 25 of width 38 covers 39 pixels."""
    folder = shared / "data" / "average-precision"
    objects, boxes = [], []
    for image, file in enumerate(sorted((folder / "groundtruths").iterdir())):
        for line in file.read_text().split("\n"):
            if line:
                objects.append(Object(image, 0, _center(line.split()[1:])))
        for line in (folder / "detections" / file.name).read_text().split("\n"):
            if line:
                boxes.append(Box(image, _center(line.split()[2:]), (float(line.split()[1]),)))
    assert (len(objects), len(boxes)) == (15, 24)
    assert f"{100 * evaluate(boxes, objects, iou_thresh=0.3, points=points).mean:.2f}" == percent


def _center(words: list[str]) -> tuple[float, ...]:
    left, top, w, h = map(float, words)
    return ((left + (w + 1) / 2) / 256, (top + (h + 1) / 2) / 256, (w + 1) / 256, (h + 1) / 256)


def test_truth_that_is_taken_is_still_chosen() -> None:
    """The second box overlaps the free truth by enough, but the taken one by more."""
    objects = [Object(0, 0, SQUARE), Object(0, 0, moved(0.1))]
    result = evaluate([Box(0, SQUARE, (0.9,)), Box(0, moved(0.03), (0.8,))], objects, iou_thresh=0.4)
    assert (result.tp, result.fp, result.fn) == (1, 1, 1)


def test_of_equal_overlaps_the_first_truth_is_chosen() -> None:
    objects = [Object(0, 0, moved(0.0625)), Object(0, 0, moved(-0.0625))]
    same = evaluate([Box(0, SQUARE, (0.9,)), Box(0, moved(0.0625), (0.8,))], objects, iou_thresh=0.4)
    other = evaluate([Box(0, SQUARE, (0.9,)), Box(0, moved(-0.0625), (0.8,))], objects, iou_thresh=0.4)
    assert (same.tp, other.tp) == (1, 2)


def test_overlap_must_be_above_the_threshold() -> None:
    half = (0.5, 0.5, 0.25, 0.125)
    for iou_thresh, right in ((0.5, 0), (0.499, 1)):
        assert evaluate([Box(0, half, (0.9,))], [Object(0, 0, SQUARE)], iou_thresh=iou_thresh).tp == right


def test_truth_counts_in_its_own_image_and_class_only() -> None:
    result = evaluate([Box(1, SQUARE, (0.9, 0.0)), Box(0, SQUARE, (0.0, 0.8))], [Object(0, 0, SQUARE)], 2)
    assert (result.tp, result.fp, result.mean) == (0, 2, 0)


def test_box_counts_for_each_of_its_classes() -> None:
    result = evaluate([Box(0, SQUARE, (0.9, 0.8))], [Object(0, 0, SQUARE), Object(0, 1, SQUARE)], 2)
    assert (result.detections, result.tp, result.mean) == (2, 2, 1)


def test_classes_without_a_truth_count_in_the_mean() -> None:
    assert evaluate([Box(0, SQUARE, (0.9, 0, 0, 0))], [Object(0, 0, SQUARE)], 4).mean == 0.25


def test_detection_of_a_difficult_object_is_not_ranked_but_a_false_positive() -> None:
    boxes, objects = [Box(0, moved(0.5), (0.9,)), Box(0, SQUARE, (0.8,))], [Object(0, 0, SQUARE)]
    plain = evaluate(boxes, objects)
    excused = evaluate(boxes, objects, difficult=[Object(0, 0, moved(0.5))])
    assert (plain.detections, plain.mean, plain.fp) == (2, 0.5, 1)
    assert (excused.detections, excused.mean, excused.fp, excused.truths) == (1, 1.0, 1, 1)


def test_difficult_object_of_another_class_or_image_excuses_nothing() -> None:
    boxes, objects = [Box(0, SQUARE, (0.9, 0.0))], [Object(0, 0, moved(0.5))]
    assert evaluate(boxes, objects, 2, difficult=[Object(0, 1, SQUARE), Object(1, 0, SQUARE)]).detections == 1


def test_counters_give_a_truth_to_the_earlier_detection_even_below_the_threshold() -> None:
    result = evaluate([Box(0, moved(0.01), (0.1,)), Box(0, SQUARE, (0.9,))], [Object(0, 0, SQUARE)])
    assert (result.tp, result.fp, result.fn) == (0, 1, 1)
    assert result.mean == 1, "the ranking goes by score"


def test_false_positives_count_as_no_overlap_in_the_average_iou() -> None:
    half = (0.5, 0.5, 0.25, 0.1875)
    result = evaluate([Box(0, half, (0.9,)), Box(0, moved(0.5), (0.8,))], [Object(0, 0, SQUARE)])
    assert result.average_iou == 0.375


def right_wrong_right(points: int) -> float:
    """The AP of three truths, of which ranks 1 and 3 find two."""
    boxes = [Box(0, SQUARE, (0.9,)), Box(1, moved(0.5), (0.8,)), Box(1, SQUARE, (0.7,))]
    return evaluate(boxes, [Object(image, 0, SQUARE) for image in range(3)], points=points).mean


def test_area_is_under_the_best_precision_at_each_recall() -> None:
    assert right_wrong_right(0) == pytest.approx(1 / 3 + 2 / 3 / 3, abs=1e-15)


def test_points_take_the_best_precision_at_their_recall_or_beyond() -> None:
    assert right_wrong_right(11) == pytest.approx((4 + 3 * 2 / 3) / 11, abs=1e-15)
    assert right_wrong_right(2) == pytest.approx(1 / 2, abs=1e-15)


def test_fourth_of_eleven_points_is_above_three_tenths() -> None:
    """As in the program that AlexeyAB's makefile builds; C without -Ofast would count it: 4 / 11."""
    boxes = [Box(image, SQUARE, (0.9,)) for image in range(3)]
    result = evaluate(boxes, [Object(image, 0, SQUARE) for image in range(10)], points=11)
    assert result.mean == pytest.approx(3 / 11, abs=1e-15)


@pytest.mark.parametrize("points", [0, 11])
@pytest.mark.parametrize("objects", [[], [Object(0, 0, SQUARE)]])
def test_nothing_detected_is_nought_and_never_nan(points: int, objects: list[Object]) -> None:
    result = evaluate([], objects, 2, points=points)
    assert not any((result.mean, result.precision, result.recall, result.f1, result.average_iou))
    assert (result.fn, result.detections) == (len(objects), 0)
    assert "nan" not in "".join(map_lines(result, ["a", "b"]))


@pytest.mark.parametrize("box", [(math.nan,) * 4, (0.5, 0.5, math.inf, math.inf), (0.5, 0.5, 0, 0)])
def test_box_of_impossible_size_finds_nothing(box: tuple[float, ...]) -> None:
    result = evaluate([Box(0, box, (0.9,))], [Object(0, 0, SQUARE)])
    assert (result.tp, result.fp, result.average_iou) == (0, 1, 0)


def test_images_may_come_in_any_parts() -> None:
    table = torch.from_numpy(GOLDEN["detections"])
    objects = truths_from(torch.from_numpy(GOLDEN["truths"]))
    whole, parts = (AveragePrecision(objects, table.shape[1] - 5) for _ in range(2))
    whole.add(from_table(table))
    for image in range(14):
        parts.add(from_table(table[table[:, 0] == image]))
    assert parts.result(101).classes == whole.result(101).classes


def slow_iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    w = min(a[0] + a[2] / 2, b[0] + b[2] / 2) - max(a[0] - a[2] / 2, b[0] - b[2] / 2)
    h = min(a[1] + a[3] / 2, b[1] + b[3] / 2) - max(a[1] - a[3] / 2, b[1] - b[3] / 2)
    if w <= 0 or h <= 0:
        return 0
    return w * h / (a[2] * a[3] + b[2] * b[3] - w * h)


def slow_map(
    boxes: list[Box], objects: list[Object], difficult: list[Object], classes: int, iou_thresh: float, points: int
) -> tuple[float, int, int, int]:
    """mAP, how many are ranked, TP and FP above .25, in a plain loop over the detections."""
    ranked: list[tuple[float, int, int]] = []
    tp = fp = 0
    for image in range(10):
        seen: list[int] = []
        for box, k in itertools.product([box for box in boxes if box.image == image], range(classes)):
            score = box.scores[k]
            if score == 0:
                continue
            overlaps = [
                (slow_iou(box.box, one.box), -number)
                for number, one in enumerate(objects)
                if one.image == image and one.class_id == k
            ]
            truth = -max((pair for pair in overlaps if pair[0] > iou_thresh), default=(0.0, 1))[1]
            if score > 0.25:
                is_right = truth >= 0 and truth not in seen
                tp, fp = tp + is_right, fp + (not is_right)
            seen.append(truth)
            is_excused = truth < 0 and any(
                slow_iou(box.box, one.box) > iou_thresh for one in difficult if one.image == image and one.class_id == k
            )
            if not is_excused:
                ranked.append((score, k, truth))
    ranked.sort(key=lambda row: -row[0])
    areas = [
        slow_area([row[2] for row in ranked if row[1] == k], sum(one.class_id == k for one in objects), points)
        for k in range(classes)
    ]
    return sum(areas) / classes, len(ranked), tp, fp


def slow_area(result: list[int], truths: int, points: int) -> float:
    taken: set[int] = set()
    curve = []  # recall and precision at each rank
    for rank, truth in enumerate(result, start=1):
        if truth >= 0:
            taken.add(truth)
        curve.append((len(taken) / truths if truths else 0.0, len(taken) / rank))
    if points:
        levels = [point * (1 / (points - 1)) for point in range(points)]
        return sum(max((p for r, p in curve if r >= level), default=0.0) for level in levels) / points
    area, best, recall = 0.0, 0.0, curve[-1][0] if curve else 0.0
    for r, p in reversed(curve):
        area += (recall - r) * best
        best, recall = max(best, p), r
    return area + recall * best


@pytest.mark.parametrize("seed", range(12))
def test_rules_read_slowly_give_the_same(seed: int) -> None:
    """On a grid, so that many scores are equal, and overlaps too."""
    rng = random.Random(seed)
    classes, images = rng.randint(1, 4), 10

    def box() -> tuple[float, ...]:
        return tuple(rng.randint(*ends) / 16 for ends in ((4, 10), (4, 10), (3, 6), (3, 6)))

    def scores() -> tuple[float, ...]:
        return tuple(rng.choice((0, 0, *(step / 16 for step in range(1, 16)))) for _ in range(classes))

    objects, difficult = (
        [Object(rng.randrange(images), rng.randrange(classes), box()) for _ in range(count)] for count in (30, 12)
    )
    boxes = sorted(Box(rng.randrange(images), box(), scores()) for _ in range(120))
    for iou_thresh, points in itertools.product((0.0, 0.3, 0.5), (0, 2, 11, 101)):
        result = evaluate(boxes, objects, classes, iou_thresh=iou_thresh, points=points, difficult=difficult)
        mean, *counts = slow_map(boxes, objects, difficult, classes, iou_thresh, points)
        assert [result.detections, result.tp, result.fp] == counts
        assert result.mean == pytest.approx(mean, abs=1e-12)
