"""Blocks of cells moved into channels and back, in darknet's order: a block's first cells of all channels come first.

Legend: B images, C channels, H W rows and columns.
"""

from __future__ import annotations

import torch

from darkpy.errors import ShapeError
from darkpy.shapes import Shape


def space_to_depth(x_BCHW: torch.Tensor, stride: int) -> torch.Tensor:
    """Cell (j, i) of each stride x stride block of channel c becomes channel (j * stride + i) * C + c."""
    batch, channels, h, w = x_BCHW.shape
    blocks = x_BCHW.reshape(batch, channels, h // stride, stride, w // stride, stride)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(batch, -1, h // stride, w // stride)


def depth_to_space(x_BCHW: torch.Tensor, stride: int) -> torch.Tensor:
    """What undoes `space_to_depth`."""
    batch, channels, h, w = x_BCHW.shape
    blocks = x_BCHW.reshape(batch, stride, stride, channels // stride**2, h, w)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(batch, -1, h * stride, w * stride)


def require_parts(x: Shape, stride: int, power: int = 2) -> None:
    """Raises: ShapeError unless the channels are a multiple of stride ** power."""
    if x.c % stride**power:
        raise ShapeError(f"reads {x.c} channels, which are no multiple of stride^{power} = {stride**power}")


def require_blocks(x: Shape, stride: int) -> None:
    """Raises: ShapeError unless height and width are multiples of stride."""
    if x.h % stride or x.w % stride:
        raise ShapeError(
            f"reads {x}, which is no whole number of blocks of stride={stride} rows and columns",
            hint="make [net] width and height multiples of all strides before this layer, and of this one",
        )
