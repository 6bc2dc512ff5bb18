"""[avgpool]: global average pooling.

Legend: B images, C channels, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from darkpy.config.net import NetSpec
from darkpy.layers.base import Layer, LayerSpec, section
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape


@section("avgpool", "avg")
@dataclass(frozen=True, kw_only=True, slots=True)
class AvgpoolSpec(LayerSpec):
    """Source: pjreddie/darknet src/avgpool_layer.c forward_avgpool_layer."""

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return Shape.vector(inputs[0].c)

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _Avgpool()


class _Avgpool(Layer):
    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return x_BCHW.mean((2, 3), keepdim=True)

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        return graph.add("GlobalAveragePool", sources[0].name)
