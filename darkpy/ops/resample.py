"""Images at another size: darknet's resize, its letterbox and its crops.

Letters: C color, H height, W width; N all numbers of a row of pixels, or all rows of all colors.
An image is float 0..1 or uint8 0..255, planar or a (C, H, W) view of interleaved pixels; what is resized is float32
0..1. uint8 costs least: only the rows that are read become float, and only the result is divided by 255.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

GRAY = 0.5
"""What darknet paints where the letterboxed image does not reach."""

MUCH_WIDER = 16
"""How much wider than the result an image must be to have its columns resized first: with its few rows copied to the
many of the result, a file of one row and millions of columns would fill the memory."""


_KEPT_MOST = 1 << 14


class LetterboxGeometry(NamedTuple):
    """Where the letterboxed image lies in the network's input, in pixels; it is pasted at whole ones."""

    new_w: int
    new_h: int
    left: int
    top: int


def letterbox_geometry(w: int, h: int, net_w: int, net_h: int) -> LetterboxGeometry:
    """The largest new_w x new_h with the sides of w x h, and the place of its corner, in the middle of net_w x net_h.

    Source:  pjreddie/darknet src/image.c letterbox_image
    Differs: a side is at least 1 pixel; darknet makes it 0 for a very long image and shows the network plain gray.
             darknet compares the two ratios as floats, which can only matter beyond some 13000 pixels a side.
    """
    if net_w * h < net_h * w:
        new_w, new_h = net_w, max(1, h * net_w // w)
    else:
        new_w, new_h = max(1, w * net_h // h), net_h
    return LetterboxGeometry(new_w, new_h, (net_w - new_w) // 2, (net_h - new_h) // 2)


def resize(image_CHW: Tensor, w: int, h: int, *, channels_last: bool = False) -> Tensor:
    """Bilinear, corner pixels on corner pixels, no antialiasing.

    is_interleaved: lay its pixels out so, which is what convolutions like best.
    Source:  pjreddie/darknet src/image.c resize_image
    Differs: the last row is the image's last row; darknet darkens it where rounding puts it just above.
             To a height of 1 darknet divides by zero; here that is the last row, as a width of 1 is the last column.
    """
    return _resize_into(_canvas(image_CHW, w, h, channels_last), image_CHW, w, h)


def letterbox(image_CHW: Tensor, net_w: int, net_h: int, *, channels_last: bool = False) -> Tensor:
    """The image with its own sides, as large as net_w x net_h allows, in the middle of gray.

    is_interleaved: lay its pixels out so, which is what convolutions like best.
    Source:  pjreddie/darknet src/image.c letterbox_image
    """
    _, h, w = image_CHW.shape
    place = letterbox_geometry(w, h, net_w, net_h)
    boxed_CHW = _canvas(image_CHW, net_w, net_h, channels_last).fill_(GRAY)
    rows = slice(place.top, place.top + place.new_h)
    columns = slice(place.left, place.left + place.new_w)
    _resize_into(boxed_CHW[:, rows, columns], image_CHW, place.new_w, place.new_h)
    return boxed_CHW


def resize_min(image_CHW: Tensor, size: int) -> Tensor:
    """The image with its own sides, the shorter one `size`; a very long image becomes very large.

    Source:  pjreddie/darknet src/image.c resize_min
    """
    _, h, w = image_CHW.shape
    return resize(image_CHW, *_short_side(w, h, size))


def resize_max(image_CHW: Tensor, size: int) -> Tensor:
    """The image with its own sides, the longer one `size`.

    Source:  pjreddie/darknet src/image.c resize_max
    Differs: a side is at least 1 pixel; darknet makes it 0 for a very long image.
    """
    _, h, w = image_CHW.shape
    if w > h:
        return resize(image_CHW, size, max(1, h * size // w))
    return resize(image_CHW, max(1, w * size // h), size)


def crop(image_CHW: Tensor, dx: int, dy: int, w: int, h: int) -> Tensor:
    """The w x h pixels whose corner is column dx, row dy; outside the image its edge goes on.

    Source:  pjreddie/darknet src/image.c crop_image
    """
    _, source_h, source_w = image_CHW.shape
    rows = torch.arange(dy, dy + h, device=image_CHW.device).clamp_(0, source_h - 1)
    columns = torch.arange(dx, dx + w, device=image_CHW.device).clamp_(0, source_w - 1)
    return image_CHW.index_select(1, rows).index_select(2, columns)


def center_crop(image_CHW: Tensor, w: int, h: int) -> Tensor:
    """The largest square in the middle, resized: how pjreddie's `classifier valid` sees an image.

    Source:  pjreddie/darknet src/image.c center_crop_image
    """
    _, source_h, source_w = image_CHW.shape
    side = min(source_w, source_h)
    left, top = (source_w - side) // 2, (source_h - side) // 2
    return resize(image_CHW[:, top : top + side, left : left + side], w, h)


def resize_min_crop(image_CHW: Tensor, w: int, h: int) -> Tensor:
    """The shorter side at w, then the w x h pixels in the middle: how AlexeyAB's classifier commands see an image.

    Source:  AlexeyAB/darknet src/classifier.c predict_classifier, validate_classifier_single
    """
    _, source_h, source_w = image_CHW.shape
    new_w, new_h = _short_side(source_w, source_h, w)
    out_CHW = _canvas(image_CHW, w, h, False)
    # int() of the half, as C divides: towards zero, also where a tall network is larger than the image
    return _resize_into(out_CHW, image_CHW, new_w, new_h, dx=int((new_w - w) / 2), dy=int((new_h - h) / 2))


def _short_side(w: int, h: int, size: int) -> tuple[int, int]:
    return (size, h * size // w) if w < h else (w * size // h, size)


def _resize_into(out_CHW: Tensor, image_CHW: Tensor, w: int, h: int, dx: int = 0, dy: int = 0) -> Tensor:
    """What `crop` at (dx, dy) would show of the image resized to w x h, without ever holding all of that.

    Rows before columns, unlike darknet: they are whole stretches of memory, and few of a large image's are needed.
    """
    c, source_h, source_w = image_CHW.shape
    _, out_h, out_w = out_CHW.shape
    if source_w * out_h > MUCH_WIDER * source_h * out_w:
        return _resize_into(out_CHW.mT, image_CHW.mT, h, w, dy, dx).mT
    row, next_row, row_share = _sample(source_h, h, dy, out_h, 1, False, image_CHW.device)
    # index_select is quick on matrices alone: interleaved pixels are one of H rows, planar ones of C x H
    if image_CHW.stride(0) != 1 or image_CHW.stride(2) != c:
        column, next_column, share = _sample(source_w, w, dx, out_w, 1, False, image_CHW.device)
        rows_NW = _lerp_rows(image_CHW, 1, row, next_row, row_share).reshape(c * out_h, source_w)
        left_CHW, right_CHW = (rows_NW.index_select(1, one).view(c, out_h, out_w) for one in (column, next_column))
        torch.lerp(left_CHW, right_CHW, share, out=out_CHW)
    else:
        is_pixelwise = out_CHW.stride(0) == 1
        column, next_column, share = _sample(source_w, w, dx, out_w, c, is_pixelwise, image_CHW.device)
        rows_HN = _lerp_rows(image_CHW.permute(1, 2, 0).view(source_h, source_w * c), 0, row, next_row, row_share)
        left_HN, right_HN = (rows_HN.index_select(1, one) for one in (column, next_column))
        if is_pixelwise:
            torch.lerp(left_HN, right_HN, share, out=out_CHW.permute(1, 2, 0).view(out_h, out_w * c))
        else:
            left_CHW, right_CHW = (one.view(out_h, c, out_w).permute(1, 0, 2) for one in (left_HN, right_HN))
            torch.lerp(left_CHW, right_CHW, share, out=out_CHW)
    return out_CHW if image_CHW.is_floating_point() else out_CHW.div_(255)


def _canvas(image_CHW: Tensor, w: int, h: int, channels_last: bool) -> Tensor:
    """Room for an image of w x h with the other's colors."""
    c, device = image_CHW.shape[0], image_CHW.device
    if channels_last:
        return torch.empty((h, w, c), device=device).permute(2, 0, 1)
    return torch.empty((c, h, w), device=device)


_Sampled = tuple[Tensor, Tensor, Tensor]


def _sample(
    source: int, size: int, start: int, count: int, colors: int, is_pixelwise: bool, device: torch.device
) -> _Sampled:
    """As `_computed`; images of one size are many, and what they share is kept unless it is much."""
    sample = _kept if count * colors <= _KEPT_MOST else _computed
    return sample(source, size, start, count, colors, is_pixelwise, device)


def _computed(
    source: int, size: int, start: int, count: int, colors: int, is_pixelwise: bool, device: torch.device
) -> _Sampled:
    """For `count` pixels of an axis resized to `size`: the two source pixels each lies between, the second's share.

    Of interleaved pixels the numbers of all colors are named: pixel by pixel, with a share for each, or one color
    after the other.
    """
    pixel = torch.arange(start, start + count, device=device).clamp_(0, size - 1)
    # the step is darknet's float32 quotient; one pixel has no step, and the last takes the last without one
    position = (pixel.float() * ((source - 1) / max(1, size - 1))).masked_fill_(pixel == size - 1, source - 1)
    first = position.long().clamp_(max=source - 1)
    second = (first + 1).clamp_(max=source - 1)
    share = position - first
    if is_pixelwise:
        share = share.repeat_interleave(colors)
    numbers = [one[:, None] * colors + torch.arange(colors, device=device) for one in (first, second)]
    place, next_place = ((one if is_pixelwise else one.T).reshape(-1) for one in numbers)
    return place, next_place, share


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # so that what is kept is of use outside, too
def _kept(
    source: int, size: int, start: int, count: int, colors: int, is_pixelwise: bool, device: torch.device
) -> _Sampled:
    return _computed(source, size, start, count, colors, is_pixelwise, device)


def _lerp_rows(image: Tensor, axis: int, row: Tensor, next_row: Tensor, share: Tensor) -> Tensor:
    above = image.index_select(axis, row).float()
    return above.lerp_(image.index_select(axis, next_row).float(), share[:, None])
