"""[deconvolutional]: transposed convolution.

Legend: B images, C channels in, F filters, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.dialect import Dialect
from darkpy.errors import ShapeError
from darkpy.layers.base import ArraySpec, Init, Layer, section
from darkpy.layers.weighted import WeightedLayer, WeightedLayerSpec
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape


@section("deconvolutional", "deconv", dialect=Dialect.PJREDDIE)
@dataclass(frozen=True, kw_only=True, slots=True)
class DeconvolutionalSpec(WeightedLayerSpec):
    """Transposed convolution, then batch norm or biases, then the activation.

    Source: pjreddie/darknet src/deconvolutional_layer.c; the file's order: src/parser.c save_convolutional_weights.
    Differs: pjreddie's code writes weight files with this layer, but crashes when it reads one; here they are read.
    """

    filters: int = key(1, minimum=1)
    size: int = key(1, minimum=1)
    stride: int = key(1, minimum=1)
    pad: bool = key(False)  # a flag: padding becomes size / 2
    padding: int = key(0, minimum=0)  # cut off on each side of the output
    batch_normalize: bool = key(False)

    @property
    def is_normalized(self) -> bool:
        return self.batch_normalize

    @property
    def border(self) -> int:
        """Rows and columns cut off on each side of the output."""
        return self.size // 2 if self.pad else self.padding

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        (x,) = inputs
        h, w = ((side - 1) * self.stride + self.size - 2 * self.border for side in (x.h, x.w))
        if min(h, w) < 1:
            raise ShapeError(
                f"makes {w} x {h} cells of {x}: (side - 1) * stride={self.stride} + size={self.size} "
                f"- 2 * padding={self.border}",
                hint="make padding smaller",
            )
        return self.check_norm(Shape(self.filters, h, w))

    def arrays(self, inputs: Sequence[Shape]) -> tuple[ArraySpec, ...]:
        (x,) = inputs
        out = self.shape(inputs)
        noise = Init(scale=0.02 * (out.w * out.h) / (x.w * x.h), is_normal=True)
        biases = ArraySpec("biases", (self.filters,))
        weights = ArraySpec("weights", (x.c, self.filters, self.size, self.size), noise, is_decayed=True)
        return (biases, *self.norm_arrays(self.filters), weights, *self.slope_arrays(self.filters))

    def operations(self, inputs: Sequence[Shape]) -> int:
        return 2 * self.filters * self.size * self.size * inputs[0].outputs

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return Deconvolutional(self, self.arrays(inputs), net)


class Deconvolutional(WeightedLayer):
    filter_axis = 1

    def __init__(self, spec: DeconvolutionalSpec, arrays: Sequence[ArraySpec], net: NetSpec) -> None:
        super().__init__(spec, arrays, net)
        self.stride, self.border = spec.stride, spec.border

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        y_BFHW = functional.conv_transpose2d(x_BCHW, self.weights, self.added_biases, self.stride, self.border)
        return self.finish(y_BFHW)

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        return self.product_to_onnx(
            graph,
            "ConvTranspose",
            sources[0].name,
            self.weights,
            kernel_shape=tuple(self.weights.shape[2:]),
            strides=(self.stride,) * 2,
            pads=(self.border,) * 4,
        )
