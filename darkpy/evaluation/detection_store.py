"""All that was detected on a list of images, kept until it is written down or judged by others.

D what is detected: a class that a box shows; I images of the list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from darkpy.evaluation.detect import ImageStatus
from darkpy.ops.boxes import to_corners
from darkpy.ops.detections import Detections

ROWS_PER_CHUNK = 1 << 14


class StoredDetection(NamedTuple):
    """A class that a box shows; the edges of the box in pixels."""

    image: int
    class_id: int
    score: float
    left: float
    top: float
    right: float
    bottom: float


class DetectionStore:
    """Takes in detections, and gives them back as rows in the same order; boxes that are NaN are only counted.

    Units:   boxes_D4 in center form, fractions of the image.
    """

    def __init__(self) -> None:
        self.nan_count = 0
        self._numbers = [torch.zeros(2, 0, dtype=torch.int32)]
        self._values = [torch.zeros(0, 5)]

    def add(self, detections: Detections) -> None:
        """Take in the detections of some images; image_M are numbers of the list."""
        is_number_M = ~detections.boxes_M4.isnan().any(dim=1)
        self.nan_count += int((~is_number_M).sum())
        found = detections.select(is_number_M)
        place_D, class_D = torch.nonzero(found.prob_MK > 0, as_tuple=True)
        self._numbers.append(torch.stack((found.image_M[place_D], class_D)).int())
        self._values.append(torch.cat((found.prob_MK[place_D, class_D, None], found.boxes_M4[place_D]), dim=1))

    @property
    def image_D(self) -> Tensor:
        return self._joined()[0][0]

    @property
    def class_D(self) -> Tensor:
        return self._joined()[0][1]

    def by_image(self, images: int) -> tuple[Tensor, ...]:
        """The places of the detections on each image."""
        return _groups(self.image_D, images)

    def by_class(self, classes: int) -> tuple[Tensor, ...]:
        """The places of the detections of each class."""
        return _groups(self.class_D, classes)

    def rows(
        self, views: Sequence[ImageStatus], places_D: Tensor | None = None, *, first_pixel: int = 0
    ) -> Iterator[StoredDetection]:
        """All rows, or those at some places.

        views: all images of the list. first_pixel: the number of the leftmost and the topmost pixel.
        Source:  pjreddie/darknet examples/detector.c print_cocos, print_detector_detections
        Differs: a box wholly outside the image ends up at its edge, without a size; darknet's has a negative one.
        """
        numbers_2D, values_D5 = self._joined()
        places_D = torch.arange(len(values_D5)) if places_D is None else places_D
        size_I4 = torch.tensor([view.size * 2 for view in views]).view(-1, 4)
        for places in torch.split(places_D, ROWS_PER_CHUNK):
            image, class_id = numbers_2D[:, places]
            size_px = size_I4[image]
            box_px = (values_D5[places, 1:] * size_px).double()
            corners_px = (to_corners(box_px) + first_pixel).float().clamp_(min=first_pixel).minimum(size_px)
            columns = (image.tolist(), class_id.tolist(), values_D5[places, 0].tolist(), corners_px.tolist())
            for number, k, score, corners in zip(*columns, strict=True):
                yield StoredDetection(number, k, score, *corners)

    def _joined(self) -> tuple[Tensor, Tensor]:
        self._numbers, self._values = [torch.cat(self._numbers, dim=1)], [torch.cat(self._values)]
        return self._numbers[0], self._values[0]


def _groups(key_D: Tensor, count: int) -> tuple[Tensor, ...]:
    sizes = torch.bincount(key_D, minlength=count).tolist()
    return tuple(torch.split(key_D.argsort(stable=True), sizes))
