"""Analysis of a detector's errors on a list of images: confused classes, kinds of errors, errors of each image.

M boxes, D detections (a box with one of its classes), C those above the threshold, T objects, P pairs of both, K
classes, I images. Counts are those of `detector map`; the memory grows with images and objects, not with detections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from darkpy.evaluation.average_precision import AveragePrecision
from darkpy.evaluation.detect import ImageStatus
from darkpy.evaluation.ground_truth import GroundTruth
from darkpy.evaluation.truth_matching import GroupedGroundTruth, match_greedily, position_in_group
from darkpy.ops.boxes import Detections

MIN_PLACED_IOU = 0.1
"""IoU from which a box counts as a poorly placed one of an object."""
MAX_LISTED_ERRORS = 24
"""False positives, and missed objects, that are listed."""
MAX_LISTED_PER_IMAGE = 2
MAX_PENDING_KEYS = 1 << 20
"""Keys of a sparse count that wait to be summed up."""
SMALL_AREA_PX, LARGE_AREA_PX = 32**2, 96**2
"""COCO's limits of medium objects."""
SIZE_NAMES = ("small", "medium", "large")


ConfusionCell = tuple[int, int, int]
"""True class, detected class, count."""


class FalsePositive(IntEnum):
    """Kind of a false positive, from its IoU with the objects of its image, above iou_thresh or MIN_PLACED_IOU.

    DUPLICATE: on an object of its class that another box has taken. WRONG_CLASS: on an object of another class.
    """

    DUPLICATE = 0
    WRONG_CLASS = 1
    POORLY_PLACED = 2
    BOTH = 3
    BACKGROUND = 4


class Miss(IntEnum):
    """Kind of a missed object.

    BELOW_THRESH: only detections with lower scores match it. POORLY_PLACED: the boxes of its class overlap too little.
    """

    WRONG_CLASS = 0
    BELOW_THRESH = 1
    POORLY_PLACED = 2
    NOT_DETECTED = 3
    UNREADABLE = 4


@dataclass(frozen=True, slots=True)
class ListedError:
    """A false positive, or a missed object.

    class_id, score, box_frac: of the false positive; of the missed object, which has no score.
    other_class_id, iou: class of the object that the false positive overlaps most, and their IoU; class as which the
        missed object was detected, and its largest IoU with a detection of its own class.
    """

    image: int
    kind: str
    class_id: int
    score: float | None
    box_frac: tuple[float, ...]
    other_class_id: int | None
    iou: float


@dataclass(frozen=True, slots=True)
class SizeBucket:
    """Objects of a size, and those found."""

    name: str
    truths: int
    found: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionErrors:
    """Errors of all images.

    confusion: true class, detected class and count, of all cells but those with 0; -1 is the background.
    wrong_class: as confusion, for false positives on objects of another class, be these taken or not.
    """

    confusion: tuple[ConfusionCell, ...]
    wrong_class: tuple[ConfusionCell, ...]
    false_positives: dict[str, int]
    missed: dict[str, int]
    sizes: tuple[SizeBucket, ...]
    truths_I: Tensor
    tp_I: Tensor
    fp_I: Tensor
    worst_false_positives: tuple[ListedError, ...]
    worst_missed: tuple[ListedError, ...]


class ErrorAnalysis:
    """Accumulate the errors of batches of images.

    Confusion: of the detections above the threshold, the one with the highest score takes the object of any class it
    overlaps most, if by more than iou_thresh, then the next one takes one of those left. Detections and objects that
    are left over are matched with the background.
    """

    def __init__(self, precision: AveragePrecision, ground_truth: GroundTruth, classes: int, images: int) -> None:
        self.precision, self._iou_thresh = precision, precision.iou_thresh
        self._truth, self._classes, self._images = ground_truth, classes, images
        self._objects = GroupedGroundTruth(ground_truth.boxes_N4, ground_truth.image_N)
        objects = len(ground_truth)
        self._is_found_T = torch.zeros(objects, dtype=torch.bool)
        self._score_T = torch.zeros(objects)
        self._iou_T = torch.zeros(objects)
        self._detected_class_T = torch.full((objects,), -1, dtype=torch.int32)
        self._background_K = torch.zeros(classes, dtype=torch.int64)
        self._counts_2I = torch.zeros(2, images, dtype=torch.int64)
        self._kinds = torch.zeros(len(FalsePositive), dtype=torch.int64)
        self._wrong_class_keys = torch.zeros(2, 0, dtype=torch.int64)
        self._worst = _WorstDetections()

    def add(self, detections: Detections) -> None:
        """Add all detections of some images, here and to the average precision; image_M are indices of the list."""
        box_D, class_D, score_D, truth_D, is_counted_D, is_tp_D = self.precision.add(detections)
        is_match_D = truth_D >= 0
        self._score_T.scatter_reduce_(0, truth_D[is_match_D], score_D[is_match_D], "amax")
        self._is_found_T[truth_D[is_tp_D]] = True
        box_C, class_C, score_C, is_tp_C = (values_D[is_counted_D] for values_D in (box_D, class_D, score_D, is_tp_D))
        image_C, boxes_C4 = detections.image_M[box_C], detections.boxes_M4[box_C]
        for row_I, mask_C in zip(self._counts_2I, (is_tp_C, ~is_tp_C), strict=True):
            row_I += torch.bincount(image_C[mask_C], minlength=self._images)
        same_C, other_C, nearest_C = self._compare(boxes_C4, image_C, class_C, score_C)
        kind_C = torch.full_like(class_C, FalsePositive.BACKGROUND)
        for kind, mask_C in (
            (FalsePositive.BOTH, other_C >= MIN_PLACED_IOU),
            (FalsePositive.POORLY_PLACED, same_C >= MIN_PLACED_IOU),
            (FalsePositive.WRONG_CLASS, other_C > self._iou_thresh),
            (FalsePositive.DUPLICATE, same_C > self._iou_thresh),
        ):
            kind_C[mask_C] = kind
        is_fp_C = ~is_tp_C
        self._kinds += torch.bincount(kind_C[is_fp_C], minlength=len(FalsePositive))
        is_wrong_C = kind_C == FalsePositive.WRONG_CLASS
        key_C = self._truth.class_N[nearest_C[is_wrong_C]] * self._classes + class_C[is_wrong_C]
        self._wrong_class_keys = torch.cat(
            (self._wrong_class_keys, torch.stack((key_C, torch.ones_like(key_C)))), dim=1
        )
        if self._wrong_class_keys.shape[1] > MAX_PENDING_KEYS:
            self._wrong_class_keys = _sum_by_key(self._wrong_class_keys)
        whole = torch.stack((image_C, class_C, kind_C, nearest_C), dim=1)
        parts = torch.cat((score_C[:, None], torch.maximum(same_C, other_C)[:, None], boxes_C4), dim=1)
        self._worst.add(whole[is_fp_C], parts[is_fp_C])

    def _compare(
        self, boxes_C4: Tensor, image_C: Tensor, class_C: Tensor, score_C: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compare detections with all objects of their image, and count those that match none of any class.

        Returns: the largest IoU with an object of the same class, with one of another class, and the object of the
            larger one, or -1.
        """
        same_C, other_C = boxes_C4.new_zeros(len(boxes_C4)), boxes_C4.new_zeros(len(boxes_C4))
        nearest_C = torch.full_like(class_C, -1)
        edges = [(nearest_C[:0], nearest_C[:0], same_C[:0])]
        for detection_P, truth_P, iou_P in self._objects.pairs(boxes_C4, image_C):
            is_same_P = self._truth.class_N[truth_P] == class_C[detection_P]
            same_C.scatter_reduce_(0, detection_P[is_same_P], iou_P[is_same_P], "amax")
            other_C.scatter_reduce_(0, detection_P[~is_same_P], iou_P[~is_same_P], "amax")
            self._iou_T.scatter_reduce_(0, truth_P[is_same_P], iou_P[is_same_P], "amax")
            is_nearest_P = (iou_P > 0) & (iou_P == torch.maximum(same_C, other_C)[detection_P])
            nearest_C[detection_P[is_nearest_P]] = truth_P[is_nearest_P]
            is_edge_P = iou_P > self._iou_thresh
            edges.append((detection_P[is_edge_P], truth_P[is_edge_P], iou_P[is_edge_P]))
        detection_P, truth_P, iou_P = (torch.cat(column) for column in zip(*edges, strict=True))
        truth_C = match_greedily(detection_P, truth_P, iou_P, score_C)
        is_match_C = truth_C >= 0
        self._detected_class_T[truth_C[is_match_C]] = class_C[is_match_C].int()
        self._background_K += torch.bincount(class_C[~is_match_C], minlength=self._classes)
        return same_C, other_C, nearest_C

    def result(self, images: Sequence[ImageStatus]) -> DetectionErrors:
        """Return the errors of all images. images: all images of the list, in its order."""
        truth, is_found_T = self._truth, self._is_found_T
        size_I2 = torch.tensor([image.size for image in images], dtype=torch.float64).view(-1, 2)
        is_read_T = (size_I2.prod(1) > 0)[truth.image_N]
        area_T = truth.boxes_N4[:, 2:].double().prod(1) * size_I2.prod(1)[truth.image_N]
        size_T = torch.bucketize(area_T, torch.tensor([SMALL_AREA_PX, LARGE_AREA_PX], dtype=torch.float64))
        kind_T = torch.full_like(truth.class_N, Miss.NOT_DETECTED)
        is_other_T = (self._detected_class_T >= 0) & (self._detected_class_T != truth.class_N)
        for kind, mask_T in (
            (Miss.POORLY_PLACED, self._iou_T >= MIN_PLACED_IOU),
            (Miss.BELOW_THRESH, self._score_T > 0),
            (Miss.WRONG_CLASS, is_other_T),
            (Miss.UNREADABLE, ~is_read_T),
        ):
            kind_T[mask_T] = kind
        missed = torch.bincount(kind_T[~is_found_T], minlength=len(Miss)).tolist()
        sizes = torch.bincount(size_T[is_read_T], minlength=3).tolist()
        found = torch.bincount(size_T[is_read_T & is_found_T], minlength=3).tolist()
        tp_I, fp_I = self._counts_2I
        keys, counts = _sum_by_key(self._wrong_class_keys).tolist()
        return DetectionErrors(
            confusion=self._confusion(),
            wrong_class=tuple((*divmod(key, self._classes), count) for key, count in zip(keys, counts, strict=True)),
            false_positives={kind.name.lower(): int(self._kinds[kind]) for kind in FalsePositive},
            missed={kind.name.lower(): missed[kind] for kind in Miss},
            sizes=tuple(SizeBucket(*row) for row in zip(SIZE_NAMES, sizes, found, strict=True)),
            truths_I=torch.bincount(truth.image_N, minlength=self._images),
            tp_I=tp_I,
            fp_I=fp_I,
            worst_false_positives=self._worst.rows(truth),
            worst_missed=self._missed(kind_T, is_read_T, area_T),
        )

    def _confusion(self) -> tuple[ConfusionCell, ...]:
        columns = self._classes + 1
        key_T = self._truth.class_N * columns + self._detected_class_T + 1
        keys, counts = torch.unique(key_T, return_counts=True)
        background = ((-1, class_id, count) for class_id, count in enumerate(self._background_K.tolist()) if count)
        rows = zip(keys.tolist(), counts.tolist(), strict=True)
        return (*((key // columns, key % columns - 1, count) for key, count in rows), *background)

    def _missed(self, kind_T: Tensor, is_read_T: Tensor, area_T: Tensor) -> tuple[ListedError, ...]:
        """List the largest missed objects, of every class in turn."""
        truth = self._truth
        (missed_N,) = torch.nonzero(~self._is_found_T & is_read_T, as_tuple=True)
        missed_N = missed_N[area_T[missed_N].argsort(descending=True, stable=True)]
        turn_N = position_in_group(truth.class_N[missed_N])
        missed_N = missed_N[turn_N.argsort(stable=True)]
        missed_N = missed_N[position_in_group(truth.image_N[missed_N]) < MAX_LISTED_PER_IMAGE][:MAX_LISTED_ERRORS]
        columns = (truth.image_N, kind_T, truth.class_N, truth.boxes_N4, self._detected_class_T, self._iou_T)
        rows = zip(*(column[missed_N].tolist() for column in columns), strict=True)
        return tuple(
            ListedError(image, Miss(kind).name.lower(), class_id, None, tuple(box), None if other < 0 else other, iou)
            for image, kind, class_id, box, other, iou in rows
        )


class _WorstDetections:
    """The false positives with the highest scores, a few of each image."""

    def __init__(self) -> None:
        self._whole_N4 = torch.zeros(0, 4, dtype=torch.int64)  # image, class, kind, nearest object
        self._parts_N6 = torch.zeros(0, 6)  # score, IoU, box

    def add(self, whole_N4: Tensor, parts_N6: Tensor) -> None:
        """Add all false positives of some images."""
        by_score_N = parts_N6[:, 0].argsort(descending=True, stable=True)
        is_listed_N = position_in_group(whole_N4[by_score_N, 0]) < MAX_LISTED_PER_IMAGE
        chosen_N = by_score_N[is_listed_N][:MAX_LISTED_ERRORS]
        whole_N4, parts_N6 = (
            torch.cat((self._whole_N4, whole_N4[chosen_N])),
            torch.cat((self._parts_N6, parts_N6[chosen_N])),
        )
        best_N = parts_N6[:, 0].argsort(descending=True, stable=True)[:MAX_LISTED_ERRORS]
        self._whole_N4, self._parts_N6 = whole_N4[best_N], parts_N6[best_N]

    def rows(self, truth: GroundTruth) -> tuple[ListedError, ...]:
        errors = []
        for (image, class_id, kind, nearest), (score, iou, *box) in zip(
            self._whole_N4.tolist(), self._parts_N6.tolist(), strict=True
        ):
            other = None if nearest < 0 else int(truth.class_N[nearest])
            errors.append(ListedError(image, FalsePositive(kind).name.lower(), class_id, score, tuple(box), other, iou))
        return tuple(errors)


def _sum_by_key(keys_and_counts_2N: Tensor) -> Tensor:
    """Sum the counts of equal keys."""
    keys, index_N = torch.unique(keys_and_counts_2N[0], return_inverse=True)
    return torch.stack((keys, torch.zeros_like(keys).index_add_(0, index_N, keys_and_counts_2N[1])))
