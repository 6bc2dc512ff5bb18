"""[implicit]: learned values that do not depend on the image (YOLOR)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.dialect import Dialect
from darkpy.layers.base import ArraySpec, Init, Layer, LayerSpec, section
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape


@section("implicit", dialect=Dialect.ALEXEYAB)
@dataclass(frozen=True, kw_only=True, slots=True)
class ImplicitSpec(LayerSpec):
    """Output the weights: `filters` channels of `atoms` rows and one column, for every image; no input is read.

    Source: AlexeyAB/darknet src/representation_layer.c forward_implicit_layer.
    Differs: it is trained; AlexeyAB's code never updates it.
    """

    filters: int = key(128, minimum=1)
    atoms: int = key(1, minimum=1)
    mean: float = key(0.0, usual=(-100, 100))
    std: float = key(0.2, usual=(0, 100))  # half the width of the uniform noise

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return Shape(self.filters, self.atoms, 1)

    def arrays(self, inputs: Sequence[Shape]) -> tuple[ArraySpec, ...]:
        return (
            ArraySpec(
                "weights", (self.filters, self.atoms, 1), Init(mean=self.mean, scale=abs(self.std)), is_decayed=True
            ),
        )

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _Implicit(self.arrays(inputs))


class _Implicit(Layer):
    weights: torch.Tensor

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.weights.expand(x_BCHW.shape[0], -1, -1, -1)

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        batch = graph.add("Shape", sources[0].name, start=0, end=1)
        return graph.add("Expand", self.weights, graph.add("Concat", batch, torch.tensor([1, 1, 1]), axis=0))
