"""[activation]: an activation function on its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional

from darkpy.config.net import NetSpec
from darkpy.layers.base import ArraySpec, Layer, LayerSpec, activation_key, section, slope_arrays
from darkpy.ops.activations import ACTIVATIONS_BY_NAME, PRELU_NAME
from darkpy.ops.activations_onnx import write_activation
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape


@section("activation")
@dataclass(frozen=True, kw_only=True, slots=True)
class ActivationSpec(LayerSpec):
    """Source: pjreddie/darknet src/activation_layer.c forward_activation_layer.

    Differs: swish, mish, hard_mish and normalize_channels are computed, where AlexeyAB's code leaves zeros.
    """

    needs_image: ClassVar[bool] = False

    activation: str = activation_key("linear", has_slopes=True)

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return inputs[0]

    def arrays(self, inputs: Sequence[Shape]) -> tuple[ArraySpec, ...]:
        return slope_arrays(self.activation, inputs[0].c)

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _Prelu(self.arrays(inputs)) if self.activation == PRELU_NAME else _Activation(self)


class _Activation(Layer):
    def __init__(self, spec: ActivationSpec) -> None:
        super().__init__()
        self.activation = ACTIVATIONS_BY_NAME[spec.activation]

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.activation(x_BCHW)

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        return write_activation(graph, self.activation.name, sources[0].name)


class _Prelu(Layer):
    slopes: torch.Tensor

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return functional.prelu(x_BCHW, self.slopes)

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        return graph.add("PRelu", sources[0].name, self.slopes[:, None, None])
