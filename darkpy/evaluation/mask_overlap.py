"""Overlap of the masks that a network finds with those of the mask files: IoU of each class.

K classes; H height, W width of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from darkpy.data.lists.mask_files import MaskFile
from darkpy.evaluation.segment import Segmentation


@dataclass(frozen=True, slots=True)
class ClassOverlap:
    """Pixels of a class in all images: found by the network, in the mask files (`true`), and both at once."""

    found: int
    true: int
    shared: int

    @property
    def iou(self) -> float:
        """Intersection over union; 0 for a class that neither has."""
        return self.shared / max(1, self.found + self.true - self.shared)


def mean_iou(classes: Sequence[ClassOverlap]) -> float:
    """Mean IoU of the classes that the mask files have; 0 if they have none."""
    ious = [overlap.iou for overlap in classes if overlap.true]
    return sum(ious) / max(1, len(ious))


class MaskOverlap:
    """Counts the pixels of each class over the images, in their own size.

    Instances of a class are one mask. Classes may overlap.
    """

    def __init__(self, classes: int) -> None:
        self._found_K, self._true_K, self._shared_K = np.zeros((3, classes), np.int64)

    def add(self, image: Segmentation, truth: MaskFile) -> None:
        """Count an image that could be read. truth: its mask file; masks that do not fit it do not count."""
        assert image.image is not None
        w, h = image.image.w, image.image.h
        found = {mask.class_id: mask for mask in image.masks}
        for class_id, mask in found.items():
            self._found_K[class_id] += mask.pixels
        for class_id, pixels_HW in truth.fitting(w, h).render_classes(w, h):
            self._true_K[class_id] += np.count_nonzero(pixels_HW)
            if class_id in found:
                self._shared_K[class_id] += np.count_nonzero(pixels_HW & found[class_id].render(w, h))

    def classes(self) -> tuple[ClassOverlap, ...]:
        columns = zip(self._found_K.tolist(), self._true_K.tolist(), self._shared_K.tolist(), strict=True)
        return tuple(ClassOverlap(*column) for column in columns)
