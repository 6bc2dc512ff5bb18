"""Overlap of the masks that a network finds with those of the mask files: IoU of each class.

K classes; H height, W width of an image.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from darkpy.data.lists.mask_files import MaskFile, read_masks
from darkpy.data.lists.paths import mask_path
from darkpy.errors import DarkpyError
from darkpy.evaluation.defaults import MASK_BATCH_SIZE
from darkpy.evaluation.segment import Segmentation, segment
from darkpy.network import Network


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

    def follow(
        self, network: Network, paths: Sequence[str | os.PathLike[str]], *, batch_size: int | None = None
    ) -> Iterator[DarkpyError | None]:
        """Find the masks of each image and count them. Yields: why an image cannot be counted, None for the others.

        Raises: DarkpyError when the network does not classify pixels, or its output is NaN.
        """
        for image in segment(network, paths, thresh=None, batch_size=batch_size or MASK_BATCH_SIZE):
            error: DarkpyError | None = image.error
            if error is None:
                try:
                    self.add(image, read_masks(mask_path(image.path), len(self._true_K)))
                except DarkpyError as unreadable:
                    error = unreadable
            yield error

    def classes(self) -> tuple[ClassOverlap, ...]:
        columns = zip(self._found_K.tolist(), self._true_K.tolist(), self._shared_K.tolist(), strict=True)
        return tuple(ClassOverlap(*column) for column in columns)
