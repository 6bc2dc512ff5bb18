"""The fixed blur that AlexeyAB's `antialiasing` puts behind a layer in place of its stride.

Legend: B images, C channels, H W rows and columns.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional


class _Kernel(NamedTuple):
    """The same along rows and columns."""

    line: tuple[float, ...]
    padding: int


_SMOOTH = _Kernel((0.25, 0.5, 0.25), padding=1)
_BOX = _Kernel((0.5, 0.5), padding=0)


def blur(x_BCHW: torch.Tensor, kind: int, strides: tuple[int, int]) -> torch.Tensor:
    """Each channel blurred: kind 2 by 2x2 of 1/4 without padding, any other by [1 2 1] x [1 2 1] / 16, padded by 1.

    Units:  strides (down, across) in cells.
    Source: AlexeyAB/darknet src/convolutional_layer.c make_convolutional_layer, blur_size 2 and 3.
    """
    line, padding = _kernel(kind)
    channels, size = x_BCHW.shape[1], len(line)
    line_K = x_BCHW.new_tensor(line)
    kernel_C1KK = torch.outer(line_K, line_K).expand(channels, 1, size, size)
    return functional.conv2d(x_BCHW, kernel_C1KK, None, strides, padding, groups=channels)


def blurred_sides(sides: tuple[int, int], kind: int, strides: tuple[int, int]) -> tuple[int, int]:
    """Height and width after `blur`."""
    line, padding = _kernel(kind)
    h, w = ((side + 2 * padding - len(line)) // stride + 1 for side, stride in zip(sides, strides, strict=True))
    return h, w


def _kernel(kind: int) -> _Kernel:
    return _BOX if kind == 2 else _SMOOTH
