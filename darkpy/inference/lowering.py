"""The fastest inference function of each layer class.

`lower` is a registry keyed by layer class; a class that is not registered runs its own `forward`.

Legend: B images, C channels, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import TYPE_CHECKING

import torch

from darkpy.inference.conv_kernels import ConvGeometry, ConvTask, build_default
from darkpy.layers.anchors import AnchoredHead
from darkpy.layers.base import Layer
from darkpy.layers.convolutional import Convolutional
from darkpy.layers.maxpool import Maxpool, max_pool_2x2
from darkpy.layers.shortcut import Shortcut
from darkpy.shapes import Shape

if TYPE_CHECKING:
    from darkpy.inference.kernel_selection import KernelSelector

Function = Callable[..., torch.Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Lowering:
    """Choices for the functions of all layers.

    dtype: of weighted sums, float32 or bfloat16. A layer without `preserves_dtype` is called with float32 only.
    batch: typical batch size. selector: chooses kernels; None takes the default ones.
    """

    dtype: torch.dtype = torch.float32
    batch: int = 1
    selector: KernelSelector | None = None


@singledispatch
def lower(layer: Layer, inputs: Sequence[Shape], lowering: Lowering, *, inplace: bool = False) -> Function:
    """Return the fastest function that computes a folded layer in inference.

    It may take over arrays of the layer: irreversible.
    inplace: the function may overwrite its first input, which no other layer reads.
    """
    return layer.forward


@lower.register(Convolutional)
def _lower_convolutional(
    layer: Convolutional, inputs: Sequence[Shape], lowering: Lowering, *, inplace: bool = False
) -> Function:
    """Return the selected kernel, or the default one, if it agrees with the layer."""
    task = conv_task(layer, inputs, lowering)
    if task is None:
        return layer.forward
    select = build_default if lowering.selector is None else lowering.selector.select
    if (conv := select(task, layer.forward)) is not None:
        layer.preserves_dtype = True
        take_weights(layer, conv)
        return conv
    return layer.forward


@lower.register(Maxpool)
def _lower_maxpool(layer: Maxpool, inputs: Sequence[Shape], lowering: Lowering, *, inplace: bool = False) -> Function:
    """Pool 2 x 2 windows in place, or several inputs as one without concatenating them first."""
    if not layer.is_halving:
        return layer.forward
    if inplace:
        return lambda x_BCHW: max_pool_2x2(x_BCHW, inplace=True) if layer.halves(x_BCHW) else layer.forward(x_BCHW)

    def pool_unconcatenated(*parts_BCHW: torch.Tensor) -> torch.Tensor:
        """Pool the inputs as if concatenated; only the pooled cells, a quarter, are concatenated."""
        if len(parts_BCHW) == 1:
            return layer.forward(parts_BCHW[0])
        if not layer.halves(parts_BCHW[0]) or len({part.dtype for part in parts_BCHW}) > 1:
            return layer.forward(torch.cat(parts_BCHW, dim=1))
        (batch, _, h, w), channels = parts_BCHW[0].shape, [part.shape[1] for part in parts_BCHW]
        y_BCHW = parts_BCHW[0].new_empty((batch, h // 2, w // 2, sum(channels))).permute(0, 3, 1, 2)
        for part_BCHW, output_BCHW in zip(parts_BCHW, torch.split(y_BCHW, channels, 1), strict=True):
            max_pool_2x2(part_BCHW, out=output_BCHW)
        return y_BCHW

    return pool_unconcatenated


@lower.register(Shortcut)
def _lower_shortcut(layer: Shortcut, inputs: Sequence[Shape], lowering: Lowering, *, inplace: bool = False) -> Function:
    """Add the other sources to the first one in place."""
    if not (inplace and layer.alpha == layer.beta == 1 and len(set(inputs)) == 1):
        return layer.forward

    def accumulate(sum_BCHW: torch.Tensor, *others_BCHW: torch.Tensor) -> torch.Tensor:
        for other_BCHW in others_BCHW:
            sum_BCHW.add_(other_BCHW)
        return layer.activation(sum_BCHW, inplace=True)

    return accumulate


@lower.register(AnchoredHead)
def _lower_anchored_head(
    layer: AnchoredHead, inputs: Sequence[Shape], lowering: Lowering, *, inplace: bool = False
) -> Function:
    return _activate_by_runs(layer)


@singledispatch
def plain_function(layer: Layer) -> Function:
    """Return a layer's function in operations that oneDNN's graph library supports well."""
    return layer


@plain_function.register(Maxpool)
def _plain_maxpool(layer: Maxpool) -> Function:
    return lambda x_BCHW: layer.pool(x_BCHW, border=torch.finfo(x_BCHW.dtype).min)


@plain_function.register(AnchoredHead)
def _activate_by_runs(layer: AnchoredHead) -> Function:
    """Apply the logistic to all channels and correct runs of channels afterwards, in half the time of masks."""
    scale_x_y = layer.spec.scale_x_y
    raw_runs = layer.raw if layer.is_logistic else ()
    center_runs = layer.center if layer.is_scaled else ()

    def activate_by_runs(x_BCHW: torch.Tensor) -> torch.Tensor:
        if not (layer.is_logistic or layer.is_scaled):
            return x_BCHW
        y_BCHW = torch.sigmoid(x_BCHW) if layer.is_logistic else x_BCHW.clone()
        for channels in raw_runs:
            y_BCHW[:, channels] = x_BCHW[:, channels]
        for channels in center_runs:
            y_BCHW[:, channels].mul_(scale_x_y).sub_((scale_x_y - 1) / 2)
        return y_BCHW

    return activate_by_runs


def accepts_unconcatenated(layer: Layer) -> bool:
    """True if the lowered layer takes several inputs in place of their concatenation along the channels."""
    return isinstance(layer, Maxpool) and layer.is_halving


def is_plain_conv(layer: Convolutional) -> bool:
    """True if a folded layer is a convolution with weights of its own, a bias and an activation, and nothing else."""
    spec = layer.spec
    is_special = spec.xnor or spec.binary or spec.antialiasing or layer.shares_arrays or any(layer.excess)
    has_norm = layer.is_normalized or layer.norm_groups
    return not (is_special or has_norm) and hasattr(layer, "weights")


def conv_task(layer: Layer, inputs: Sequence[Shape], lowering: Lowering) -> ConvTask | None:
    """Return a folded layer as a task for kernels, None if it is not a plain convolution."""
    if not isinstance(layer, Convolutional) or not is_plain_conv(layer):
        return None
    if layer.activation is None or layer.weights.dtype != torch.float32:
        return None
    (x,) = inputs
    geometry = conv_geometry(layer)
    return ConvTask(layer.weights, layer.biases, geometry, layer.activation, x, lowering.batch, lowering.dtype)


def conv_geometry(layer: Convolutional) -> ConvGeometry:
    """Return the geometry of the layer's window."""
    spec = layer.spec
    padding = spec.border * spec.effective_dilation
    return ConvGeometry(
        spec.conv_strides, (padding, padding), (spec.effective_dilation, spec.effective_dilation), spec.group_count
    )


def take_weights(layer: Layer, conv: Function) -> None:
    """Replace a convolution's `forward` by a function with weights of its own, and free the layer's weights.

    Called as a layer, its output is float32: layers on their own, as in `Network.trace`, take no other dtype.
    """
    vars(layer)["forward"] = lambda x_BCHW: conv(x_BCHW).float()
    if hasattr(layer, "weights"):  # another function may have taken them over
        del layer.weights
