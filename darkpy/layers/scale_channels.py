"""[scale_channels]: another layer multiplied by a gate for each channel or each cell (squeeze and excitation).

Legend: B images, C channels, H W rows and columns; the gate is (B, C, 1, 1), or (B, 1, H, W) with `scale_wh`.
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


@section("scale_channels", dialect=Dialect.ALEXEYAB)
@dataclass(frozen=True, kw_only=True, slots=True)
class ScaleChannelsSpec(LayerSpec):
    """The output is as large as `from`.

    Source: AlexeyAB/darknet src/scale_channels_layer.c forward_scale_channels_layer.
    Differs: swish and mish are computed, where darknet leaves zeros. With `scale_wh` the gate's gradient is the sum
        over the channels; darknet's GPU code divides it by the number of cells.
    """

    from_: int = key(name="from")
    activation: str = activation_key("linear")
    scale_wh: bool = key(False)

    def sources(self, index: int) -> tuple[int, ...]:
        return index - 1, absolute_index(self.from_, index)

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        gate, scaled = inputs
        expected = Shape(1, scaled.h, scaled.w) if self.scale_wh else Shape.vector(scaled.c)
        if gate != expected:
            raise ShapeError(
                f"scales {scaled} with a gate of {gate}; scale_wh={self.scale_wh:d} needs {expected}",
                hint="the layer before it needs one filter" if self.scale_wh else "put [avgpool] before the gate",
            )
        return scaled

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _ScaleChannels(self)


class _ScaleChannels(Layer):
    def __init__(self, spec: ScaleChannelsSpec) -> None:
        super().__init__()
        self.activation = ACTIVATIONS_BY_NAME[spec.activation]

    def forward(self, gate: torch.Tensor, from_BCHW: torch.Tensor) -> torch.Tensor:
        return self.activation(gate * from_BCHW, inplace=True)

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        gate, scaled = sources
        return write_activation(graph, self.activation.name, graph.add("Mul", scaled.name, gate.name))
