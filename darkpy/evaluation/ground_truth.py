"""Ground truth of a list of images, read from their label files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from darkpy.data.lists.image_list import NO_LABELS_HINT, require_images
from darkpy.data.lists.labels import read_labels
from darkpy.data.lists.paths import find_label, read_image_list
from darkpy.data.lists.text_files import DIFFICULT_KEYS, DataFile
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError


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

    def messages(self, images: int) -> Iterator[str]:
        """Warnings about label files. images: number of images of the list."""
        if self.missing:
            yield f"images without labels: {len(self.missing)} of {images}; first: {self.missing[0]}"
        if self.problems:
            yield f"invalid lines in label files: {len(self.problems)}; first: {self.problems[0]}"


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
        require_images([Path(path) for path in paths])
        raise DarkpyError(f"no image of the list has labels; the first one's: {missing[0]}", hint=NO_LABELS_HINT)
    boxes_N5 = torch.cat(boxes)
    return GroundTruth(torch.cat(indices), boxes_N5[:, 4].long(), boxes_N5[:, :4], tuple(missing), tuple(problems))


def read_difficult(
    data: DataFile, paths: Sequence[str | os.PathLike[str]], dialect: Dialect, classes: int
) -> GroundTruth | None:
    """Read the objects of the `difficult` list of a `.data` file, which need not be found; None if it has none.

    paths: the images of its `valid` list.
    Raises: DarkpyError as `read_ground_truth`, and when the two lists have different lengths.
    """
    file = data.find(DIFFICULT_KEYS["valid"])
    if file is None:
        return None
    images = read_image_list(file)
    if len(images) != len(paths):
        raise DarkpyError(
            f"{file}: lists {len(images)} images, the list of valid= has {len(paths)}",
            hint="difficult= and valid= must name the same images in the same order",
        )
    return read_ground_truth(images, dialect, classes)
