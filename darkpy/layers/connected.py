"""[connected]: fully connected layer.

Legend: B images, N inputs (C, H, W in this order), F outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.layers.base import ArraySpec, Init, Layer, section
from darkpy.layers.weighted import WeightedLayer, WeightedLayerSpec
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape


@section("connected", "conn")
@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectedSpec(WeightedLayerSpec):
    """Matrix product with the weights, then batch norm or biases, then the activation.

    Source: pjreddie/darknet and AlexeyAB/darknet src/connected_layer.c forward_connected_layer.
    """

    needs_image: ClassVar[bool] = False

    output: int = key(1, minimum=1)
    batch_normalize: bool = key(False)

    @property
    def is_normalized(self) -> bool:
        return self.batch_normalize

    def default_delta_bound(self, net: NetSpec) -> float:
        """Return 1: both programs constrain connected layers (src/connected_layer.c backward_connected_layer_gpu)."""
        return 1.0

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return self.check_norm(Shape.vector(self.output))

    def arrays(self, inputs: Sequence[Shape]) -> tuple[ArraySpec, ...]:
        count = inputs[0].outputs
        noise = Init(scale=math.sqrt(2 / count))
        product = (
            ArraySpec("biases", (self.output,)),
            ArraySpec("weights", (self.output, count), noise, is_decayed=True, is_connected=True),
        )
        return (*product, *self.norm_arrays(self.output), *self.slope_arrays(self.output))

    def operations(self, inputs: Sequence[Shape]) -> int:
        return 2 * inputs[0].outputs * self.output

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return Connected(self, self.arrays(inputs), net)


class Connected(WeightedLayer):
    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        y_BF = functional.linear(x_BCHW.flatten(1), self.weights, self.added_biases)
        return self.finish(y_BF[:, :, None, None])

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        """Write it as a convolution whose window is the whole input."""
        ((x, shape),) = sources
        weights_FCHW = self.weights.reshape(-1, *shape)
        return self.product_to_onnx(graph, "Conv", x, weights_FCHW, kernel_shape=(shape.h, shape.w))
