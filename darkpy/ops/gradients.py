"""Rules that change a gradient on its way back and leave the output as it is.

Legend: B images, C channels, H W rows and columns. darknet's delta is minus the gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from darkpy.ops.activations import Activation

_REACH = 2  # of smooth: 5 x 5 neighbors


def constrain(y: Tensor, bound: float) -> Tensor:
    """y; on the way back the summed delta of all its readers is clamped to [-bound, bound], by 0 it is not.

    Out of place, because torch hands one gradient tensor to every reader of a sum.
    Source: pjreddie/darknet src/convolutional_kernels.cu backward_convolutional_layer_gpu, constrain_gpu.
    """
    if not bound or not y.requires_grad:
        return y
    result: Tensor = _Constrain.apply(y, bound)  # type: ignore[no-untyped-call]
    return result


def activate(x: Tensor, activation: Activation, bound: float) -> Tensor:
    """The activation of x, written into x where that can be, its delta constrained to [-bound, bound]; by 0 it is not.

    x is the caller's own: without gradients it is written into even where it is a view.
    The same as `constrain(activation(x), bound)`; where y tells the slope, one array serves both rules on the way back.
    """
    # a view that is written into gets another place in autograd's graph
    may_overwrite = not (x.requires_grad and x._is_view())
    is_one = x.requires_grad and activation.overwrite is not None and activation.slope_into is not None
    if not (bound and may_overwrite and is_one):
        return constrain(activation(x, inplace=may_overwrite), bound)
    result: Tensor = _ConstrainedActivation.apply(x, activation, bound)  # type: ignore[no-untyped-call]
    return result


def smooth(y_BCHW: Tensor, rate: float) -> Tensor:
    """y; on the way back each cell's delta is drawn towards its 5 x 5 neighbors: delta += rate * sum(y_n - y).

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


class _ConstrainedActivation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, activation: Activation, bound: float) -> Tensor:
        y = activation.overwrite(x)  # type: ignore[misc]
        ctx.mark_dirty(y)
        ctx.save_for_backward(y)
        ctx.activation, ctx.bound = activation, bound
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (y,) = ctx.saved_tensors
        return ctx.activation.slope_into(y, gradient.clamp(-ctx.bound, ctx.bound)), None, None


class _Smooth(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y_BCHW: Tensor, rate: float) -> Tensor:
        ctx.save_for_backward(y_BCHW)
        ctx.rate = rate
        return y_BCHW.view_as(y_BCHW)

    @staticmethod
    def backward(ctx: Any, gradient_BCHW: Tensor) -> tuple[Tensor, None]:
        (y_BCHW,) = ctx.saved_tensors
        neighbors_BCHW = _window_sum(y_BCHW) - _window_sum(torch.ones_like(y_BCHW[:1, :1])) * y_BCHW
        return gradient_BCHW - ctx.rate * neighbors_BCHW, None


def _window_sum(x_BCHW: Tensor) -> Tensor:
    size = 2 * _REACH + 1
    return functional.avg_pool2d(x_BCHW, size, 1, _REACH, divisor_override=1)
