"""Annotated images in a common form: what VOC's and COCO's files contain, with boxes in pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class BoxPx(NamedTuple):
    """Edges of a box in pixels from the image's upper left corner; integers lie between two pixels."""

    left: float
    top: float
    right: float
    bottom: float


class AnnotatedObject(NamedTuple):
    """Object as a file has it, unchecked. is_difficult: VOC's difficult or COCO's iscrowd; it need not be detected."""

    name: str
    box: BoxPx
    is_difficult: bool = False


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """Image and its objects. file: path of the image. Units: w, h in pixels."""

    file: Path
    w: int
    h: int
    objects: tuple[AnnotatedObject, ...]


@dataclass(frozen=True, slots=True)
class AnnotatedDataset:
    """Annotated data set.

    images: by the names that `splits` use. splits: names of images by split; empty if the source has none.
    missing: names of images that do not exist. names: classes in their order, if the source defines one.
    """

    images: Mapping[str, AnnotatedImage]
    splits: Mapping[str, Sequence[str]]
    missing: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def class_names(self) -> tuple[str, ...]:
        """Return the names of the classes, in alphabetical order if the source defines none."""
        return self.names or tuple(sorted({item.name for image in self.images.values() for item in image.objects}))
