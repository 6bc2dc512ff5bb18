"""[local]: locally connected layer: a convolution with separate weights at every position.

Legend: B images, C channels in, F filters, H W rows and columns, L output positions, K elements of a window
(C * size * size).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.errors import ShapeError
from darkpy.layers.base import ArraySpec, Init, Layer, LayerSpec, activation_key, section
from darkpy.ops.activations import ACTIVATIONS_BY_NAME
from darkpy.ops.activations_onnx import write_activation
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape


@section("local")
@dataclass(frozen=True, kw_only=True, slots=True)
class LocalSpec(LayerSpec):
    """Cross-correlation and biases, both separate for every position, then the activation.

    Source: pjreddie/darknet and AlexeyAB/darknet src/local_layer.c forward_local_layer.
    Differs: a border that does not fit the size is an error; darknet writes beyond its memory. Operations are counted
        in the table; darknet's has none for this layer.
    """

    filters: int = key(1, minimum=1)
    size: int = key(1, minimum=1)
    stride: int = key(1, minimum=1)
    pad: int = key(0, minimum=0)  # zeros on each side, unlike in a convolutional layer
    activation: str = activation_key("logistic")

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        (x,) = inputs
        if max(self.excess(x)) >= self.stride:
            raise ShapeError(f"size={self.size} is larger than the input, {x} with pad={self.pad}")
        h, w = (max(0, side + 2 * self.pad - self.size) // self.stride + 1 for side in (x.h, x.w))
        if self.pad:
            expected = tuple((side - 1) // self.stride + 1 for side in (x.h, x.w))
            if (h, w) != expected:
                raise ShapeError(
                    f"size={self.size} pad={self.pad} gives {w} x {h} positions, but darknet computes "
                    f"(side - 1) / stride + 1, {expected[1]} x {expected[0]}",
                    hint="with a border use size=3 pad=1, or any odd size with pad = size / 2",
                )
        return Shape(self.filters, h, w)

    def excess(self, x: Shape) -> tuple[int, int]:
        """Rows and columns by which the window is larger than the input, which are read as zeros."""
        window = self.size - 2 * self.pad
        return max(0, window - x.h), max(0, window - x.w)

    def arrays(self, inputs: Sequence[Shape]) -> tuple[ArraySpec, ...]:
        out = self.shape(inputs)
        window = inputs[0].c * self.size * self.size
        # darknet fills the first position and leaves the others at 0
        noise = Init(scale=math.sqrt(2 / window), filled=self.filters * window)
        return ArraySpec("biases", tuple(out)), ArraySpec(
            "weights", (out.h * out.w, self.filters, window), noise, is_decayed=True
        )

    def operations(self, inputs: Sequence[Shape]) -> int:
        return 2 * self.shape(inputs).outputs * inputs[0].c * self.size * self.size

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _Local(self, self.arrays(inputs), self.excess(inputs[0]))


class _Local(Layer):
    """The arrays are `biases` (F, H, W) and `weights` (L, F, K)."""

    weights: torch.Tensor
    biases: torch.Tensor

    def __init__(self, spec: LocalSpec, arrays: Sequence[ArraySpec], excess: tuple[int, int]) -> None:
        super().__init__(arrays)
        self.spec, self.excess = spec, excess
        self.activation = ACTIVATIONS_BY_NAME[spec.activation]

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        spec = self.spec
        down, across = self.excess
        x_BCHW = functional.pad(x_BCHW, (0, across, 0, down)) if down or across else x_BCHW
        windows_BKL = functional.unfold(x_BCHW, spec.size, padding=spec.pad, stride=spec.stride)
        y_BFL = torch.einsum("lfk,bkl->bfl", self.weights, windows_BKL)
        return self.activation(y_BFL.reshape(-1, *self.biases.shape) + self.biases, inplace=True)

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        """Write windows as stacked shifted images, then as channels: a convolution with a group for each position."""
        ((x, shape),) = sources
        spec, (filters, rows, columns) = self.spec, self.biases.shape
        reach = ((rows - 1) * spec.stride + 1, (columns - 1) * spec.stride + 1)
        if spec.pad or any(self.excess):
            down, across = self.excess
            x = graph.pad(x, (0, 0, spec.pad, spec.pad, 0, 0, spec.pad + down, spec.pad + across))
        shifted = [
            graph.slice(x, {2: (top, top + reach[0], spec.stride), 3: (left, left + reach[1], spec.stride)})
            for top in range(spec.size)
            for left in range(spec.size)
        ]
        windows_BKHW = graph.add("Concat", *shifted, axis=1)
        positions, window = rows * columns, shape.c * spec.size**2
        windows_BLK = graph.add("Transpose", graph.reshape(windows_BKHW, 0, window, positions), perm=(0, 2, 1))
        weights_LFCK = self.weights.reshape(positions, filters, shape.c, spec.size**2)
        y = graph.add(
            "Conv",
            graph.reshape(windows_BLK, 0, positions * window, 1, 1),
            weights_LFCK.transpose(2, 3).reshape(positions * filters, window, 1, 1),
            self.biases.flatten(1).t().flatten(),
            kernel_shape=(1, 1),
            group=positions,
        )
        y_BFL = graph.add("Transpose", graph.reshape(y, 0, positions, filters), perm=(0, 2, 1))
        return write_activation(graph, self.activation.name, graph.reshape(y_BFL, 0, filters, rows, columns))
