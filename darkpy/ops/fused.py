"""A convolution, its bias and its activation as one operation of oneDNN, with weights packed for it.

torch's own compiler calls these operations; they are private, so each use is tried out, and where it does not give what
the plain way gives, the plain way stays.

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

Product = Callable[[torch.Tensor], torch.Tensor]

# what oneDNN does on the way out, by darkpy's names: its word, numbers and algorithm
_FUSED: Mapping[str, tuple[str, list[float], str]] = MappingProxyType(
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
class Geometry:
    """How a convolution's window moves. Units: cells, down and across; `padding` of each side."""

    strides: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @property
    def lists(self) -> tuple[list[int], list[int], list[int], int]:
        """In the order of oneDNN's operations."""
        return list(self.padding), list(self.strides), list(self.dilation), self.groups


TOLERANCES: Mapping[torch.dtype, float] = MappingProxyType({torch.float32: 1e-4, torch.bfloat16: 3e-2})
"""How far a product in that type may be from the plain one, of the largest number."""


def fuse(
    weights_FCKK: torch.Tensor,
    biases_F: torch.Tensor,
    dtype: torch.dtype,
    geometry: Geometry,
    activation: Activation,
    x: Shape,
) -> Product | None:
    """One operation for all three, or two where oneDNN does not know the activation; None where torch has none.

    It is quickest on what is channels_last and of that type.
    x: the usual input, for which the weights are laid out; it works for others.
    """
    weights_FCKK, biases_F = weights_FCKK.detach().to(dtype), biases_F.detach().to(dtype)
    padding, strides, dilation, groups = geometry.lists
    try:
        operation = torch.ops.mkldnn._convolution_pointwise.default
        pack: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        packed = pack(weights_FCKK.to_mkldnn(), padding, strides, dilation, groups, [1, *x])
    except (AttributeError, RuntimeError, NotImplementedError):
        return None
    word, numbers, algorithm = _FUSED.get(activation.name, _FUSED["linear"])

    def product(x_BCHW: torch.Tensor) -> torch.Tensor:
        if x_BCHW.dtype is not dtype:
            x_BCHW = x_BCHW.to(dtype)
        y_BFHW: torch.Tensor = operation(
            x_BCHW, packed, biases_F, padding, strides, dilation, groups, word, numbers, algorithm
        )
        return y_BFHW

    if activation.name in _FUSED:
        return product
    return lambda x_BCHW: activation(product(x_BCHW), inplace=True)


def separate(
    weights_FCKK: torch.Tensor,
    biases_F: torch.Tensor,
    dtype: torch.dtype,
    geometry: Geometry,
    activation: Activation,
    x: Shape,
) -> Product:
    """The same one after the other, on any device."""
    weights_FCKK, biases_F = weights_FCKK.detach().to(dtype), biases_F.detach().to(dtype)

    def product(x_BCHW: torch.Tensor) -> torch.Tensor:
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

    return product


def noise(x: Shape, like: torch.Tensor) -> torch.Tensor:
    """noise_1CHW, the same every time, channels_last."""
    noise_1CHW = torch.randn((1, *x), generator=torch.Generator().manual_seed(0))
    return noise_1CHW.to(like.device, memory_format=torch.channels_last)


def is_same(product: Product, plain: Product, x_BCHW: torch.Tensor, tolerance: float) -> bool:
    """Whether both give the same for x, but for `tolerance` of the largest number; NaN is never the same."""
    with torch.inference_mode():
        try:
            found_BFHW = product(x_BCHW).float()
        except (RuntimeError, NotImplementedError):
            return False
        wanted_BFHW = plain(x_BCHW).float()
    if found_BFHW.shape != wanted_BFHW.shape:
        return False
    return bool((found_BFHW - wanted_BFHW).abs().max() <= tolerance * wanted_BFHW.abs().max())
