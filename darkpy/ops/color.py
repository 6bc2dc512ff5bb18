"""Hue, saturation and value of images, and what the augmentation does to them, without asking in which sector of
the color circle a pixel lies.

Letters: C color (red, green, blue), H height, W width. Images are float32 0..1; a hue is a fraction of the circle.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

OPENCV_HUE = 179 / 180
"""AlexeyAB adds 179 x hue to OpenCV's hues, which count to 180 around the circle."""

OPENCV_WHITE = 255 / 180
"""OpenCV's hues are bytes: they stop at 0 and at 255, the latter beyond a full turn."""

_GRAY = 1e-20  # in place of a zero divisor: what is divided by it is 0, too


class _Parts(NamedTuple):
    """hue6_HW: -1..5, reds being negative on the side of blue. value_HW: the largest. chroma_HW: how far from gray."""

    hue6_HW: Tensor
    value_HW: Tensor
    chroma_HW: Tensor


def rgb_to_hsv(image_CHW: Tensor) -> Tensor:
    """Hue, saturation, value of each pixel, each 0..1.

    Source:  pjreddie/darknet src/image.c rgb_to_hsv
    Differs: gray has hue 0; darknet divides 0 by 0.
    """
    hue6_HW, value_HW, chroma_HW = _take_apart(image_CHW)
    turn_HW = _wrap(hue6_HW / 6).mul_(chroma_HW > 0)
    return torch.stack((turn_HW, chroma_HW / value_HW.clamp_min(_GRAY), value_HW))


def hsv_to_rgb(hsv_CHW: Tensor) -> Tensor:
    """The image of `rgb_to_hsv` again; saturations above 1 leave 0..1.

    Source:  pjreddie/darknet src/image.c hsv_to_rgb
    Differs: hue 1 is hue 0; darknet's last sector makes magenta of it.
    """
    turn_HW, saturation_HW, value_HW = hsv_CHW.unbind(0)
    return _put_together(_wrap(turn_HW).mul(6), value_HW, value_HW * saturation_HW)


def distort(image_CHW: Tensor, hue: float, saturation: float, exposure: float) -> Tensor:
    """The hue turned, saturation and value multiplied, then all numbers kept within 0..1.

    One color, or two, are multiplied by the exposure alone.

    Source:  pjreddie/darknet src/image.c distort_image
    """
    if image_CHW.shape[0] != 3:
        return (image_CHW * exposure).clamp_(0, 1)
    hue6_HW, value_HW, chroma_HW = _take_apart(image_CHW)
    turn_HW = _wrap(hue6_HW.mul_(1 / 6).add_(hue))
    return _put_together(turn_HW.mul_(6), value_HW.mul_(exposure), chroma_HW.mul_(exposure * saturation)).clamp_(0, 1)


def distort_bounded(image_CHW: Tensor, hue: float, saturation: float, exposure: float) -> Tensor:
    """As `distort`, but saturation and value stop at 1 each, so that bright colors keep their hue; and so do the hues
    at red: none is turned back beyond it.

    Source:  AlexeyAB/darknet src/image_opencv.cpp image_data_augmentation
    Differs: in floats; OpenCV rounds to 8 bits before, between and after.
    """
    if image_CHW.shape[0] != 3:
        return (image_CHW * exposure).clamp_(0, 1)
    hue6_HW, value_HW, chroma_HW = _take_apart(image_CHW)
    saturation_HW = chroma_HW.div_(value_HW.clamp_min(_GRAY)).mul_(saturation).clamp_(max=1)
    turn_HW = _wrap(hue6_HW.mul_(1 / 6)).add_(OPENCV_HUE * hue).clamp_(0, OPENCV_WHITE)
    value_HW.mul_(exposure).clamp_(max=1)
    return _put_together(_wrap(turn_HW).mul_(6), value_HW, saturation_HW.mul_(value_HW)).clamp_(0, 1)


def _take_apart(image_CHW: Tensor) -> _Parts:
    value_HW, least_HW = image_CHW.amax(0), image_CHW.amin(0)
    chroma_HW = value_HW - least_HW
    share_CHW = (image_CHW - least_HW).div_(chroma_HW.clamp_min(_GRAY))
    red_HW, green_HW, blue_HW = share_CHW.unbind(0)
    # the share of the largest is exactly 1, so the floor says which it is; where two are, both give the same hue
    is_red_HW, is_green_HW, _ = share_CHW.floor().unbind(0)
    hue6_HW = torch.lerp((red_HW - green_HW).add_(4), (blue_HW - red_HW).add_(2), is_green_HW)
    return _Parts(hue6_HW.lerp_(green_HW - blue_HW, is_red_HW), value_HW, chroma_HW)


def _wrap(turn_HW: Tensor) -> Tensor:
    """Fractions of the circle within 0..1."""
    return turn_HW - turn_HW.floor()


def _put_together(hue6_HW: Tensor, value_HW: Tensor, chroma_HW: Tensor) -> Tensor:
    """Each color goes up, stays, goes down and stays along the circle: a distance from its middle, cut off."""
    center_C11, slope_C11, top_C11 = value_HW.new_tensor(((3, 2, 4), (1, -1, -1), (-1, 2, 2))).view(3, 3, 1, 1)
    share_CHW: Tensor = (hue6_HW - center_C11).abs_().mul_(slope_C11).add_(top_C11).clamp_(0, 1)
    return share_CHW.mul_(chroma_HW).add_(value_HW - chroma_HW)
