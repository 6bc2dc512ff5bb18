"""darknet's mean average precision: AlexeyAB's `detector map`, to the digit.

D detections: (box, class) pairs with a score above 0; N all of them; K classes, P points of recall.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from darkpy.evaluation.detect import DetectOptions
from darkpy.evaluation.ground_truth import GroundTruth
from darkpy.evaluation.truth_matching import GroupedGroundTruth, first_occurrences
from darkpy.network import Network
from darkpy.ops.boxes import Detections


@dataclass(frozen=True, slots=True)
class ClassPrecision:
    """Average precision of one class, its ground-truth objects, and its true and false positives above thresh."""

    average_precision: float
    truths: int
    tp: int
    fp: int


@dataclass(frozen=True, kw_only=True, slots=True)
class MeanAveragePrecision:
    """The numbers that `detector map` prints.

    detections: number of ranked ones, above the low threshold of the ranking.
    iou_sum: summed IoU of the true positives above thresh.
    points: number of recall points, 0 for the area under the curve.
    """

    classes: tuple[ClassPrecision, ...]
    detections: int
    iou_sum: float
    thresh: float
    iou_thresh: float
    points: int

    @property
    def mean(self) -> float:
        """mAP over all classes; those without ground truth count as 0."""
        return _ratio(sum(row.average_precision for row in self.classes), len(self.classes))

    @property
    def truths(self) -> int:
        return sum(row.truths for row in self.classes)

    @property
    def tp(self) -> int:
        return sum(row.tp for row in self.classes)

    @property
    def fp(self) -> int:
        return sum(row.fp for row in self.classes)

    @property
    def fn(self) -> int:
        return self.truths - self.tp

    @property
    def precision(self) -> float:
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        return _ratio(self.tp, self.truths)

    @property
    def f1(self) -> float:
        return _ratio(2 * self.tp, self.tp + self.fp + self.truths)

    @property
    def average_iou(self) -> float:
        """Mean IoU of all detections above thresh; a false positive counts as 0."""
        return _ratio(self.iou_sum, self.tp + self.fp)


_ONLY_DIFFICULT = -2
"""Object of a detection that matches only difficult ones; -1 is that of one that matches none."""


class MatchedDetections(NamedTuple):
    """Detections of some images, each with the object of its class that it overlaps most.

    box_D: the index of its box. truth_D: below 0 if it overlaps no object by more than iou_thresh. is_counted_D: above
    thresh, so that it is a true positive (is_tp_D) or a false one.
    """

    box_D: Tensor
    class_D: Tensor
    score_D: Tensor
    truth_D: Tensor
    is_counted_D: Tensor
    is_tp_D: Tensor


class RankedDetections(NamedTuple):
    """All detections, sorted by class and within it by score, and the number of objects of each class.

    is_tp_N: the one of its class that is a match of its object; any others are false positives.
    """

    class_N: Tensor
    score_N: Tensor
    is_tp_N: Tensor
    truths_K: Tensor

    def merged(self) -> RankedDetections:
        """The detections of all classes, sorted by score, as those of one class."""
        order_N = self.score_N.argsort(descending=True, stable=True)
        class_N = torch.zeros_like(self.class_N)
        return RankedDetections(class_N, self.score_N[order_N], self.is_tp_N[order_N], self.truths_K.sum()[None])

    def positions(self) -> tuple[Tensor, Tensor]:
        """Rank of each detection within its class, from 1, and the true positives up to it."""
        sizes_K = torch.bincount(self.class_N, minlength=len(self.truths_K))
        begin_K = sizes_K.cumsum(0) - sizes_K
        # the running sum over all classes, less the sum at the class's begin
        tp_N = self.is_tp_N.long().cumsum(0)
        tp_before_K = torch.cat((tp_N.new_zeros(1), tp_N))[begin_K]
        rank_N = torch.arange(1, len(self.class_N) + 1) - begin_K[self.class_N]
        return rank_N, tp_N - tp_before_K[self.class_N]


def map_options(network: Network, letterbox: bool | None = None) -> DetectOptions:
    """Return the options of `detector map`, for both dialects: pjreddie's darknet has no such command.

    letterbox: None takes that of the cfg (letter_box=).
    """
    is_letterboxed = network.plan.net.letter_box if letterbox is None else letterbox
    return DetectOptions(thresh=0.005, nms=0.45, letterbox=is_letterboxed, tree_thresh=0.0, darknet_order=True)


class AveragePrecision:
    """Accumulate detections and compute their average precision, as AlexeyAB's `detector map` does.

    iou_thresh: IoU above which a detection counts as correct.
    thresh: score above which detections count as TP or FP; the average precision itself ranks all of them.
    difficult: objects that need not be found. Detections that match only these are not ranked, but count as false
        positives above thresh.
    Source:  AlexeyAB/darknet src/detector.c validate_detector_map
    Differs: without any detection everything is 0; darknet reads before its array, and prints NaN.
    """

    def __init__(
        self,
        ground_truth: GroundTruth,
        classes: int,
        *,
        iou_thresh: float = 0.5,
        thresh: float = 0.25,
        difficult: GroundTruth | None = None,
    ) -> None:
        self._classes, self.iou_thresh, self._thresh = classes, iou_thresh, thresh
        self._truths_K = torch.bincount(ground_truth.class_N, minlength=classes)
        self._truths = self._by_image_and_class(ground_truth)
        self._difficult = None if difficult is None else self._by_image_and_class(difficult)
        self._scores = [torch.zeros(0)]
        self._class_and_truth = [torch.zeros(2, 0, dtype=torch.int32)]
        self._counts_2K = torch.zeros(2, classes, dtype=torch.int64)
        self._iou_sum = 0.0

    def add(self, detections: Detections) -> MatchedDetections:
        """Add all detections of some images, in darknet's order; image_M are indices of the list.

        Every class with a score above 0 counts, so that one box may be several detections.
        """
        box_D, class_D = torch.nonzero(detections.prob_MK > 0, as_tuple=True)
        score_D, image_D = detections.prob_MK[box_D, class_D], detections.image_M[box_D]
        boxes_D4 = detections.boxes_M4[box_D]
        group_D = image_D * self._classes + class_D
        truth_D, iou_D = self._truths.find(boxes_D4, group_D, self.iou_thresh)
        is_counted_D = score_D > self._thresh
        # counted in darknet's order of boxes, not by score: the first box that matches an object takes it
        is_tp_D = is_counted_D & first_occurrences(truth_D, self._truths.count)
        for row_K, mask_D in zip(self._counts_2K, (is_tp_D, is_counted_D & ~is_tp_D), strict=True):
            row_K += torch.bincount(class_D[mask_D], minlength=self._classes)
        self._iou_sum += float(iou_D[is_tp_D].sum(dtype=torch.float64))
        if self._difficult is not None:
            difficult_D, _ = self._difficult.find(boxes_D4, group_D, self.iou_thresh)
            truth_D = torch.where((truth_D < 0) & (difficult_D >= 0), _ONLY_DIFFICULT, truth_D)
        self._scores.append(score_D)
        self._class_and_truth.append(torch.stack((class_D, truth_D)).int())
        return MatchedDetections(box_D, class_D, score_D, truth_D, is_counted_D, is_tp_D)

    def ranked(self, *, in_order: bool = False) -> RankedDetections:
        """Rank all detections so far.

        in_order: as the counts of `detector map` have it: the first of several detections that match an object, in
            darknet's order, is the true positive, and those that match only difficult objects are false ones; else as
            the average precision has it: the one with the highest score, and these are left out.
        """
        score_N, (class_N, truth_N) = torch.cat(self._scores), torch.cat(self._class_and_truth, dim=1).long()
        if not in_order:
            is_ranked_N = truth_N != _ONLY_DIFFICULT
            score_N, class_N, truth_N = score_N[is_ranked_N], class_N[is_ranked_N], truth_N[is_ranked_N]
        ranked_N = score_N.argsort(descending=True, stable=True)
        if in_order:
            is_tp_N = first_occurrences(truth_N, self._truths.count)[ranked_N]
        else:
            is_tp_N = first_occurrences(truth_N[ranked_N], self._truths.count)
        class_N, by_class_N = class_N[ranked_N].sort(stable=True)
        return RankedDetections(class_N, score_N[ranked_N][by_class_N], is_tp_N[by_class_N], self._truths_K)

    def result(self, points: int = 0) -> MeanAveragePrecision:
        """Compute the metrics of all detections so far.

        points: mean precision at this many points of recall, 11 as in VOC 2007 or 101 as in COCO; 0 is the area under
            the curve, as in VOC 2010.
        """
        ranked = self.ranked()
        ap_K = _average_precisions(ranked, points)
        columns = (ap_K, self._truths_K, *self._counts_2K)
        return MeanAveragePrecision(
            classes=tuple(ClassPrecision(*row) for row in zip(*(column.tolist() for column in columns), strict=True)),
            detections=len(ranked.score_N),
            iou_sum=self._iou_sum,
            thresh=self._thresh,
            iou_thresh=self.iou_thresh,
            points=points,
        )

    def _by_image_and_class(self, ground_truth: GroundTruth) -> GroupedGroundTruth:
        return GroupedGroundTruth(ground_truth.boxes_N4, ground_truth.image_N * self._classes + ground_truth.class_N)


def _average_precisions(ranked: RankedDetections, points: int) -> Tensor:
    """Average precision of each class.

    All three rules sum (width of a step of recall) * (best precision at this recall or any later one):

    points 0, AlexeyAB's default and VOC 2010: the area under that curve. A true positive steps recall by 1 / truths;
        a false positive steps by 0 and adds nothing.
    points 11 (VOC 2007) and 101 (COCO): the mean of the best precision at recall 0, 1 / (points - 1), ..., 1. A step
        is as wide as the number of points it passes, divided by points; a point that recall never reaches counts 0.

    A point is a multiple of the rounded 1 / (points - 1), as in the program that AlexeyAB's own makefile builds (and in
    VOC's and COCO's): the fourth of 11 is a little above 3 / 10, which a recall of exactly 3 / 10 does not reach.
    """
    class_N, _, _, truths_K = ranked
    rank_N, tp_N = ranked.positions()
    precision_N = tp_N.double() / rank_N
    recall_N = tp_N.double() / truths_K[class_N].clamp(min=1)
    if points:
        point_P = torch.arange(points, dtype=torch.float64) * (1 / (points - 1))
        recall_N = torch.searchsorted(point_P, recall_N, right=True).double() / points
    step_N = recall_N - torch.where(rank_N > 1, recall_N.roll(1), 0.0)
    area_N = step_N * best_from_here(class_N, precision_N)
    return torch.zeros(len(truths_K), dtype=torch.float64).index_add_(0, class_N, area_N)


def best_from_here(class_N: Tensor, precision_N: Tensor) -> Tensor:
    """Best precision of the same class at each rank or any later one.

    One running maximum from the end serves all classes, without rounding: precisions become integer levels, shifted
    down for each later class, so that the maximum of a class never comes from a later one.
    """
    levels, level_N = torch.unique(precision_N, return_inverse=True)
    shift_N = class_N * len(levels)
    best_N: Tensor = levels[(level_N - shift_N).flip(0).cummax(0).values.flip(0) + shift_N]
    return best_N


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
