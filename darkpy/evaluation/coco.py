"""COCO's own average precision, with pycocotools' numbers, over all images at once.

D detections: a class of a box, at most MAX_DETECTIONS of an image and class; T ground-truth objects; P pairs of both
with an IoU of .5 or more; K classes, I images. Boxes are left, top, w, h in pixels, float64 as in pycocotools.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from darkpy.evaluation.average_precision import RankedDetections
from darkpy.evaluation.detect import ImageStatus
from darkpy.evaluation.detection_store import DetectionStore
from darkpy.evaluation.ground_truth import GroundTruth
from darkpy.evaluation.score_sweep import precision_at_recall
from darkpy.evaluation.truth_matching import GroupedGroundTruth, match_greedily, position_in_group
from darkpy.ops.boxes import to_corners

COCO_STATS = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large"),
)
"""The twelve numbers of COCO's evaluation, in pycocotools' order."""
AREA_RANGES_PX = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))
"""Smallest and largest area of all, small, medium and large objects, both included."""
IOU_THRESHOLDS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
MAX_MATCHED_IOU = 1 - 1e-10
MAX_DETECTIONS = 100


@dataclass(frozen=True, slots=True)
class CocoPrecision:
    """COCO's numbers, 0 to 1; None where there is no ground truth.

    stats: COCO_STATS and their values. classes: AP and AP50 of each class.
    """

    stats: dict[str, float | None]
    classes: tuple[tuple[float | None, float | None], ...]


class _Matches(NamedTuple):
    """Detections that count for a range of areas and an IoU threshold, by class and score.

    position_N: number of better detections of the same image and class.
    """

    ranked: RankedDetections
    position_N: Tensor

    def precision(self) -> Tensor:
        """Mean precision of each class, NaN for classes without objects that count."""
        has_truth_K = self.ranked.truths_K > 0
        return torch.where(has_truth_K, precision_at_recall(self.ranked).mean(1), torch.nan)

    def recall(self, limit: int) -> Tensor:
        """Recall of each class from the best `limit` detections of an image, NaN as in `precision`."""
        tp_N = self.ranked.is_tp_N & (self.position_N < limit)
        tp_K = torch.bincount(self.ranked.class_N[tp_N], minlength=len(self.ranked.truths_K))
        return tp_K.double() / self.ranked.truths_K


def coco_precision(
    detections: DetectionStore,
    ground_truth: GroundTruth,
    images: Sequence[ImageStatus],
    classes: int,
    difficult: GroundTruth | None = None,
) -> CocoPrecision:
    """Compute COCO's numbers of the detections on a list of images.

    images: all images of the list. An object's area is that of its box.
    difficult: objects that need not be found, COCO's crowds: detections that lie in them do not count.
    Source:  pycocotools cocoeval.py evaluateImg, accumulate, summarize
    """
    candidates = _Candidates(detections, ground_truth, images, classes, difficult)
    by_area = [list(candidates.match(smallest, largest)) for smallest, largest in AREA_RANGES_PX]
    precision_AIK = torch.stack([torch.stack([matches.precision() for matches in row]) for row in by_area])
    recalls = [(0, 1), (0, 10), *((area, MAX_DETECTIONS) for area in range(len(AREA_RANGES_PX)))]
    values = [
        *(precision_AIK[0], precision_AIK[0, 0], precision_AIK[0, IOU_THRESHOLDS.index(0.75)], *precision_AIK[1:]),
        *(torch.stack([matches.recall(limit) for matches in by_area[area]]) for area, limit in recalls),
    ]
    by_class = precision_AIK[0].unbind(1)
    return CocoPrecision(
        dict(zip(COCO_STATS, map(_mean, values), strict=True)),
        tuple((_mean(precision_I), _mean(precision_I[0])) for precision_I in by_class),
    )


class _Candidates:
    """Detections of all images, ordered by image, class and score, and their pairs with objects."""

    def __init__(
        self,
        detections: DetectionStore,
        ground_truth: GroundTruth,
        images: Sequence[ImageStatus],
        classes: int,
        difficult: GroundTruth | None,
    ) -> None:
        size_I4 = torch.tensor([image.size * 2 for image in images], dtype=torch.float64).view(-1, 4)
        truth_T4 = _boxes_px(ground_truth, size_I4)
        score_D = detections.score_D
        group_D = detections.image_D.long() * classes + detections.class_D
        order_D = score_D.argsort(descending=True, stable=True)
        order_D = order_D[group_D[order_D].argsort(stable=True)]
        order_D = order_D[position_in_group(group_D[order_D]) < MAX_DETECTIONS]
        boxes_D4 = _with_size(detections.edges_px(size_I4.float(), order_D).double())
        self._class_D, self._score_D = detections.class_D[order_D].long(), score_D[order_D]
        self._position_D, self._area_D = position_in_group(group_D[order_D]), boxes_D4[:, 2:].prod(1)
        self._class_T, self._area_T = ground_truth.class_N, truth_T4[:, 2:].prod(1)
        self._classes = classes
        objects = GroupedGroundTruth(truth_T4, ground_truth.image_N * classes + ground_truth.class_N, _iou_px)
        edges = [(order_D[:0], order_D[:0], boxes_D4.new_zeros(0))]
        for detection_P, truth_P, iou_P in objects.pairs(boxes_D4, group_D[order_D]):
            is_edge_P = iou_P >= IOU_THRESHOLDS[0]
            edges.append((detection_P[is_edge_P], truth_P[is_edge_P], iou_P[is_edge_P]))
        if difficult is not None:
            # a crowd takes any number of detections: it is an object of its own for each, outside all ranges of areas
            crowd_group_N = difficult.image_N * classes + difficult.class_N
            crowds = GroupedGroundTruth(_boxes_px(difficult, size_I4), crowd_group_N, _covered_share)
            for detection_P, _, share_P in crowds.pairs(boxes_D4, group_D[order_D]):
                is_edge_P = share_P >= IOU_THRESHOLDS[0]
                truth_P = len(self._area_T) + torch.arange(int(is_edge_P.sum()))
                edges.append((detection_P[is_edge_P], truth_P, share_P[is_edge_P]))
                self._area_T = torch.cat((self._area_T, self._area_T.new_full(truth_P.shape, math.inf)))
                self._class_T = torch.cat((self._class_T, torch.zeros_like(truth_P)))
        self._detection_P, self._truth_P, self._iou_P = (torch.cat(column) for column in zip(*edges, strict=True))
        ranked_D = self._score_D.argsort(descending=True, stable=True)
        self._ranked_D = ranked_D[self._class_D[ranked_D].argsort(stable=True)]

    def match(self, smallest: float, largest: float) -> Iterator[_Matches]:
        """Match detections with objects at each IoU threshold.

        Objects outside the range of areas are taken if no other one is left, and then the detection does not count;
        nor does one outside the range that matches no object.
        """
        is_ignored_T = (self._area_T < smallest) | (self._area_T > largest)
        is_outside_D = (self._area_D < smallest) | (self._area_D > largest)
        truths_K = torch.bincount(self._class_T[~is_ignored_T], minlength=self._classes)
        levels, level_P = torch.unique(self._iou_P, return_inverse=True)
        preference_P = level_P + len(levels) * ~is_ignored_T[self._truth_P]
        last = len(is_ignored_T) - 1  # of equal overlaps the last object counts
        for thresh in IOU_THRESHOLDS:
            is_edge_P = self._iou_P >= min(thresh, MAX_MATCHED_IOU)
            edges = (self._detection_P[is_edge_P], last - self._truth_P[is_edge_P], preference_P[is_edge_P])
            truth_D = match_greedily(*edges, self._score_D)
            is_matched_D = truth_D >= 0
            is_dropped_D = is_outside_D.clone()
            is_dropped_D[is_matched_D] = is_ignored_T[last - truth_D[is_matched_D]]
            kept_N = self._ranked_D[~is_dropped_D[self._ranked_D]]
            ranked = RankedDetections(self._class_D[kept_N], self._score_D[kept_N], is_matched_D[kept_N], truths_K)
            yield _Matches(ranked, self._position_D[kept_N])


def _boxes_px(truth: GroundTruth, size_I4: Tensor) -> Tensor:
    return _with_size(to_corners(truth.boxes_N4.double()) * size_I4[truth.image_N])


def _with_size(edges_N4: Tensor) -> Tensor:
    """Convert left, top, right, bottom to left, top, w, h."""
    return torch.cat((edges_N4[:, :2], edges_N4[:, 2:] - edges_N4[:, :2]), dim=1)


def _mean(values: Tensor) -> float | None:
    """Mean of all values that are not NaN; None if all are."""
    mean = float(values.nanmean())
    return None if math.isnan(mean) else mean


def _iou_px(a: Tensor, b: Tensor) -> Tensor:
    """IoU of boxes left, top, w, h. Source: pycocotools maskApi.c bbIou"""
    intersection = _intersection_px(a, b)
    return intersection / (a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - intersection)


def _covered_share(detection: Tensor, crowd: Tensor) -> Tensor:
    """Share of a detection's area that lies in a crowd. Source: pycocotools maskApi.c bbIou"""
    return _intersection_px(detection, crowd) / detection[..., 2:].prod(-1)


def _intersection_px(a: Tensor, b: Tensor) -> Tensor:
    near, far = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    return (far - near).clamp(min=0).prod(-1)
