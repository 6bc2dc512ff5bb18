"""The fixed blur that AlexeyAB's `antialiasing` puts behind a layer in place of its stride."""

from __future__ import annotations

import torch
from torch.nn import functional


def blur(x_BCHW: torch.Tensor, kind: int, strides: tuple[int, int]) -> torch.Tensor:
    """Depthwise blur with a stride: kind 2 is 2x2 of 1/4 unpadded, any other 3x3 [1 2 1] x [1 2 1] / 16, padded by 1.

    Source: AlexeyAB/darknet src/convolutional_layer.c make_convolutional_layer, blur_size 2 and 3.
    """
    line = x_BCHW.new_tensor((0.5, 0.5) if kind == 2 else (0.25, 0.5, 0.25))
    size = line.numel()
    kernel_C1HW = torch.outer(line, line).expand(x_BCHW.shape[1], 1, size, size)
    return functional.conv2d(x_BCHW, kernel_C1HW, None, strides, size // 3, groups=x_BCHW.shape[1])


def blurred_size(length: int, kind: int, stride: int) -> int:
    """The length of a side after `blur`."""
    size = 2 if kind == 2 else 3
    return (length + 2 * (size // 3) - size) // stride + 1
