"""Int8 inference functions of each layer class, on quantized tensors.

`supports_int8` and `lower_int8` are registries keyed by layer class; other classes run in float32 or bfloat16.

Legend: B images, C channels, F filters, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch

import torch
from torch.nn import functional

from darkpy.errors import DarkpyError
from darkpy.inference.int8_ops import QuantParams, byte_view, quantized_conv, quantized_sum
from darkpy.inference.lowering import Function, conv_geometry, is_plain_conv, take_weights
from darkpy.layers.base import Layer
from darkpy.layers.convolutional import Convolutional
from darkpy.layers.maxpool import Maxpool, max_pool_2x2
from darkpy.layers.route import Route
from darkpy.layers.shortcut import Shortcut
from darkpy.layers.upsample import Upsample
from darkpy.ops.activations import Activation

_FUSED_ACTIVATIONS = ("linear", "relu")
FAST_POOL_CHANNELS = 64
"""Channels from which torch's own pooling of quantized tensors is fast."""


@singledispatch
def supports_int8(layer: Layer) -> bool:
    """True if `lower_int8` has a function for the folded layer."""
    return False


@singledispatch
def lower_int8(layer: Layer, sources: Sequence[QuantParams], output: QuantParams) -> tuple[Function, QuantParams]:
    """Return the layer's function on quantized tensors, and the quantization parameters of its output.

    The function leaves a `separate_activation` out.
    sources, output: parameters observed for its inputs, and for its output.
    Raises: DarkpyError if this build of torch has no int8 operation for it.
    """
    raise NotImplementedError


def int8_activation(layer: Layer) -> Activation | None:
    """Return the activation of a layer with int8 weights, None for any other layer.

    Such a layer quantizes a float32 input itself, and its activation's input has quantization parameters of its own.
    """
    return layer.activation if isinstance(layer, Convolutional) and is_plain_conv(layer) else None


def separate_activation(layer: Layer) -> Activation | None:
    """Return the layer's activation if it is a separate operation in int8, None if it is fused or linear."""
    activation = int8_activation(layer)
    return None if activation is None or activation.name in _FUSED_ACTIVATIONS else activation


def pools_maxima(layer: Layer) -> bool:
    """True if each output of the layer is the largest of some inputs."""
    return isinstance(layer, Maxpool) and not layer.spec.antialiasing


def pre_activation(layer: Layer, x_BCHW: torch.Tensor) -> torch.Tensor:
    """Return the input of a layer's `int8_activation`."""
    assert isinstance(layer, Convolutional)
    padding, strides, dilation, groups = conv_geometry(layer).lists
    return functional.conv2d(x_BCHW, layer.weights, layer.biases, strides, padding, dilation, groups)


@supports_int8.register(Convolutional)
def _supports_convolutional(layer: Convolutional) -> bool:
    return int8_activation(layer) is not None


@lower_int8.register(Convolutional)
def _lower_convolutional(
    layer: Convolutional, sources: Sequence[QuantParams], output: QuantParams
) -> tuple[Function, QuantParams]:
    (source,) = sources
    assert layer.activation is not None
    weights, biases = layer.weights.detach(), layer.biases.detach()
    relu = layer.activation.name == "relu"
    conv = quantized_conv(weights, biases, conv_geometry(layer), source, output, relu=relu)

    def refuse(x_BCHW: torch.Tensor) -> torch.Tensor:
        hint = "trace it before darkpy.accelerate, or without int8"
        raise DarkpyError(f"convolution {layer.description}: runs in int8 only as part of the network", hint=hint)

    take_weights(layer, refuse)
    return conv, output


@supports_int8.register(Maxpool)
def _supports_maxpool(layer: Maxpool) -> bool:
    return pools_maxima(layer)


@lower_int8.register(Maxpool)
def _lower_maxpool(layer: Maxpool, sources: Sequence[QuantParams], output: QuantParams) -> tuple[Function, QuantParams]:
    (source,) = sources
    is_halving = layer.is_halving and layer.window.padding <= 1
    lowest = -source.zero_point * source.scale  # the value of byte 0

    def pool(x_BCHW: torch.Tensor) -> torch.Tensor:
        _, channels, h, w = x_BCHW.shape
        if is_halving and channels < FAST_POOL_CHANNELS and not (h % 2 or w % 2):
            return source.wrap(max_pool_2x2(byte_view(x_BCHW)))
        return layer.pool(x_BCHW, border=lowest)

    return pool, source


@supports_int8.register(Shortcut)
def _supports_shortcut(layer: Shortcut) -> bool:
    return layer.is_plain_sum


@lower_int8.register(Shortcut)
def _lower_shortcut(
    layer: Shortcut, sources: Sequence[QuantParams], output: QuantParams
) -> tuple[Function, QuantParams]:
    return lambda *sources_BCHW: quantized_sum(sources_BCHW, output), output


@supports_int8.register(Route)
def _supports_route(layer: Route) -> bool:
    return not layer.is_flat


@lower_int8.register(Route)
def _lower_route(layer: Route, sources: Sequence[QuantParams], output: QuantParams) -> tuple[Function, QuantParams]:
    def concatenate(*sources_BCHW: torch.Tensor) -> torch.Tensor:
        parts = [source.chunk(layer.groups, dim=1)[layer.group_id] for source in sources_BCHW]
        y_BCHW: torch.Tensor = torch.ops.quantized.cat(parts, 1, output.scale, output.zero_point)
        return y_BCHW

    return (layer.forward, sources[0]) if len(sources) == 1 else (concatenate, output)


@supports_int8.register(Upsample)
def _supports_upsample(layer: Upsample) -> bool:
    return layer.stride > 0 and layer.scale == 1


@lower_int8.register(Upsample)
def _lower_upsample(
    layer: Upsample, sources: Sequence[QuantParams], output: QuantParams
) -> tuple[Function, QuantParams]:
    return layer.forward, sources[0]
