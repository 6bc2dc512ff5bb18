"""Rules that change a gradient on its way back and leave the output as it is.

Legend: B images, C channels, H W rows and columns. darknet's delta is minus the gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_REACH = 2  # of smooth: 5 x 5 neighbours


def constrain(y: Tensor, bound: float) -> Tensor:
    """y; on the way back the summed delta of all its readers is clamped to [-bound, bound].

    Out of place, because torch hands one gradient tensor to every reader of a sum.
    Source: pjreddie/darknet src/convolutional_kernels.cu backward_convolutional_layer_gpu, constrain_gpu.
    """
    result: Tensor = _Constrain.apply(y, bound)  # type: ignore[no-untyped-call]
    return result


def smooth(y_BCHW: Tensor, rate: float) -> Tensor:
    """y; on the way back each cell's delta is drawn towards its 5 x 5 neighbours: delta += rate * sum(y_n - y).

    Source: pjreddie/darknet src/convolutional_kernels.cu smooth_kernel.
    """
    result: Tensor = _Smooth.apply(y_BCHW, rate)  # type: ignore[no-untyped-call]
    return result


class _Constrain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, bound: float) -> Tensor:
        ctx.bound = bound
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.clamp(-ctx.bound, ctx.bound), None


class _Smooth(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y_BCHW: Tensor, rate: float) -> Tensor:
        ctx.save_for_backward(y_BCHW)
        ctx.rate = rate
        return y_BCHW.view_as(y_BCHW)

    @staticmethod
    def backward(ctx: Any, gradient_BCHW: Tensor) -> tuple[Tensor, None]:
        (y_BCHW,) = ctx.saved_tensors
        neighbours_BCHW = _window_sum(y_BCHW) - _window_sum(torch.ones_like(y_BCHW[:1, :1])) * y_BCHW
        return gradient_BCHW - ctx.rate * neighbours_BCHW, None


def _window_sum(x_BCHW: Tensor) -> Tensor:
    size = 2 * _REACH + 1
    return functional.avg_pool2d(x_BCHW, size, 1, _REACH, divisor_override=1)
