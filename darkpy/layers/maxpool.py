"""[maxpool]: the largest number of each window.

Legend: B images, C channels, N channels that one is chosen from, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.dialect import Dialect
from darkpy.layers.base import Layer, LayerSpec, section
from darkpy.layers.lint import Doubt, skipped_cells
from darkpy.ops.antialiasing import blur, blur_to_onnx, blurred_sides
from darkpy.ops.codes import Scale
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.ops.pooling import Window
from darkpy.shapes import Shape

_AX = Dialect.ALEXEYAB
WIDE = 32
"""Channels from which torch pools 8-bit codes fast."""


@section("maxpool", "max")
@dataclass(frozen=True, kw_only=True, slots=True)
class MaxpoolSpec(LayerSpec):
    """Pooling over windows, or with `maxpool_depth` over the channels k, k + out_channels, k + 2 out_channels, ...

    Source: AlexeyAB/darknet src/maxpool_layer.c forward_maxpool_layer.
    Differs: AlexeyAB's AVX code loses the left neighbors of columns 1 to 7 at stride 1; here they count.
    """

    stride: int = key(1, minimum=1)
    stride_x: int | None = key(None, dialect=_AX, minimum=1)  # falls back to stride
    stride_y: int | None = key(None, dialect=_AX, minimum=1)
    size: int | None = key(None, minimum=1)  # falls back to stride
    padding: int | None = key(None, minimum=0)  # total, falls back to size - 1
    maxpool_depth: bool = key(False, dialect=_AX)
    out_channels: int = key(1, dialect=_AX, minimum=1)
    antialiasing: int = key(0, dialect=_AX, minimum=0)
    maxpool_zero_nonmax: bool = key(False, dialect=_AX)  # GPU only in darknet

    @property
    def strides(self) -> tuple[int, int]:
        """Down and across."""
        return self.stride_y or self.stride, self.stride_x or self.stride

    @property
    def window(self) -> Window:
        size = self.size or self.stride
        padding = size - 1 if self.padding is None else self.padding
        return Window(size, padding, (1, 1) if self.antialiasing else self.strides)

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        (x,) = inputs
        if self.maxpool_depth:
            return Shape(self.out_channels, x.h, x.w)
        sides = self.window.output_sides(x)
        if self.antialiasing:
            sides = blurred_sides(sides, self.antialiasing, self.strides)
        return Shape(x.c, *sides)

    def doubts(self, inputs: Sequence[Shape]) -> Iterator[Doubt]:
        if not self.maxpool_depth:
            yield from skipped_cells(self.window.size, self.strides)

    def operations(self, inputs: Sequence[Shape]) -> int:
        return self.window.size**2 * self.shape(inputs).outputs

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _Depth(self.out_channels) if self.maxpool_depth else _Maxpool(self)


class _Maxpool(Layer):
    keeps_type = True

    def __init__(self, spec: MaxpoolSpec) -> None:
        super().__init__()
        self.spec = spec
        self.window = spec.window
        self.takes_codes = not spec.antialiasing
        self._is_halving = (self.window.size, self.window.strides, spec.antialiasing) == (2, (2, 2), 0)
        self.takes_parts = self._is_halving
        self._is_sliding = (self.window.size, self.window.strides, spec.antialiasing) == (2, (1, 1), 0)

    def quicken(
        self, inputs: Sequence[Shape], dtype: torch.dtype, *, may_overwrite: bool = False
    ) -> Callable[..., torch.Tensor]:
        if may_overwrite and self._is_halving:
            return lambda x_BCHW: _halved(x_BCHW, is_own=True) if self._halves(x_BCHW) else self.forward(x_BCHW)
        return self._joined if self.takes_parts else self.forward

    def _joined(self, *parts_BCHW: torch.Tensor) -> torch.Tensor:
        """What `forward` makes of channels laid behind each other; they are so laid when four have become one."""
        if len(parts_BCHW) == 1:
            return self.forward(parts_BCHW[0])
        if not self._halves(parts_BCHW[0]) or len({part.dtype for part in parts_BCHW}) > 1:
            return self.forward(torch.cat(parts_BCHW, dim=1))
        (batch, _, h, w), channels = parts_BCHW[0].shape, [part.shape[1] for part in parts_BCHW]
        y_BCHW = parts_BCHW[0].new_empty((batch, h // 2, w // 2, sum(channels))).permute(0, 3, 1, 2)
        for part_BCHW, place_BCHW in zip(parts_BCHW, torch.split(y_BCHW, channels, 1), strict=True):
            _halved(part_BCHW, out=place_BCHW)
        return y_BCHW

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() and x_BCHW.requires_grad:
            return self._pooled(x_BCHW)
        if self._halves(x_BCHW):
            return _halved(x_BCHW)
        is_slid = self._is_sliding and self.window.borders(Shape(*x_BCHW.shape[1:])) == (0, 1, 1)
        return _slid(x_BCHW) if is_slid else self._pooled(x_BCHW)

    def _halves(self, x_BCHW: torch.Tensor) -> bool:
        return self._is_halving and not any(self.window.borders(Shape(*x_BCHW.shape[1:])))

    def _pooled(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        size, strides = self.window.size, self.window.strides
        before, below, right = self.window.borders(Shape(*x_BCHW.shape[1:]))
        # torch has a border only where both sides may share its width
        if max(below, right) <= before <= size // 2:
            y_BCHW = functional.max_pool2d(x_BCHW, size, strides, before)
        else:
            padded_BCHW = functional.pad(x_BCHW, (before, right, before, below), value=_nothing(x_BCHW))
            y_BCHW = functional.max_pool2d(padded_BCHW, size, strides)
        return blur(y_BCHW, self.spec.antialiasing, self.spec.strides) if self.spec.antialiasing else y_BCHW

    def on_codes(
        self, sources: Sequence[Scale], raw: Scale, output: Scale
    ) -> tuple[Callable[..., torch.Tensor], Scale]:
        (scale,) = sources
        is_halving = self._is_halving and self.window.padding <= 1

        def pooled(codes_BCHW: torch.Tensor) -> torch.Tensor:
            _, channels, h, w = codes_BCHW.shape
            if is_halving and channels < WIDE and not (h % 2 or w % 2):
                return scale.wrap(_halved(codes_BCHW.int_repr()))
            return self._pooled(codes_BCHW)

        return pooled, scale

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        ((x, shape),) = sources
        size, strides = self.window.size, self.window.strides
        before, below, right = self.window.borders(shape)
        pads = (before, before, below, right)
        if max(pads) >= size:  # more than ONNX's own border may have
            x = graph.pad(x, (0, 0, before, before, 0, 0, below, right), _nothing(torch.empty(0)))
            pads = (0, 0, 0, 0)
        y = graph.add("MaxPool", x, kernel_shape=(size, size), strides=strides, pads=pads)
        spec = self.spec
        return blur_to_onnx(graph, y, shape.c, spec.antialiasing, spec.strides) if spec.antialiasing else y


class _Depth(Layer):
    keeps_type = True

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        batch, channels, h, w = x_BCHW.shape
        missing = -channels % self.out_channels
        padded_BCHW = functional.pad(x_BCHW, (0, 0, 0, 0, 0, missing), value=_nothing(x_BCHW))
        x_BNCHW = padded_BCHW.reshape(batch, -1, self.out_channels, h, w)
        return x_BNCHW.max(dim=1).values  # unlike amax it sends the delta to the first maximum alone

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        ((x, shape),) = sources
        if missing := -shape.c % self.out_channels:
            x = graph.pad(x, (0, 0, 0, 0, 0, missing, 0, 0), _nothing(torch.empty(0)))
        x_BNCHW = graph.reshape(x, 0, -1, self.out_channels, shape.h, shape.w)
        return graph.add("ReduceMax", x_BNCHW, axes=(1,), keepdims=0)


def _halved(x_BCHW: torch.Tensor, out: torch.Tensor | None = None, *, is_own: bool = False) -> torch.Tensor:
    """Windows of 2 x 2, in a third of the time of torch's pooling, which writes down where it found each number.

    is_own: whether the input may be overwritten, which saves half of what is left of the time.
    """
    above_BCHW, below_BCHW = x_BCHW[:, :, 0::2], x_BCHW[:, :, 1::2]
    rows_BCHW = torch.maximum(above_BCHW, below_BCHW, out=above_BCHW if is_own else None)
    return torch.maximum(rows_BCHW[..., 0::2], rows_BCHW[..., 1::2], out=out)


def _slid(x_BCHW: torch.Tensor) -> torch.Tensor:
    """Windows of 2 x 2 from every cell, smaller at the right and below; it too leaves out what torch writes down."""
    columns_BCHW = x_BCHW.clone()
    columns_BCHW[..., :-1].clamp_min_(x_BCHW[..., 1:])
    y_BCHW = columns_BCHW.clone()
    y_BCHW[:, :, :-1].clamp_min_(columns_BCHW[:, :, 1:])
    return y_BCHW


def _nothing(x: torch.Tensor) -> float:
    """What a cell outside counts as: darknet's -FLT_MAX, or the smallest number that codes have."""
    if x.is_quantized:
        return -x.q_zero_point() * x.q_scale()
    return torch.finfo(x.dtype).min
