"""darknet's `detector recall`: of how many objects a box is found, whatever its class.

T truths, I images of the list.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from darkpy.evaluation.detect import DetectOptions
from darkpy.evaluation.ground_truth import GroundTruth
from darkpy.evaluation.matching import GroupedGroundTruth
from darkpy.ops.detections import Detections

RECALL_THRESH = 0.001
RECALL_OPTIONS = DetectOptions(thresh=RECALL_THRESH, nms=0.4, letterbox=False, by_objectness=True)
"""Both forks' own."""


@dataclass(frozen=True, slots=True)
class ImageRecall:
    """The counts up to and with one image: truths that were found, truths, boxes; the sum of the truths' best IoU."""

    images: int
    correct: int
    truths: int
    boxes: int
    iou_sum: float

    @property
    def recall(self) -> float:
        return self.correct / self.truths if self.truths else 0.0

    @property
    def average_iou(self) -> float:
        return self.iou_sum / self.truths if self.truths else 0.0

    @property
    def boxes_per_image(self) -> float:
        return self.boxes / self.images


class Recall:
    """Looks for each truth for the box that overlaps it most.

    Source:  AlexeyAB/darknet src/detector.c validate_detector_recall
    Differs: pjreddie's reads a list of its own, and looks at as many boxes as the last layer has.
    """

    def __init__(self, truths: GroundTruth, images: int, *, iou_thresh: float = 0.5) -> None:
        self._image_T, self._iou_thresh = truths.image_N, iou_thresh
        self._truths = GroupedGroundTruth(truths.boxes_N4, truths.image_N)
        self._iou_T = torch.zeros(len(truths))
        self._boxes_I = torch.zeros(images, dtype=torch.int64)

    def add(self, detections: Detections) -> None:
        """Take in the boxes of some images; a box counts if it has objectness left. image_M are numbers of the list."""
        found = detections.select(detections.objectness_M > RECALL_THRESH)
        self._boxes_I += torch.bincount(found.image_M, minlength=len(self._boxes_I))
        self._iou_T = torch.maximum(self._iou_T, self._truths.best_iou_per_truth(found.boxes_M4, found.image_M))

    def result(self) -> list[ImageRecall]:
        """The counts after each image of the list; the last ones are those of all images."""
        correct, truths, iou = (
            self._sums(values_T) for values_T in (self._iou_T > self._iou_thresh, self._iou_T >= 0, self._iou_T)
        )
        columns = (correct.long(), truths.long(), self._boxes_I.cumsum(0), iou)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [ImageRecall(images, *row) for images, row in enumerate(rows, start=1)]

    def _sums(self, values_T: Tensor) -> Tensor:
        """Of the values of all truths on an image and those before it."""
        sums_I = torch.zeros(len(self._boxes_I), dtype=torch.float64)
        return sums_I.index_add_(0, self._image_T, values_T.double()).cumsum(0)
