"""darknet's mAP: AlexeyAB's `detector map`, to the digit.

D what is detected: a class that a box shows; N all of them; T truths, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from darkpy.evaluation.detect import DetectOptions
from darkpy.evaluation.ground_truth import GroundTruth
from darkpy.evaluation.matching import GroupedGroundTruth, first_occurrences
from darkpy.network import Network
from darkpy.ops.detections import Detections


@dataclass(frozen=True, slots=True)
class ClassPrecision:
    """One class: its average precision, how many truths it has, and what is right and wrong above thresh."""

    average_precision: float
    truths: int
    tp: int
    fp: int


@dataclass(frozen=True, kw_only=True, slots=True)
class MeanAveragePrecision:
    """What `detector map` prints.

    detections: ranked ones, above the low threshold of the ranking.
    iou_sum: IoU of all that is right above thresh.
    points: how many points of recall were looked at, 0 for the area under the curve.
    """

    classes: tuple[ClassPrecision, ...]
    detections: int
    iou_sum: float
    thresh: float
    iou_thresh: float
    points: int

    @property
    def mean(self) -> float:
        """mAP over all classes; those without a truth count as 0."""
        return _share(sum(one.average_precision for one in self.classes), len(self.classes))

    @property
    def truths(self) -> int:
        return sum(one.truths for one in self.classes)

    @property
    def tp(self) -> int:
        return sum(one.tp for one in self.classes)

    @property
    def fp(self) -> int:
        return sum(one.fp for one in self.classes)

    @property
    def fn(self) -> int:
        return self.truths - self.tp

    @property
    def precision(self) -> float:
        return _share(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        return _share(self.tp, self.truths)

    @property
    def f1(self) -> float:
        return _share(2 * self.tp, self.tp + self.fp + self.truths)

    @property
    def average_iou(self) -> float:
        """Of all detections above thresh; a wrong one counts as 0."""
        return _share(self.iou_sum, self.tp + self.fp)


def map_options(network: Network, letterbox: bool | None = None) -> DetectOptions:
    """How `detector map` comes to its boxes; pjreddie's darknet has no such command.

    letterbox: None where the cfg says letter_box=1.
    """
    is_letterboxed = network.plan.net.letter_box if letterbox is None else letterbox
    return DetectOptions(thresh=0.005, nms=0.45, letterbox=is_letterboxed, tree_thresh=0.0, darknet_order=True)


class AveragePrecision:
    """Ranks the detections of a list of images against its truths, as AlexeyAB's `detector map` does.

    iou_thresh: by how much a detection must overlap a truth. thresh: what the counters count, not the ranking.
    difficult: objects that need not be found; detections that find only them are not ranked.
    Source:  AlexeyAB/darknet src/detector.c validate_detector_map
    Differs: without any detection everything is 0; darknet reads before its array, and prints NaN.
    """

    def __init__(
        self,
        truths: GroundTruth,
        classes: int,
        *,
        iou_thresh: float = 0.5,
        thresh: float = 0.25,
        difficult: GroundTruth | None = None,
    ) -> None:
        self._classes, self._iou_thresh, self._thresh = classes, iou_thresh, thresh
        self._truths_K = torch.bincount(truths.class_N, minlength=classes)
        self._truths = self._grouped(truths)
        self._difficult = None if difficult is None else self._grouped(difficult)
        self._scores = [torch.zeros(0)]
        self._numbers = [torch.zeros(2, 0, dtype=torch.int32)]
        self._counts_2K = torch.zeros(2, classes, dtype=torch.int64)
        self._iou_sum = 0.0

    def add(self, detections: Detections) -> None:
        """Take in all detections of some images, in darknet's order; image_M are numbers of the list.

        Every class with a score above 0 counts, so that one box may be several detections.
        """
        place_D, class_D = torch.nonzero(detections.prob_MK > 0, as_tuple=True)
        score_D, image_D = detections.prob_MK[place_D, class_D], detections.image_M[place_D]
        boxes_D4 = detections.boxes_M4[place_D]
        group_D = image_D * self._classes + class_D
        truth_D, iou_D = self._truths.find(boxes_D4, group_D, self._iou_thresh)
        is_counted_D = score_D > self._thresh
        is_right_D = is_counted_D & first_occurrences(truth_D, self._truths.count)
        for row_K, mask_D in zip(self._counts_2K, (is_right_D, is_counted_D & ~is_right_D), strict=True):
            row_K += torch.bincount(class_D[mask_D], minlength=self._classes)
        self._iou_sum += float(iou_D[is_right_D].sum(dtype=torch.float64))
        if self._difficult is not None:
            difficult_D, _ = self._difficult.find(boxes_D4, group_D, self._iou_thresh)
            is_ranked_D = (truth_D >= 0) | (difficult_D < 0)
            score_D, class_D, truth_D = (tensor[is_ranked_D] for tensor in (score_D, class_D, truth_D))
        self._scores.append(score_D)
        self._numbers.append(torch.stack((class_D, truth_D)).int())

    def result(self, points: int = 0) -> MeanAveragePrecision:
        """What all detections so far are worth.

        points: mean precision at this many points of recall, 11 as in VOC 2007 or 101 as in COCO; 0 is the area under
            the curve, as in VOC 2010.
        """
        score_N, (class_N, truth_N) = torch.cat(self._scores), torch.cat(self._numbers, dim=1).long()
        ranked_N = score_N.argsort(descending=True, stable=True)
        is_right_N = first_occurrences(truth_N[ranked_N], self._truths.count)
        class_N, by_class_N = class_N[ranked_N].sort(stable=True)
        areas_K = _areas(class_N, is_right_N[by_class_N], self._truths_K, points)
        columns = (areas_K, self._truths_K, *self._counts_2K)
        return MeanAveragePrecision(
            classes=tuple(ClassPrecision(*row) for row in zip(*(one.tolist() for one in columns), strict=True)),
            detections=len(score_N),
            iou_sum=self._iou_sum,
            thresh=self._thresh,
            iou_thresh=self._iou_thresh,
            points=points,
        )

    def _grouped(self, truths: GroundTruth) -> GroupedGroundTruth:
        return GroupedGroundTruth(truths.boxes_N4, truths.image_N * self._classes + truths.class_N)


def _areas(class_N: Tensor, is_right_N: Tensor, truths_K: Tensor, points: int) -> Tensor:
    """Average precision of each class, from detections by class and rank.

    At each rank the recall steps forward, perhaps by 0; the step counts as much as the best precision from there on.
    With points, it is the number of points left behind that steps.

    A point is a multiple of a rounded step, as in the program that AlexeyAB's own makefile builds (and in VOC's and
    COCO's): the fourth of 11 is a little above 3 / 10.
    """
    sizes_K = torch.bincount(class_N, minlength=len(truths_K))
    begin_K = sizes_K.cumsum(0) - sizes_K
    right_N = is_right_N.long().cumsum(0)
    before_K = torch.cat((right_N.new_zeros(1), right_N))[begin_K]
    right_N = right_N - before_K[class_N]
    rank_N = torch.arange(1, len(class_N) + 1) - begin_K[class_N]
    precision_N = right_N.double() / rank_N
    reached_N = right_N.double() / truths_K[class_N].clamp(min=1)
    if points:
        point_P = torch.arange(points, dtype=torch.float64) * (1 / (points - 1))
        reached_N = torch.searchsorted(point_P, reached_N, right=True).double() / points
    step_N = reached_N - torch.where(rank_N > 1, reached_N.roll(1), 0.0)
    return torch.zeros(len(truths_K), dtype=torch.float64).index_add_(0, class_N, step_N * _best(precision_N, class_N))


def _best(precision_N: Tensor, class_N: Tensor) -> Tensor:
    """The largest precision of each class from here to its end, exactly: one running maximum for all classes."""
    levels: Tensor
    levels, level_N = torch.unique(precision_N, return_inverse=True)
    begin_N = class_N * len(levels)
    return levels[(level_N - begin_N).flip(0).cummax(0).values.flip(0) + begin_N]


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
