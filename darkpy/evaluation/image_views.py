"""Views of an image: the inputs that darkpy makes of it for networks without boxes.

C H W channels, rows, columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from darkpy.dialect import Dialect
from darkpy.errors import ImageError
from darkpy.ops.resample import crop, resize, resize_max, scaled_size

TEN_CROP_SHIFT_PX = 32
"""Pixels by which `classifier valid10` enlarges an image, and moves its crops."""
SCALES_PX = {Dialect.PJREDDIE: (224, 256, 288, 320), Dialect.ALEXEYAB: (224, 288, 320, 352, 384)}
"""Sizes of `classifier validmulti`: of the longer side in pjreddie's program, of the shorter one in AlexeyAB's."""
MAX_VIEW_PIXELS = 1 << 22
"""Pixels of a view that is not of the network's own size: 2048 x 2048."""

FitImage = Callable[[Tensor, int, int], Tensor]
"""Returns the network's input, (C, h, w), for an image, from the width and height of [net]."""


class View(NamedTuple):
    """Input of the network, of any size. is_absolute: multiply probabilities in a class tree down its branches."""

    x_CHW: Tensor
    is_absolute: bool = True


MakeViews = Callable[[Tensor, int, int], Sequence[View]]
"""Returns the inputs of the network for an image, from the width and height of [net]."""


@dataclass(frozen=True, slots=True)
class OneView:
    """Makes a single view of an image."""

    fit: FitImage

    def __call__(self, image_CHW: Tensor, net_w: int, net_h: int) -> tuple[View]:
        return (View(self.fit(image_CHW, net_w, net_h)),)


def fit_short_side(image_CHW: Tensor, net_w: int, net_h: int) -> Tensor:
    """Resize the whole image, its shorter side to the network's width.

    Raises: ImageError for one so long that it would take too much memory.
    """
    _, h, w = image_CHW.shape
    scaled_w, scaled_h = scaled_size(w, h, net_w)
    if scaled_w * scaled_h > MAX_VIEW_PIXELS:
        raise ImageError(
            f"is {w} x {h}, which would be {scaled_w} x {scaled_h} for the network", hint="cut it into parts"
        )
    return resize(image_CHW, scaled_w, scaled_h)


def stretched(image_CHW: Tensor, net_w: int, net_h: int) -> tuple[View]:
    """Resize the image to the network's size; probabilities stay those within the groups of a tree."""
    return (View(resize(image_CHW, net_w, net_h), is_absolute=False),)


def ten_crops(image_CHW: Tensor, net_w: int, net_h: int) -> list[View]:
    """Cut four corners and the middle out of a stretched image, as it is and mirrored.

    Source: pjreddie/darknet examples/classifier.c validate_classifier_10; what lies beyond an edge is the edge again
    """
    shift = TEN_CROP_SHIFT_PX
    large_CHW = resize(image_CHW, net_w + shift, net_h + shift)
    corners = ((-shift, -shift), (shift, -shift), (0, 0), (-shift, shift), (shift, shift))
    sides = (large_CHW, large_CHW.flip(2))
    return [View(crop(side_CHW, dx, dy, net_w, net_h)) for side_CHW in sides for dx, dy in corners]


def several_sizes(image_CHW: Tensor, net_w: int, net_h: int, dialect: Dialect) -> list[View]:
    """Scale a whole image to several sizes, as it is and mirrored; the C programs leave the tree out where mirrored.

    Source: pjreddie/darknet examples/classifier.c and AlexeyAB/darknet src/classifier.c validate_classifier_multi
    Differs: an image that has one of these sizes is mirrored for good there.
    """
    if dialect is Dialect.PJREDDIE:
        scaled = [resize_max(image_CHW, size) for size in SCALES_PX[dialect]]
    else:
        scaled = [fit_short_side(image_CHW, size, size) for size in SCALES_PX[dialect]]
    return [view for x_CHW in scaled for view in (View(x_CHW), View(x_CHW.flip(2), is_absolute=False))]
