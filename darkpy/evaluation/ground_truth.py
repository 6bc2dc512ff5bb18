"""Ground truth of a list of images, read from their label files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from darkpy.data.lists.labels import read_labels
from darkpy.data.lists.paths import find_label
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError

_NO_LABELS_HINT = "labels lie beside the images, or those of images/a.jpg in labels/a.txt"


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """The labeled objects on a list of images.

    Shapes:  image_N int64, the index of the image in the list; class_N int64; boxes_N4 float32.
    Units:   boxes in center form, fractions of the image.
    missing: a message for each image without a readable label file; it counts as an image without objects.
    problems: a message for each invalid line of a label file.
    """

    image_N: Tensor
    class_N: Tensor
    boxes_N4: Tensor
    missing: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.image_N)


def read_ground_truth(paths: Sequence[str | os.PathLike[str]], dialect: Dialect, classes: int) -> GroundTruth:
    """Read the label files of images.

    Raises:  DarkpyError when there is none for any of them.
    Differs: boxes without a size or wholly outside the image, which no detection can match, are problems and do not
             count; for darknet they are objects that were missed.
    """
    indices: list[Tensor] = [torch.zeros(0, dtype=torch.int64)]
    boxes: list[Tensor] = [torch.zeros(0, 5)]
    missing: list[str] = []
    problems: list[str] = []
    for index, path in enumerate(paths):
        try:
            labels = read_labels(find_label(path, dialect), classes)
        except DarkpyError as error:
            missing.append(error.message)
            continue
        indices.append(torch.full((len(labels.boxes_N5),), index))
        boxes.append(labels.boxes_N5)
        problems += labels.problems
    if paths and len(missing) == len(paths):
        raise DarkpyError(f"no image of the list has labels; the first one's: {missing[0]}", hint=_NO_LABELS_HINT)
    boxes_N5 = torch.cat(boxes)
    return GroundTruth(torch.cat(indices), boxes_N5[:, 4].long(), boxes_N5[:, :4], tuple(missing), tuple(problems))
