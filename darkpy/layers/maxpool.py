"""[maxpool]: the largest value of each window.

Legend: B images, C channels, N channels of a window over channels, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.dialect import Dialect
from darkpy.finding import Finding
from darkpy.layers.base import Layer, LayerSpec, section, skipped_cells
from darkpy.ops.antialiasing import blur, blur_to_onnx, blurred_sides
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.ops.pooling import PoolingWindow
from darkpy.shapes import Shape

_AX = Dialect.ALEXEYAB
SMALLEST_SEPARATED_SIZE = 5
"""Side of windows from which two poolings of rows and columns are faster than one of both."""


@section("maxpool", "max")
@dataclass(frozen=True, kw_only=True, slots=True)
class MaxpoolSpec(LayerSpec):
    """Pooling over windows, or with `maxpool_depth` over the channels k, k + out_channels, k + 2 out_channels, ...

    Source: AlexeyAB/darknet src/maxpool_layer.c forward_maxpool_layer.
    Differs: AlexeyAB's AVX code ignores the left neighbors of columns 1 to 7 at stride 1; darkpy does not.
    """

    stride: int = key(1, minimum=1)
    stride_x: int | None = key(None, dialect=_AX, minimum=1)  # falls back to stride
    stride_y: int | None = key(None, dialect=_AX, minimum=1)
    size: int | None = key(None, minimum=1)  # falls back to stride
    padding: int | None = key(None, minimum=0)  # total, falls back to size - 1
    maxpool_depth: bool = key(False, dialect=_AX)
    out_channels: int = key(1, dialect=_AX, minimum=1)
    antialiasing: int = key(0, dialect=_AX, minimum=0, usual=(0, 2))
    maxpool_zero_nonmax: bool = key(False, dialect=_AX)  # GPU only in darknet

    @property
    def strides(self) -> tuple[int, int]:
        """Strides down and across."""
        return self.stride_y or self.stride, self.stride_x or self.stride

    @property
    def window(self) -> PoolingWindow:
        size = self.size or self.stride
        padding = size - 1 if self.padding is None else self.padding
        return PoolingWindow(size, padding, (1, 1) if self.antialiasing else self.strides)

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        (x,) = inputs
        if self.maxpool_depth:
            return Shape(self.out_channels, x.h, x.w)
        sides = self.window.output_sides(x)
        if self.antialiasing:
            sides = blurred_sides(sides, self.antialiasing, self.strides)
        return Shape(x.c, *sides)

    def lint(self, inputs: Sequence[Shape]) -> Iterator[Finding]:
        if not self.maxpool_depth:
            yield from skipped_cells(self.window.size, self.strides)

    def operations(self, inputs: Sequence[Shape]) -> int:
        return self.window.size**2 * self.shape(inputs).outputs

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return MaxpoolDepth(self.out_channels) if self.maxpool_depth else Maxpool(self)


class Maxpool(Layer):
    preserves_dtype = True

    def __init__(self, spec: MaxpoolSpec) -> None:
        super().__init__()
        self.spec = spec
        self.window = spec.window
        geometry = (self.window.size, self.window.strides, spec.antialiasing)
        self.is_halving = geometry == (2, (2, 2), 0)
        self.is_sliding = geometry == (2, (1, 1), 0)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() and x_BCHW.requires_grad:
            return self.pool(x_BCHW, border=_lowest(x_BCHW.dtype))
        if self.halves(x_BCHW):
            return max_pool_2x2(x_BCHW)
        if self.is_sliding and self.window.borders(Shape(*x_BCHW.shape[1:])) == (0, 1, 1):
            return _sliding_max_pool_2x2(x_BCHW)
        return self.pool(x_BCHW, border=_lowest(x_BCHW.dtype))

    def halves(self, x_BCHW: torch.Tensor) -> bool:
        """True if 2 x 2 windows tile this input without a border."""
        return self.is_halving and not any(self.window.borders(Shape(*x_BCHW.shape[1:])))

    def pool(self, x_BCHW: torch.Tensor, *, border: float) -> torch.Tensor:
        """Pool windows of any size by torch's own operation. border: the value of cells outside the input."""
        size, strides = self.window.size, self.window.strides
        before, below, right = self.window.borders(Shape(*x_BCHW.shape[1:]))
        # torch pads both sides alike, by half a window at most
        if max(below, right) <= before <= size // 2:
            y_BCHW = _max_pool(x_BCHW, size, strides, before)
        else:
            padded_BCHW = functional.pad(x_BCHW, (before, right, before, below), value=border)
            y_BCHW = _max_pool(padded_BCHW, size, strides, 0)
        return blur(y_BCHW, self.spec.antialiasing, self.spec.strides) if self.spec.antialiasing else y_BCHW

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        ((x, shape),) = sources
        size, strides = self.window.size, self.window.strides
        before, below, right = self.window.borders(shape)
        pads = (before, before, below, right)
        if max(pads) >= size:  # ONNX pads by less than a window
            x = graph.pad(x, (0, 0, before, before, 0, 0, below, right), _lowest(torch.float32))
            pads = (0, 0, 0, 0)
        y = graph.add("MaxPool", x, kernel_shape=(size, size), strides=strides, pads=pads)
        spec = self.spec
        return blur_to_onnx(graph, y, shape.c, spec.antialiasing, spec.strides) if spec.antialiasing else y


class MaxpoolDepth(Layer):
    preserves_dtype = True

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        batch, channels, h, w = x_BCHW.shape
        missing = -channels % self.out_channels
        padded_BCHW = functional.pad(x_BCHW, (0, 0, 0, 0, 0, missing), value=_lowest(x_BCHW.dtype))
        x_BNCHW = padded_BCHW.reshape(batch, -1, self.out_channels, h, w)
        return x_BNCHW.max(dim=1).values  # unlike amax, it passes the delta to the first maximum only

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        ((x, shape),) = sources
        if missing := -shape.c % self.out_channels:
            x = graph.pad(x, (0, 0, 0, 0, 0, missing, 0, 0), _lowest(torch.float32))
        parts_BNL = graph.reshape(x, 0, -(-shape.c // self.out_channels), self.out_channels * shape.h * shape.w)
        largest_BL = graph.add("ReduceMax", parts_BNL, axes=(1,), keepdims=0)
        return graph.reshape(largest_BL, 0, self.out_channels, shape.h, shape.w)


def max_pool_2x2(x_BCHW: torch.Tensor, out: torch.Tensor | None = None, *, inplace: bool = False) -> torch.Tensor:
    """Pool 2 x 2 windows with stride 2, in a third of the time of torch's pooling, which also records the indices.

    inplace: overwrite the input with intermediate maxima, which halves the remaining time.
    """
    above_BCHW, below_BCHW = x_BCHW[:, :, 0::2], x_BCHW[:, :, 1::2]
    rows_BCHW = torch.maximum(above_BCHW, below_BCHW, out=above_BCHW if inplace else None)
    return torch.maximum(rows_BCHW[..., 0::2], rows_BCHW[..., 1::2], out=out)


def _max_pool(x_BCHW: torch.Tensor, size: int, strides: tuple[int, int], padding: int) -> torch.Tensor:
    """Pool windows of any size; large ones in inference by rows, then by columns, for the same maxima in less time."""
    if size < SMALLEST_SEPARATED_SIZE or (torch.is_grad_enabled() and x_BCHW.requires_grad):
        return functional.max_pool2d(x_BCHW, size, strides, padding)
    down, across = strides
    rows_BCHW = functional.max_pool2d(x_BCHW, (size, 1), (down, 1), (padding, 0))
    return functional.max_pool2d(rows_BCHW, (1, size), (1, across), (0, padding))


def _sliding_max_pool_2x2(x_BCHW: torch.Tensor) -> torch.Tensor:
    """Pool 2 x 2 windows with stride 1, smaller at the right and bottom edge; it records no indices either."""
    columns_BCHW = x_BCHW.clone()
    columns_BCHW[..., :-1].clamp_min_(x_BCHW[..., 1:])
    y_BCHW = columns_BCHW.clone()
    y_BCHW[:, :, :-1].clamp_min_(columns_BCHW[:, :, 1:])
    return y_BCHW


def _lowest(dtype: torch.dtype) -> float:
    """Return the value of cells outside the input: darknet's -FLT_MAX, or the same of another dtype."""
    return torch.finfo(dtype).min
