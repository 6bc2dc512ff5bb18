"""Space to depth and back, in darknet's order: the first cell of each block, for all channels, comes first.

Legend: B images, C channels, H W rows and columns.
"""

from __future__ import annotations

import torch

from darkpy.errors import ShapeError, SizeMismatchError
from darkpy.shapes import Shape


def space_to_depth(x_BCHW: torch.Tensor, stride: int) -> torch.Tensor:
    """Move cell (j, i) of each stride x stride block of channel c to channel (j * stride + i) * C + c."""
    batch, channels, h, w = x_BCHW.shape
    blocks = x_BCHW.reshape(batch, channels, h // stride, stride, w // stride, stride)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(batch, -1, h // stride, w // stride)


def depth_to_space(x_BCHW: torch.Tensor, stride: int) -> torch.Tensor:
    """Invert `space_to_depth`."""
    batch, channels, h, w = x_BCHW.shape
    blocks = x_BCHW.reshape(batch, stride, stride, channels // stride**2, h, w)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(batch, -1, h * stride, w * stride)


def require_parts(x: Shape, stride: int, power: int = 2) -> None:
    """Check that the channels are a multiple of stride ** power. Raises: ShapeError."""
    if x.c % stride**power:
        raise ShapeError(f"reads {x.c} channels, which are not a multiple of stride^{power} = {stride**power}")


def require_blocks(x: Shape, stride: int) -> None:
    """Check that height and width are multiples of stride. Raises: SizeMismatchError."""
    if x.h % stride or x.w % stride:
        raise SizeMismatchError(
            f"reads {x}, whose height and width are not multiples of stride={stride}",
            hint="make [net] width and height multiples of the product of all strides up to this layer",
        )
