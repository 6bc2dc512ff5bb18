"""The fixed blur that AlexeyAB's `antialiasing` puts behind a layer in place of its stride.

Legend: B images, C channels, H W rows and columns.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional

from darkpy.ops.onnx_builder import Graph


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
    channels, padding = x_BCHW.shape[1], _kernel(kind).padding
    kernel_C1KK = _window(kind, channels).to(x_BCHW)
    return functional.conv2d(x_BCHW, kernel_C1KK, None, strides, padding, groups=channels)


def blur_to_onnx(graph: Graph, x: str, channels: int, kind: int, strides: tuple[int, int]) -> str:
    """The same as operators of a graph."""
    kernel_C1KK, padding = _window(kind, channels), _kernel(kind).padding
    size = kernel_C1KK.shape[2]
    return graph.add(
        "Conv", x, kernel_C1KK, kernel_shape=(size, size), strides=strides, pads=(padding,) * 4, group=channels
    )


def blurred_sides(sides: tuple[int, int], kind: int, strides: tuple[int, int]) -> tuple[int, int]:
    """Height and width after `blur`."""
    line, padding = _kernel(kind)
    h, w = ((side + 2 * padding - len(line)) // stride + 1 for side, stride in zip(sides, strides, strict=True))
    return h, w


def _window(kind: int, channels: int) -> torch.Tensor:
    line_K = torch.tensor(_kernel(kind).line)
    return torch.outer(line_K, line_K).expand(channels, 1, -1, -1)


def _kernel(kind: int) -> _Kernel:
    return _BOX if kind == 2 else _SMOOTH
