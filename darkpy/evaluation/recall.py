"""darknet's `detector recall`: the share of objects that any box finds, whatever its class.

T ground-truth objects, I images of the list.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from darkpy.evaluation.detect import DetectOptions
from darkpy.evaluation.ground_truth import GroundTruth
from darkpy.evaluation.truth_matching import GroupedGroundTruth
from darkpy.ops.boxes import Detections

RECALL_THRESH = 0.001
RECALL_OPTIONS = DetectOptions(thresh=RECALL_THRESH, nms=0.4, letterbox=False, by_objectness=True)
"""The constants of `detector recall` in both dialects."""


@dataclass(frozen=True, slots=True)
class ImageRecall:
    """Counts up to and with one image: objects found, objects, boxes, and the sum of the objects' best IoU."""

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
    """Accumulate, for each object, the IoU of the box that overlaps it most.

    Source:  AlexeyAB/darknet src/detector.c validate_detector_recall
    Differs: pjreddie's reads a list of its own, and looks at as many boxes as the last layer has.
    """

    def __init__(self, ground_truth: GroundTruth, images: int, *, iou_thresh: float = 0.5) -> None:
        self._image_T, self._iou_thresh = ground_truth.image_N, iou_thresh
        self._truths = GroupedGroundTruth(ground_truth.boxes_N4, ground_truth.image_N)
        self._iou_T = torch.zeros(len(ground_truth))
        self._boxes_I = torch.zeros(images, dtype=torch.int64)

    def add(self, detections: Detections) -> None:
        """Add the boxes of some images that still have objectness after suppression; image_M index the list."""
        boxes = detections.select(detections.objectness_M > RECALL_THRESH)
        self._boxes_I += torch.bincount(boxes.image_M, minlength=len(self._boxes_I))
        self._iou_T = torch.maximum(self._iou_T, self._truths.best_iou_per_truth(boxes.boxes_M4, boxes.image_M))

    def result(self) -> list[ImageRecall]:
        """Return the counts after each image of the list; the last ones are those of all images."""

        def sums(values_T: Tensor) -> Tensor:
            sums_I = torch.zeros(len(self._boxes_I), dtype=torch.float64)
            return sums_I.index_add_(0, self._image_T, values_T.double()).cumsum(0)

        correct_I, truths_I = sums(self._iou_T > self._iou_thresh).long(), sums(self._iou_T >= 0).long()
        columns = (correct_I, truths_I, self._boxes_I.cumsum(0), sums(self._iou_T))
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [ImageRecall(images, *row) for images, row in enumerate(rows, start=1)]
