"""Convolution, bias and activation as one oneDNN operation with prepacked weights.

torch's compiler emits these operations, but they are private. Each use is therefore compared with the unfused
convolution on random input, and dropped if it is absent or differs.

Legend: B images, C channels in, F filters, H W rows and columns, K size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch.nn import functional

from darkpy.ops.activations import Activation
from darkpy.shapes import Shape

ConvFunction = Callable[[torch.Tensor], torch.Tensor]

# oneDNN's post-op for each darknet activation: its name, scalars and algorithm
_ONEDNN_ACTIVATIONS: Mapping[str, tuple[str, list[float], str]] = MappingProxyType(
    {
        "linear": ("none", [], ""),
        "leaky": ("leaky_relu", [0.1], ""),
        "revleaky": ("leaky_relu", [0.1], ""),
        "relie": ("leaky_relu", [0.01], ""),
        "relu": ("relu", [], ""),
        "relu6": ("hardtanh", [0.0, 6.0], ""),
        "hardtan": ("hardtanh", [-1.0, 1.0], ""),
        "logistic": ("sigmoid", [], ""),
        "tanh": ("tanh", [], ""),
        "swish": ("swish", [], ""),
        "gelu": ("gelu", [], "tanh"),
    }
)


@dataclass(frozen=True, slots=True)
class ConvGeometry:
    """Strides, padding of each side and dilation in cells, (down, across), and the number of groups."""

    strides: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @property
    def lists(self) -> tuple[list[int], list[int], list[int], int]:
        """padding, strides, dilation and groups, the argument order of oneDNN's operations."""
        return list(self.padding), list(self.strides), list(self.dilation), self.groups


CONV_TOLERANCES: Mapping[torch.dtype, float] = MappingProxyType({torch.float32: 1e-4, torch.bfloat16: 3e-2})
"""Largest difference allowed from the layer's own output, as a fraction of its largest magnitude, by dtype."""


def fused_conv(
    weights_FCKK: torch.Tensor,
    biases_F: torch.Tensor,
    dtype: torch.dtype,
    geometry: ConvGeometry,
    activation: Activation,
    x: Shape,
) -> ConvFunction | None:
    """Return a function that runs all three as one operation, or None if this build of torch has none.

    An activation that oneDNN does not know is applied afterwards, in place. Fastest on channels_last input of `dtype`.
    x: the usual input shape, for which the weights are packed; other shapes work too.
    """
    weights_FCKK, biases_F = weights_FCKK.detach().to(dtype), biases_F.detach().to(dtype)
    padding, strides, dilation, groups = geometry.lists
    try:
        operation = torch.ops.mkldnn._convolution_pointwise.default
        pack: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        packed = pack(weights_FCKK.to_mkldnn(), padding, strides, dilation, groups, [1, *x])
    except (AttributeError, RuntimeError, NotImplementedError):
        return None
    post_op, scalars, algorithm = _ONEDNN_ACTIVATIONS.get(activation.name, _ONEDNN_ACTIVATIONS["linear"])

    def conv(x_BCHW: torch.Tensor) -> torch.Tensor:
        if x_BCHW.dtype is not dtype:
            x_BCHW = x_BCHW.to(dtype)
        y_BFHW: torch.Tensor = operation(
            x_BCHW, packed, biases_F, padding, strides, dilation, groups, post_op, scalars, algorithm
        )
        return y_BFHW

    if activation.name in _ONEDNN_ACTIVATIONS:
        return conv
    return lambda x_BCHW: activation(conv(x_BCHW), inplace=True)


def unfused_conv(
    weights_FCKK: torch.Tensor,
    biases_F: torch.Tensor,
    dtype: torch.dtype,
    geometry: ConvGeometry,
    activation: Activation,
    x: Shape,
) -> ConvFunction:
    """Return a function that runs convolution and activation in `dtype` one after the other, on any device."""
    weights_FCKK, biases_F = weights_FCKK.detach().to(dtype), biases_F.detach().to(dtype)

    def conv(x_BCHW: torch.Tensor) -> torch.Tensor:
        y_BFHW = functional.conv2d(
            x_BCHW.to(dtype),
            weights_FCKK,
            biases_F,
            geometry.strides,
            geometry.padding,
            geometry.dilation,
            geometry.groups,
        )
        return activation(y_BFHW, inplace=True)

    return conv


def random_input(x: Shape, like: torch.Tensor) -> torch.Tensor:
    """Return normal noise x_1CHW on the device of `like`, channels_last, the same at every call."""
    noise_1CHW = torch.randn((1, *x), generator=torch.Generator().manual_seed(0))
    return noise_1CHW.to(like.device, memory_format=torch.channels_last)


def allclose(function: ConvFunction, reference: ConvFunction, x_BCHW: torch.Tensor, tolerance: float) -> bool:
    """True if `function` runs, and both outputs agree within `tolerance` of the largest magnitude; False for NaN."""
    with torch.inference_mode():
        try:
            y_BFHW = function(x_BCHW).float()
        except (RuntimeError, NotImplementedError):
            return False
        expected_BFHW = reference(x_BCHW).float()
    if y_BFHW.shape != expected_BFHW.shape:
        return False
    return bool((y_BFHW - expected_BFHW).abs().max() <= tolerance * expected_BFHW.abs().max())
