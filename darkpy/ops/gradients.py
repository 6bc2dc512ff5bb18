"""Functions that change the gradient in the backward pass only; the output is their input.

Legend: B images, C channels, H W rows and columns. darknet's delta is minus the gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from darkpy.ops.activations import Activation

_SMOOTH_RADIUS = 2  # 5 x 5 neighbors
_CHANGES_GRADIENTS = ContextVar("darkpy_changes_gradients", default=True)


@contextmanager
def unchanged_gradients() -> Iterator[None]:
    """Make these functions the identity in the backward pass, too, of everything computed inside."""
    token = _CHANGES_GRADIENTS.set(False)
    try:
        yield
    finally:
        _CHANGES_GRADIENTS.reset(token)


def constrain(y: Tensor, bound: float) -> Tensor:
    """Return y; in the backward pass its delta, summed over all readers, is clamped to [-bound, bound]; 0 for no bound.

    Clamps out of place, because torch shares one gradient tensor among the inputs of a sum.
    Source: pjreddie/darknet src/convolutional_kernels.cu backward_convolutional_layer_gpu, constrain_gpu.
    """
    if not (bound and y.requires_grad and _CHANGES_GRADIENTS.get()):
        return y
    result: Tensor = _Constrain.apply(y, bound)
    return result


def activate(x: Tensor, activation: Activation, bound: float) -> Tensor:
    """Apply an activation, in place if possible, and constrain its delta to [-bound, bound]; 0 for no bound.

    The result is `constrain(activation(x), bound)`; if y alone determines the slope, the backward pass of both shares
    one array. The caller must own x: without gradients it is overwritten even if it is a view.
    """
    # writing into a view would rebase it in autograd's graph
    inplace = not (x.requires_grad and x._is_view())
    can_fuse = x.requires_grad and activation.forward_inplace is not None and activation.backward_inplace is not None
    if not (bound and inplace and can_fuse and _CHANGES_GRADIENTS.get()):
        return constrain(activation(x, inplace=inplace), bound)
    result: Tensor = _ConstrainedActivation.apply(x, activation, bound)
    return result


def smooth(y_BCHW: Tensor, rate: float) -> Tensor:
    """Return y; in the backward pass delta += rate * sum(y_n - y) over the 5 x 5 neighbors of each cell.

    Source: pjreddie/darknet src/convolutional_kernels.cu smooth_kernel.
    """
    if not (rate and y_BCHW.requires_grad and _CHANGES_GRADIENTS.get()):
        return y_BCHW
    result: Tensor = _Smooth.apply(y_BCHW, rate)
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
        y = activation.forward_inplace(x)  # type: ignore[misc]
        ctx.mark_dirty(y)
        ctx.save_for_backward(y)
        ctx.activation, ctx.bound = activation, bound
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (y,) = ctx.saved_tensors
        return ctx.activation.backward_inplace(y, gradient.clamp(-ctx.bound, ctx.bound)), None, None


class _Smooth(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y_BCHW: Tensor, rate: float) -> Tensor:
        ctx.save_for_backward(y_BCHW)
        ctx.rate = rate
        return y_BCHW.view_as(y_BCHW)

    @staticmethod
    def backward(ctx: Any, gradient_BCHW: Tensor) -> tuple[Tensor, None]:
        (y_BCHW,) = ctx.saved_tensors
        # sum(y_n) - count * y; the count is smaller at the borders
        neighbors_BCHW = _window_sum(y_BCHW) - _window_sum(torch.ones_like(y_BCHW[:1, :1])) * y_BCHW
        return gradient_BCHW - ctx.rate * neighbors_BCHW, None


def _window_sum(x_BCHW: Tensor) -> Tensor:
    size = 2 * _SMOOTH_RADIUS + 1
    return functional.avg_pool2d(x_BCHW, size, 1, _SMOOTH_RADIUS, divisor_override=1)
