"""HSV conversion and color augmentation, without branches on the sector of the color circle.

Letters: C color (red, green, blue), H height, W width. Images are float32 0..1; a hue is a fraction of the circle.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_MIN_DIVISOR = 1e-20  # replaces a divisor of 0, whose dividend is 0 too


class _HueValueChroma(NamedTuple):
    """Color components of an image.

    hue6_HW: -1..5, in sixths of the circle; reds towards blue are negative. value_HW: largest of the three colors.
    chroma_HW: largest minus smallest.
    """

    hue6_HW: Tensor
    value_HW: Tensor
    chroma_HW: Tensor


def rgb_to_hsv(image_CHW: Tensor) -> Tensor:
    """Convert RGB to hue, saturation, value, each 0..1.

    Source:  pjreddie/darknet src/image.c rgb_to_hsv
    Differs: gray has hue 0; darknet divides 0 by 0.
    """
    hue6_HW, value_HW, chroma_HW = _split_color(image_CHW)
    turn_HW = _wrap(hue6_HW / 6).mul_(chroma_HW > 0)
    return torch.stack((turn_HW, chroma_HW / value_HW.clamp_min(_MIN_DIVISOR), value_HW))


def hsv_to_rgb(hsv_CHW: Tensor) -> Tensor:
    """Invert `rgb_to_hsv`; saturations above 1 give values outside 0..1.

    Source:  pjreddie/darknet src/image.c hsv_to_rgb
    Differs: hue 1 equals hue 0; darknet's last sector turns it into magenta.
    """
    turn_HW, saturation_HW, value_HW = hsv_CHW.unbind(0)
    return _merge_color(_wrap(turn_HW).mul(6), value_HW, value_HW * saturation_HW)


def distort(image_CHW: Tensor, hue: float, saturation: float, exposure: float) -> Tensor:
    """Shift the hue, scale saturation and value, then clamp to 0..1.

    Images that do not have three channels are only scaled by the exposure.

    Source:  pjreddie/darknet src/image.c distort_image
    """
    if image_CHW.shape[0] != 3:
        return (image_CHW * exposure).clamp_(0, 1)
    hue6_HW, value_HW, chroma_HW = _split_color(image_CHW)
    turn_HW = _wrap(hue6_HW.mul_(1 / 6).add_(hue))
    return _merge_color(turn_HW.mul_(6), value_HW.mul_(exposure), chroma_HW.mul_(exposure * saturation)).clamp_(0, 1)


def _split_color(image_CHW: Tensor) -> _HueValueChroma:
    value_HW, smallest_HW = image_CHW.amax(0), image_CHW.amin(0)
    chroma_HW = value_HW - smallest_HW
    share_CHW = (image_CHW - smallest_HW).div_(chroma_HW.clamp_min(_MIN_DIVISOR))
    red_HW, green_HW, blue_HW = share_CHW.unbind(0)
    # the share of the largest color is exactly 1, so floor() is its mask; if two are largest, both give the same hue
    is_red_HW, is_green_HW, _ = share_CHW.floor().unbind(0)
    hue6_HW = torch.lerp((red_HW - green_HW).add_(4), (blue_HW - red_HW).add_(2), is_green_HW)
    return _HueValueChroma(hue6_HW.lerp_(green_HW - blue_HW, is_red_HW), value_HW, chroma_HW)


def _wrap(turn_HW: Tensor) -> Tensor:
    """Wrap turns of the circle to 0..1."""
    return turn_HW - turn_HW.floor()


def _merge_color(hue6_HW: Tensor, value_HW: Tensor, chroma_HW: Tensor) -> Tensor:
    """Compute RGB; along the circle each color is a trapezoid: the clamped distance to the trapezoid's center."""
    center_C11, slope_C11, top_C11 = value_HW.new_tensor(((3, 2, 4), (1, -1, -1), (-1, 2, 2))).view(3, 3, 1, 1)
    share_CHW: Tensor = (hue6_HW - center_C11).abs_().mul_(slope_C11).add_(top_C11).clamp_(0, 1)
    return share_CHW.mul_(chroma_HW).add_(value_HW - chroma_HW)
