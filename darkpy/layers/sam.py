"""[sam]: elementwise product of the layer before and another one (spatial attention).

Legend: B images, C channels, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.dialect import Dialect
from darkpy.errors import ShapeError
from darkpy.layers.base import Layer, LayerSpec, absolute_index, activation_key, section
from darkpy.ops.activations import ACTIVATIONS_BY_NAME
from darkpy.ops.activations_onnx import write_activation
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape


@section("sam", dialect=Dialect.ALEXEYAB)
@dataclass(frozen=True, kw_only=True, slots=True)
class SamSpec(LayerSpec):
    """Source: AlexeyAB/darknet src/sam_layer.c forward_sam_layer.

    Differs: swish and mish are computed, where darknet leaves zeros.
    """

    from_: int = key(name="from")
    activation: str = activation_key("linear")

    def sources(self, index: int) -> tuple[int, ...]:
        return index - 1, absolute_index(self.from_, index)

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        gate, other = inputs
        if gate != other:
            raise ShapeError(
                f"multiplies {gate} by {other}: their shapes must be equal",
                hint="give the layer before it as many filters as `from` has",
            )
        return other

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _Sam(self)


class _Sam(Layer):
    def __init__(self, spec: SamSpec) -> None:
        super().__init__()
        self.activation = ACTIVATIONS_BY_NAME[spec.activation]

    def forward(self, x_BCHW: torch.Tensor, from_BCHW: torch.Tensor) -> torch.Tensor:
        return self.activation(x_BCHW * from_BCHW, inplace=True)

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        gate, scaled = sources
        return write_activation(graph, self.activation.name, graph.add("Mul", scaled.name, gate.name))
