"""Annotated images in a common form: what VOC's and COCO's files contain, with boxes in pixels.

A reader of a format parses each file into objects, notes what is wrong in an `ImportReport`, and lets
`annotated_image` settle the image's size.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from darkpy.data.loading.decoding import read_image_layout
from darkpy.errors import DarkpyError, ImageError

MAX_SIDE_PX = 1 << 20
MAX_SHOWN_FAULTS = 20
_SIZE_FROM_IMAGE = "image sizes that are missing, or impossible, are taken from the image files"
_SIZE_SWAPPED = "images have the width and height of their annotation swapped: the image files decide"
_BOXES_TURNED = "images are turned by their EXIF orientation, and their boxes with them"


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
    losses: locations of what is left out or changed, by its description.
    """

    images: Mapping[str, AnnotatedImage]
    splits: Mapping[str, Sequence[str]]
    missing: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    losses: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def class_names(self) -> tuple[str, ...]:
        """Return the names of the classes, in alphabetical order if the source defines none."""
        return self.names or tuple(sorted({item.name for image in self.images.values() for item in image.objects}))


class ImportReport:
    """Faults and losses of all files of a data set.

    faults: `file: what is wrong`, each of which prevents the import. losses: locations by description, for what is left
    out or changed.
    """

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.losses: defaultdict[str, list[str]] = defaultdict(list)

    def check(self, hint: str) -> None:
        """Raises: DarkpyError with all faults (up to what a person would read) when there are any."""
        if not self.faults:
            return
        more = len(self.faults) - MAX_SHOWN_FAULTS
        lines = [*self.faults[:MAX_SHOWN_FAULTS], *([f"... and {more} more"] if more > 0 else [])]
        raise DarkpyError("\n".join(lines), hint=hint)


def box_around(points: Iterable[tuple[float, float]]) -> BoxPx:
    """Return the smallest box around at least one point."""
    x_N, y_N = zip(*points, strict=True)
    return BoxPx(min(x_N), min(y_N), max(x_N), max(y_N))


def annotated_image(
    location: str,
    file: Path,
    size_px: tuple[float, float],
    objects: Sequence[AnnotatedObject],
    report: ImportReport,
) -> AnnotatedImage | None:
    """Combine an annotation with its image, whose own size counts where the annotation's is missing or swapped.

    location: of the annotation, for messages. size_px: as annotated; NaN for none.
    Returns: None when neither the annotation nor the image has a size, which is a fault.
    """
    is_sized = all(1 <= side <= MAX_SIDE_PX for side in size_px)
    w, h = map(round, size_px) if is_sized else (0, 0)
    try:
        layout = read_image_layout(file)
    except ImageError as error:
        if is_sized:
            return AnnotatedImage(file, w, h, tuple(objects))
        shown = " x ".join("?" if side != side else f"{side:g}" for side in size_px)
        report.faults.append(
            f"{location}: the image's size is {shown}, and boxes cannot be scaled without it ({error})"
        )
        return None
    if not is_sized:
        report.losses[_SIZE_FROM_IMAGE].append(location)
    elif w == h or (w, h) != (layout.h, layout.w):
        return AnnotatedImage(file, w, h, tuple(objects))  # of a resized image, perhaps: boxes are fractions of it
    elif layout.swaps_sides:
        report.losses[_BOXES_TURNED].append(location)
        objects = [item._replace(box=BoxPx(*layout.to_upright(item.box))) for item in objects]
    else:
        report.losses[_SIZE_SWAPPED].append(location)
    return AnnotatedImage(file, layout.w, layout.h, tuple(objects))
