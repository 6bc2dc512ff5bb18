"""[local_avgpool]: average pooling.

Legend: B images, C channels, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.finding import Finding
from darkpy.layers.base import Layer, LayerSpec, section, skipped_cells
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.ops.pooling import PoolingWindow
from darkpy.shapes import Shape


@section("local_avgpool", "local_avg", dialect=Dialect.ALEXEYAB)
@dataclass(frozen=True, kw_only=True, slots=True)
class LocalAvgpoolSpec(LayerSpec):
    """Windows as in [maxpool]; cells outside the input are not counted.

    Source: AlexeyAB/darknet src/maxpool_layer.c forward_local_avgpool_layer.
    Differs: the gradient is divided by the number of cells counted; darknet's CPU code divides by size * size, its GPU
        code by the number of windows that a cell is in.
    """

    stride: int = key(1, minimum=1)
    stride_x: int | None = key(None, minimum=1)  # falls back to stride
    stride_y: int | None = key(None, minimum=1)
    size: int | None = key(None, minimum=1)  # falls back to stride
    padding: int | None = key(None, minimum=0)  # total, falls back to size - 1

    @property
    def window(self) -> PoolingWindow:
        size = self.size or self.stride
        padding = size - 1 if self.padding is None else self.padding
        return PoolingWindow(size, padding, (self.stride_y or self.stride, self.stride_x or self.stride))

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        (x,) = inputs
        return Shape(x.c, *self.window.output_sides(x))

    def lint(self, inputs: Sequence[Shape]) -> Iterator[Finding]:
        yield from skipped_cells(self.window.size, self.window.strides)

    def operations(self, inputs: Sequence[Shape]) -> int:
        return self.window.size**2 * self.shape(inputs).outputs

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _LocalAvgpool(self.window)


class _LocalAvgpool(Layer):
    def __init__(self, window: PoolingWindow) -> None:
        super().__init__()
        self.window = window

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        before, below, right = self.window.borders(Shape(*x_BCHW.shape[1:]))

        def sums(cells: torch.Tensor) -> torch.Tensor:
            padded = functional.pad(cells, (before, right, before, below))
            return functional.avg_pool2d(padded, self.window.size, self.window.strides, divisor_override=1)

        # a window that lies outside entirely has the mean 0
        return sums(x_BCHW) / sums(torch.ones_like(x_BCHW[:1, :1])).clamp(min=1)

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        ((x, shape),) = sources
        window = self.window
        before, below, right = window.borders(shape)
        if max(before, below, right) >= window.size:
            raise DarkpyError(f"some windows lie outside the image: padding={window.padding}")
        return graph.add(
            "AveragePool",
            x,
            kernel_shape=(window.size,) * 2,
            strides=window.strides,
            pads=(before, before, below, right),
        )
