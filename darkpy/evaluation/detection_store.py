"""Store of all detections on a list of images, for result files and COCO's evaluation.

D detections: a class of a box with a score above 0; I images of the list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from darkpy.evaluation.detect import ImageStatus
from darkpy.ops.boxes import Detections, to_corners

ROWS_PER_CHUNK = 1 << 14
MAX_BOX_FRAC = 1e30


class StoredDetection(NamedTuple):
    """One class of one box, its edges in pixels."""

    image: int
    class_id: int
    score: float
    left: float
    top: float
    right: float
    bottom: float


class DetectionStore:
    """Collect detections, and return them as rows in the same order; NaN boxes are left out.

    Units:   boxes_D4 in center form, fractions of the image.
    """

    def __init__(self) -> None:
        self._image_and_class = [torch.zeros(2, 0, dtype=torch.int32)]
        self._score_and_box = [torch.zeros(0, 5)]

    def add(self, detections: Detections) -> None:
        """Add the detections of some images; image_M are indices of the list."""
        valid = detections.select(~detections.boxes_M4.isnan().any(dim=1))
        box_D, class_D = torch.nonzero(valid.prob_MK > 0, as_tuple=True)
        self._image_and_class.append(torch.stack((valid.image_M[box_D], class_D)).int())
        self._score_and_box.append(torch.cat((valid.prob_MK[box_D, class_D, None], valid.boxes_M4[box_D]), dim=1))

    @property
    def image_D(self) -> Tensor:
        return self._tables()[0][0]

    @property
    def class_D(self) -> Tensor:
        return self._tables()[0][1]

    @property
    def score_D(self) -> Tensor:
        return self._tables()[1][:, 0]

    def by_image(self, images: int) -> tuple[Tensor, ...]:
        """Indices of the detections on each image."""
        return _groups(self.image_D, images)

    def by_class(self, classes: int) -> tuple[Tensor, ...]:
        """Indices of the detections of each class."""
        return _groups(self.class_D, classes)

    def rows(
        self, images: Sequence[ImageStatus], index_D: Tensor | None = None, *, first_pixel: int = 0
    ) -> Iterator[StoredDetection]:
        """Yield all detections, or those with some indices.

        images: all images of the list. first_pixel: the coordinate of the leftmost and the topmost pixel.
        Source:  pjreddie/darknet examples/detector.c print_cocos, print_detector_detections
        Differs: a box wholly outside the image ends up at its edge, without a size; darknet's has a negative one.
        """
        image_and_class_2D, score_and_box_D5 = self._tables()
        index_D = torch.arange(len(score_and_box_D5)) if index_D is None else index_D
        size_I4 = torch.tensor([image.size * 2 for image in images], dtype=torch.float32).view(-1, 4)
        for index in torch.split(index_D, ROWS_PER_CHUNK):
            image, class_id = image_and_class_2D[:, index]
            corners_px = self.edges_px(size_I4, index, first_pixel=first_pixel)
            columns = (image.tolist(), class_id.tolist(), score_and_box_D5[index, 0].tolist(), corners_px.tolist())
            for image_index, class_index, score, corners in zip(*columns, strict=True):
                yield StoredDetection(image_index, class_index, score, *corners)

    def edges_px(self, size_I4: Tensor, index_D: Tensor, *, first_pixel: int = 0) -> Tensor:
        """Left, top, right and bottom of detections with some indices, inside the image. size_I4: w, h, w, h."""
        size_px = size_I4[self.image_D[index_D]]
        # beyond the bound the product is infinite, and an infinite center minus an infinite half is NaN
        boxes_frac = self._tables()[1][index_D, 1:].clamp(-MAX_BOX_FRAC, MAX_BOX_FRAC)
        box_px = (boxes_frac * size_px).double()
        return (to_corners(box_px) + first_pixel).float().clamp_(min=first_pixel).minimum(size_px)

    def _tables(self) -> tuple[Tensor, Tensor]:
        """All batches in one table each; they are concatenated once, on first use."""
        self._image_and_class = [torch.cat(self._image_and_class, dim=1)]
        self._score_and_box = [torch.cat(self._score_and_box)]
        return self._image_and_class[0], self._score_and_box[0]


def _groups(key_D: Tensor, count: int) -> tuple[Tensor, ...]:
    sizes = torch.bincount(key_D, minlength=count).tolist()
    return tuple(torch.split(key_D.argsort(stable=True), sizes))
