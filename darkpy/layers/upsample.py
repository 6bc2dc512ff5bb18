"""[upsample]: each cell repeated over a block, or with a negative stride each block summed up.

Legend: B images, C channels, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.errors import ShapeError
from darkpy.layers.base import Layer, LayerSpec, section
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape


@section("upsample")
@dataclass(frozen=True, kw_only=True, slots=True)
class UpsampleSpec(LayerSpec):
    """Source: pjreddie/darknet src/upsample_layer.c, src/blas.c upsample_cpu."""

    stride: int = key(2, usual=(-64, 64))
    scale: float = key(1.0, usual=(-1000, 1000))

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        (x,) = inputs
        if self.stride > 0:
            return Shape(x.c, x.h * self.stride, x.w * self.stride)
        if self.stride == 0 or x.h % self.stride or x.w % self.stride:
            raise ShapeError(
                f"stride={self.stride} does not divide the input, {x}",
                hint="a positive stride enlarges the map, a negative one shrinks it",
            )
        return Shape(x.c, x.h // -self.stride, x.w // -self.stride)

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return Upsample(self.stride, self.scale)


class Upsample(Layer):
    preserves_dtype = True

    def __init__(self, stride: int, scale: float) -> None:
        super().__init__()
        self.stride, self.scale = stride, scale

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        if self.stride > 0:
            y_BCHW = functional.interpolate(x_BCHW, scale_factor=self.stride, mode="nearest")
        else:
            y_BCHW = functional.avg_pool2d(x_BCHW, -self.stride, divisor_override=1)
        return y_BCHW if self.scale == 1 else y_BCHW * self.scale

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        x, scale = sources[0].name, self.scale
        if self.stride > 0:
            scales = torch.tensor([1.0, 1.0, self.stride, self.stride])
            nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            y = graph.add("Resize", x, "", scales, **nearest) if self.stride > 1 else x
        else:
            block = (-self.stride,) * 2
            y = graph.add("AveragePool", x, kernel_shape=block, strides=block)
            scale *= self.stride**2
        return y if scale == 1 else graph.add("Mul", y, torch.tensor(scale))
