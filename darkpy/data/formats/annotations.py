"""What VOC's and COCO's files say of images: the objects on them, in pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class BoxPx(NamedTuple):
    """The edges of a box in pixels from the image's upper left corner; those between pixels are whole numbers."""

    left: float
    top: float
    right: float
    bottom: float


class AnnotatedObject(NamedTuple):
    """One object as a file has it, good or not. is_difficult: VOC's difficult, COCO's iscrowd; it need not be found."""

    name: str
    box: BoxPx
    is_difficult: bool = False


@dataclass(frozen=True, slots=True)
class Image:
    """An image and its objects. file: the image, wherever it is. Units: w, h in pixels."""

    file: Path
    w: int
    h: int
    objects: tuple[AnnotatedObject, ...]


@dataclass(frozen=True, slots=True)
class AnnotatedDataset:
    """An annotated data set.

    images: by the names that `splits` use. splits: which images are for what; empty where the source does not say.
    missing: images that were spoken of and are not there. names: the classes in their order, where the source tells.
    """

    images: Mapping[str, Image]
    splits: Mapping[str, Sequence[str]]
    missing: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def class_names(self) -> tuple[str, ...]:
        """What the objects are called, each name once; in the order of the alphabet where there is no other."""
        return self.names or tuple(sorted({one.name for image in self.images.values() for one in image.objects}))
