"""Resizing of images: darknet's resize, letterbox and crops.

Letters: C color, H height, W width; N all values of a row of pixels, or all rows of all colors.
An image is float 0..1 or uint8 0..255, planar or a (C, H, W) view of interleaved (channels last) pixels; a resized
image is float32 0..1. uint8 is fastest: only the rows that are read are converted, and only the result is divided by
255.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

LETTERBOX_FILL = 0.5
"""Gray that darknet fills the borders of a letterboxed image with."""

COLUMNS_FIRST_RATIO = 16
"""Aspect ratio, relative to the result's, above which columns are resized before rows: otherwise a file of one row and
millions of columns would be copied to all rows of the result first, and exhaust the memory."""
_MAX_CACHED_SAMPLES = 1 << 14  # per axis; the cache of 64 axes then stays below some 20 MB


class LetterboxGeometry(NamedTuple):
    """Position of a letterboxed image in the network's input, in whole pixels."""

    new_w: int
    new_h: int
    left: int
    top: int


def letterbox_geometry(w: int, h: int, net_w: int, net_h: int) -> LetterboxGeometry:
    """Fit w x h into net_w x net_h with the same aspect ratio, centered.

    Source:  pjreddie/darknet src/image.c letterbox_image
    Differs: a side is at least 1 pixel; for an extreme aspect ratio darknet has 0 and a plain gray input.
             darknet compares the two ratios as floats, which only matters above some 13000 pixels a side.
    """
    if net_w * h < net_h * w:
        new_w, new_h = net_w, max(1, h * net_w // w)
    else:
        new_w, new_h = max(1, w * net_h // h), net_h
    return LetterboxGeometry(new_w, new_h, (net_w - new_w) // 2, (net_h - new_h) // 2)


def resize(image_CHW: Tensor, w: int, h: int, *, channels_last: bool = False, out_CHW: Tensor | None = None) -> Tensor:
    """Resize bilinearly, with aligned corners and no antialiasing.

    channels_last: memory layout of the result; convolutions are fastest on it. out_CHW: memory for the result.
    Source:  pjreddie/darknet src/image.c resize_image
    Differs: the last row is the image's last row; darknet darkens it if rounding puts it slightly above.
             For a height of 1 darknet divides by zero; here it is the last row, as a width of 1 is the last column.
    """
    out_CHW = _canvas(image_CHW, w, h, channels_last) if out_CHW is None else out_CHW
    return _resize_into(out_CHW, image_CHW, w, h)


def letterbox(
    image_CHW: Tensor, net_w: int, net_h: int, *, channels_last: bool = False, out_CHW: Tensor | None = None
) -> Tensor:
    """Resize with the same aspect ratio to fit net_w x net_h, centered on gray.

    channels_last, out_CHW: as in `resize`.
    Source:  pjreddie/darknet src/image.c letterbox_image
    """
    _, h, w = image_CHW.shape
    geometry = letterbox_geometry(w, h, net_w, net_h)
    boxed_CHW = _canvas(image_CHW, net_w, net_h, channels_last) if out_CHW is None else out_CHW
    rows = slice(geometry.top, geometry.top + geometry.new_h)
    columns = slice(geometry.left, geometry.left + geometry.new_w)
    for border_CHW in (
        boxed_CHW[:, : rows.start],
        boxed_CHW[:, rows.stop :],
        boxed_CHW[:, rows, : columns.start],
        boxed_CHW[:, rows, columns.stop :],
    ):
        border_CHW.fill_(LETTERBOX_FILL)
    _resize_into(boxed_CHW[:, rows, columns], image_CHW, geometry.new_w, geometry.new_h)
    return boxed_CHW


def resize_min(image_CHW: Tensor, size: int) -> Tensor:
    """Resize with the same aspect ratio, the shorter side to `size`; extreme ratios give a very large image.

    Source:  pjreddie/darknet src/image.c resize_min
    """
    _, h, w = image_CHW.shape
    return resize(image_CHW, *scaled_size(w, h, size))


def resize_max(image_CHW: Tensor, size: int) -> Tensor:
    """Resize with the same aspect ratio, the longer side to `size`.

    Source:  pjreddie/darknet src/image.c resize_max
    Differs: a side is at least 1 pixel; for an extreme aspect ratio darknet has 0.
    """
    _, h, w = image_CHW.shape
    if w > h:
        return resize(image_CHW, size, max(1, h * size // w))
    return resize(image_CHW, max(1, w * size // h), size)


def crop(image_CHW: Tensor, dx: int, dy: int, w: int, h: int) -> Tensor:
    """Crop w x h pixels from column dx, row dy; outside the image its edge is replicated.

    Source:  pjreddie/darknet src/image.c crop_image
    """
    _, source_h, source_w = image_CHW.shape
    rows = torch.arange(dy, dy + h, device=image_CHW.device).clamp_(0, source_h - 1)
    columns = torch.arange(dx, dx + w, device=image_CHW.device).clamp_(0, source_w - 1)
    return image_CHW.index_select(1, rows).index_select(2, columns)


def center_crop(image_CHW: Tensor, w: int, h: int) -> Tensor:
    """Resize the largest centered square, as pjreddie's `classifier valid` does.

    Source:  pjreddie/darknet src/image.c center_crop_image
    """
    _, source_h, source_w = image_CHW.shape
    side = min(source_w, source_h)
    left, top = (source_w - side) // 2, (source_h - side) // 2
    return resize(image_CHW[:, top : top + side, left : left + side], w, h)


def resize_min_crop(image_CHW: Tensor, w: int, h: int) -> Tensor:
    """Resize the shorter side to w, then crop the w x h center, as AlexeyAB's classifier commands do.

    Source:  AlexeyAB/darknet src/classifier.c predict_classifier, validate_classifier_single
    """
    _, source_h, source_w = image_CHW.shape
    new_w, new_h = scaled_size(source_w, source_h, w)
    out_CHW = _canvas(image_CHW, w, h, False)
    # int() rounds towards zero as C does, also for negative values: a tall network is larger than the image
    return _resize_into(out_CHW, image_CHW, new_w, new_h, dx=int((new_w - w) / 2), dy=int((new_h - h) / 2))


def scaled_size(w: int, h: int, size: int) -> tuple[int, int]:
    """Scale w x h until the shorter side is `size`."""
    return (size, h * size // w) if w < h else (w * size // h, size)


def _resize_into(out_CHW: Tensor, image_CHW: Tensor, w: int, h: int, dx: int = 0, dy: int = 0) -> Tensor:
    """Fill `out_CHW` with the crop at (dx, dy) of the image resized to w x h, without computing the rest.

    Rows are resized before columns, unlike in darknet: they are contiguous in memory, and a large image has more of
    them than are needed.
    """
    c, source_h, source_w = image_CHW.shape
    _, out_h, out_w = out_CHW.shape
    if source_w * out_h > COLUMNS_FIRST_RATIO * source_h * out_w:
        return _resize_into(out_CHW.mT, image_CHW.mT, h, w, dy, dx).mT
    row, next_row, row_weight = _sample(source_h, h, dy, out_h, 1, False, image_CHW.device)
    # index_select is fast on matrices only: interleaved pixels are one with H rows, planar ones one with C * H rows
    if image_CHW.stride(0) != 1 or image_CHW.stride(2) != c:
        column, next_column, weight = _sample(source_w, w, dx, out_w, 1, False, image_CHW.device)
        rows_NW = _lerp_rows(image_CHW, 1, row, next_row, row_weight).reshape(c * out_h, source_w)
        left_CHW, right_CHW = (rows_NW.index_select(1, index).view(c, out_h, out_w) for index in (column, next_column))
        torch.lerp(left_CHW, right_CHW, weight, out=out_CHW)
    else:
        pixelwise = out_CHW.stride(0) == 1
        column, next_column, weight = _sample(source_w, w, dx, out_w, c, pixelwise, image_CHW.device)
        rows_HN = _lerp_rows(image_CHW.permute(1, 2, 0).view(source_h, source_w * c), 0, row, next_row, row_weight)
        left_HN, right_HN = (rows_HN.index_select(1, index) for index in (column, next_column))
        if pixelwise:
            torch.lerp(left_HN, right_HN, weight, out=out_CHW.permute(1, 2, 0).view(out_h, out_w * c))
        else:
            left_CHW, right_CHW = (row_HN.view(out_h, c, out_w).permute(1, 0, 2) for row_HN in (left_HN, right_HN))
            torch.lerp(left_CHW, right_CHW, weight, out=out_CHW)
    return out_CHW if image_CHW.is_floating_point() else out_CHW.div_(255)


def _canvas(image_CHW: Tensor, w: int, h: int, channels_last: bool) -> Tensor:
    """Allocate an image of w x h with as many colors as another one."""
    c, device = image_CHW.shape[0], image_CHW.device
    if channels_last:
        return torch.empty((h, w, c), device=device).permute(2, 0, 1)
    return torch.empty((c, h, w), device=device)


_Samples = tuple[Tensor, Tensor, Tensor]


def _sample(
    source: int, size: int, start: int, count: int, colors: int, pixelwise: bool, device: torch.device
) -> _Samples:
    """Call `_compute_samples`, cached unless large: many images have the same size."""
    compute = _cached_samples if count * colors <= _MAX_CACHED_SAMPLES else _compute_samples
    return compute(source, size, start, count, colors, pixelwise, device)


def _compute_samples(
    source: int, size: int, start: int, count: int, colors: int, pixelwise: bool, device: torch.device
) -> _Samples:
    """Compute the two source pixels that each of `count` pixels of an axis is between, and the weight of the second.

    For interleaved pixels (colors > 1) they are indices of all colors: pixel by pixel, with a weight for each, or
    color by color.
    """
    pixel = torch.arange(start, start + count, device=device).clamp_(0, size - 1)
    # the step is darknet's float32 quotient; the last pixel is set exactly, as rounding may put it slightly above
    position = (pixel.float() * ((source - 1) / max(1, size - 1))).masked_fill_(pixel == size - 1, source - 1)
    first = position.long().clamp_(max=source - 1)
    second = (first + 1).clamp_(max=source - 1)
    weight = position - first
    if pixelwise:
        weight = weight.repeat_interleave(colors)
    offset = torch.arange(colors, device=device)
    indices = [pixels[:, None] * colors + offset for pixels in (first, second)]
    index, next_index = ((matrix if pixelwise else matrix.T).reshape(-1) for matrix in indices)
    return index, next_index, weight


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # cached tensors must be usable outside inference mode, too
def _cached_samples(
    source: int, size: int, start: int, count: int, colors: int, pixelwise: bool, device: torch.device
) -> _Samples:
    return _compute_samples(source, size, start, count, colors, pixelwise, device)


def _lerp_rows(image: Tensor, axis: int, row: Tensor, next_row: Tensor, weight: Tensor) -> Tensor:
    above = image.index_select(axis, row).float()
    return above.lerp_(image.index_select(axis, next_row).float(), weight[:, None])
