"""Detected objects as plain Python values, for printing, drawing and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from darkpy.errors import DarkpyError
from darkpy.ops.detections import Detections

BoxFrac = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Object:
    """One class of one box: one line of darknet's output, one entry of its JSON.

    Units:   box_frac is (x, y, w, h) in center form, fractions of the image, not clipped.
    """

    class_id: int
    name: str
    confidence: float
    box_frac: BoxFrac


def to_objects(detections: Detections, image: int, names: Sequence[str], thresh: float) -> list[Object]:
    """Return one object for each class above thresh of each box of an image.

    Returns: boxes in detection order, the classes of a box by number.
    Raises:  DarkpyError when a class has no name.
    """
    of_image = detections.of(image)
    classes = of_image.prob_MK.shape[1]
    if classes > len(names):
        raise DarkpyError(
            f"the network has {classes} classes, the list of names has {len(names)}",
            hint="give the names file the network was trained with (names= in the .data file)",
        )
    box_D, class_D = torch.nonzero(of_image.prob_MK > thresh, as_tuple=True)
    confidence_D = of_image.prob_MK[box_D, class_D]
    rows = zip(class_D.tolist(), confidence_D.tolist(), of_image.boxes_M4[box_D].tolist(), strict=True)
    return [Object(class_id, names[class_id], score, (x, y, w, h)) for class_id, score, (x, y, w, h) in rows]
