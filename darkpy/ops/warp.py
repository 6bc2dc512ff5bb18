"""Geometric augmentation of images: placed on a canvas, cropped and resized, rotated, mirrored.

Letters: C color, H height, W width; N the positions of one axis, or of a whole result; P the pixels of an image.
An image is float 0..1 or uint8 0..255, planar or a (C, H, W) view of interleaved (channels last) pixels; results are
float32 0..1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from darkpy.ops.resample import COLUMNS_FIRST_RATIO


class Taps(NamedTuple):
    """Interpolation taps of one axis of a result: each position is between two rows or columns of the image.

    first_N, second_N: those two. share_N: weight of the second. cover_N: fraction that is inside the image.
    """

    first_N: Tensor
    second_N: Tensor
    share_N: Tensor
    cover_N: Tensor

    def window(self, start: int, count: int) -> Taps:
        """Return `count` positions from `start` on."""
        return Taps(*(part_N.narrow(0, start, count) for part_N in self))

    def mirrored(self) -> Taps:
        """Return the positions in reverse order."""
        return Taps(*(part_N.flip(0) for part_N in self))


def place(image_CHW: Tensor, w: int, h: int, dx: int, dy: int, canvas_CHW: Tensor) -> None:
    """Draw the image, resized to w x h, onto the canvas with its corner at (dx, dy), clipped to the canvas.

    Source:  pjreddie/darknet src/image.c place_image
    """
    _, source_h, source_w = image_CHW.shape
    _, canvas_h, canvas_w = canvas_CHW.shape
    top, left = max(0, dy), max(0, dx)
    visible_h, visible_w = min(h + dy, canvas_h) - top, min(w + dx, canvas_w) - left
    if visible_h <= 0 or visible_w <= 0:
        return
    rows = place_taps(source_h, h).window(top - dy, visible_h)
    columns = place_taps(source_w, w).window(left - dx, visible_w)
    canvas_CHW[:, top : top + visible_h, left : left + visible_w] = sample(image_CHW, rows, columns)


def place_taps(source: int, size: int) -> Taps:
    """Taps that resize an axis of `source` pixels to `size`: pixel i at i * source / size, black after the last pixel.

    Source:  pjreddie/darknet src/image.c place_image, bilinear_interpolate
    """
    return _between(torch.arange(size).float() / size * source, source)


def crop_taps(source: int, start: int, length: int, size: int) -> Taps:
    """Taps that resize `length` pixels from `start` to `size`, corners aligned; outside the image its edge counts.

    Source:  pjreddie/darknet src/image.c crop_image, resize_image
    """
    pixel_N = torch.arange(size)
    position_N = (pixel_N.float() * ((length - 1) / max(1, size - 1))).masked_fill_(pixel_N == size - 1, length - 1)
    first_N = position_N.long().clamp_(max=length - 1)
    second_N = (first_N + 1).clamp_(max=length - 1)
    share_N = position_N - first_N
    first_N, second_N = ((tap_N + start).clamp_(0, source - 1) for tap_N in (first_N, second_N))
    return Taps(first_N, second_N, share_N, torch.ones(size))


def taps_at(position_N: Tensor, source: int) -> Taps:
    """Taps at fractional positions on an axis of `source` pixels; beyond its ends the edge counts."""
    return _between(position_N.clamp(0, source - 1), source)


def sample(image_CHW: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """Sample an image bilinearly at the taps; positions outside it are black."""
    c, source_h, source_w = image_CHW.shape
    h, w = len(rows.first_N), len(columns.first_N)
    if source_w * h > COLUMNS_FIRST_RATIO * source_h * w:
        return sample(image_CHW.mT, columns, rows).mT
    # skip the columns outside the range of the taps
    left, right = int(columns.first_N.min()), int(columns.second_N.max()) + 1
    first_N, second_N, seen_w = columns.first_N - left, columns.second_N - left, right - left
    # index_select is fast on matrices only: interleaved pixels are one with H rows, planar ones one with C * H rows
    if image_CHW.stride(0) == 1 and image_CHW.stride(2) == c:
        pixels_HP = image_CHW.permute(1, 2, 0).view(source_h, source_w * c)
        rows_HP = _lerp_rows(pixels_HP.narrow(1, left * c, seen_w * c), rows)
        color_C1 = torch.arange(c)[:, None]
        left_CHW, right_CHW = (
            rows_HP.index_select(1, (column_N * c + color_C1).view(-1)).view(h, c, w).permute(1, 0, 2)
            for column_N in (first_N, second_N)
        )
    else:
        rows_NW = _lerp_rows(image_CHW.narrow(2, left, seen_w), rows).reshape(c * h, seen_w)
        left_CHW, right_CHW = (rows_NW.index_select(1, column_N).view(c, h, w) for column_N in (first_N, second_N))
    out_CHW = torch.lerp(left_CHW, right_CHW, columns.share_N, out=torch.empty(c, h, w))
    return _finish(out_CHW, image_CHW, rows.cover_N[:, None] * columns.cover_N)


def rotate_crop(
    image_CHW: Tensor, rad: float, scale: float, w: int, h: int, dx: float, dy: float, aspect: float
) -> Tensor:
    """Rotate the image by `rad` about its center, scale it, and crop w x h pixels at (dx, dy) from the center.

    The width is divided by `aspect`; outside the image is black. With scale and aspect 1 and the image's own size it is
    darknet's rotate_image.

    Source:  pjreddie/darknet src/image.c rotate_crop_image, rotate_image
    """
    c, source_h, source_w = image_CHW.shape
    x_W = (torch.arange(w, dtype=torch.float64) - w / 2 + dx) / scale * aspect
    y_H1 = ((torch.arange(h, dtype=torch.float64) - h / 2 + dy) / scale)[:, None]
    if rad == 0:
        rows, columns = _between(y_H1[:, 0] + source_h / 2, source_h), _between(x_W + source_w / 2, source_w)
        return sample(image_CHW, rows, columns)
    sine, cosine = math.sin(rad), math.cos(rad)
    column = _between((cosine * x_W - sine * y_H1 + source_w / 2).view(-1), source_w)
    row = _between((sine * x_W + cosine * y_H1 + source_h / 2).view(-1), source_h)
    pixels_CP = image_CHW.reshape(c, -1)
    above_CN, below_CN = (
        torch.lerp(
            pixels_CP.gather(1, (row_N * source_w + column.first_N).expand(c, -1)).float(),
            pixels_CP.gather(1, (row_N * source_w + column.second_N).expand(c, -1)).float(),
            column.share_N,
        )
        for row_N in (row.first_N, row.second_N)
    )
    out_CHW = above_CN.lerp_(below_CN, row.share_N).view(c, h, w)
    return _finish(out_CHW, image_CHW, (row.cover_N * column.cover_N).view(h, w))


def _between(position_N: Tensor, source: int) -> Taps:
    position_N = position_N.float()
    first_N = position_N.floor()
    return _covered(first_N.long(), first_N.long() + 1, position_N - first_N, source)


def _covered(first_N: Tensor, second_N: Tensor, share_N: Tensor, source: int) -> Taps:
    """Clamp taps to the image; positions partly outside sample its edge, with a cover below 1."""
    cover_N = torch.where((first_N >= 0) & (first_N < source), 1 - share_N, 0)
    cover_N += torch.where((second_N >= 0) & (second_N < source), share_N, 0)
    return Taps(first_N.clamp(0, source - 1), second_N.clamp(0, source - 1), share_N, cover_N)


def _lerp_rows(image: Tensor, rows: Taps) -> Tensor:
    axis = image.dim() - 2
    above = image.index_select(axis, rows.first_N).float()
    return above.lerp_(image.index_select(axis, rows.second_N).float(), rows.share_N[:, None])


def _finish(out_CHW: Tensor, image_CHW: Tensor, cover_HW: Tensor) -> Tensor:
    if not image_CHW.is_floating_point():
        out_CHW.div_(255)
    return out_CHW if bool(cover_HW.min() == 1) else out_CHW.mul_(cover_HW)
