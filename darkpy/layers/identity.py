"""Module of layers that do nothing outside training."""

from __future__ import annotations

import torch

from darkpy.layers.base import Layer
from darkpy.ops.onnx_builder import Graph, Value


class Identity(Layer):
    """Return the input unchanged."""

    is_identity = True

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return x_BCHW

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        return sources[0].name
