"""Fixed blur that AlexeyAB's `antialiasing` adds after a layer, with the layer's stride.

Legend: B images, C channels, H W rows and columns.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional

from darkpy.ops.onnx_builder import Graph


class _Kernel(NamedTuple):
    """One-dimensional kernel, applied along rows and columns."""

    taps: tuple[float, ...]
    padding: int


_BINOMIAL_KERNEL = _Kernel((0.25, 0.5, 0.25), padding=1)
_BOX_KERNEL = _Kernel((0.5, 0.5), padding=0)


def blur(x_BCHW: torch.Tensor, kind: int, strides: tuple[int, int]) -> torch.Tensor:
    """Blur each channel: kind 2 by a 2x2 box without padding, any other by [1 2 1] x [1 2 1] / 16, padded by 1.

    Units:  strides (down, across) in cells.
    Source: AlexeyAB/darknet src/convolutional_layer.c make_convolutional_layer, blur_size 2 and 3.
    """
    channels, padding = x_BCHW.shape[1], _kernel(kind).padding
    kernel_C1KK = _window(kind, channels).to(x_BCHW)
    return functional.conv2d(x_BCHW, kernel_C1KK, None, strides, padding, groups=channels)


def blur_to_onnx(graph: Graph, x: str, channels: int, kind: int, strides: tuple[int, int]) -> str:
    """Add `blur` to a graph."""
    kernel_C1KK, padding = _window(kind, channels), _kernel(kind).padding
    size = kernel_C1KK.shape[2]
    return graph.add(
        "Conv", x, kernel_C1KK, kernel_shape=(size, size), strides=strides, pads=(padding,) * 4, group=channels
    )


def blurred_sides(sides: tuple[int, int], kind: int, strides: tuple[int, int]) -> tuple[int, int]:
    """Compute height and width after `blur`."""
    taps, padding = _kernel(kind)
    h, w = ((side + 2 * padding - len(taps)) // stride + 1 for side, stride in zip(sides, strides, strict=True))
    return h, w


def _window(kind: int, channels: int) -> torch.Tensor:
    taps_K = torch.tensor(_kernel(kind).taps)
    return torch.outer(taps_K, taps_K).expand(channels, 1, -1, -1)


def _kernel(kind: int) -> _Kernel:
    return _BOX_KERNEL if kind == 2 else _BINOMIAL_KERNEL
