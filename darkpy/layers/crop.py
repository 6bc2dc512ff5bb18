"""[crop]: a window of the image, with values rescaled from 0..1 to -1..1.

Legend: B images, C channels, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.errors import ShapeError
from darkpy.layers.base import Layer, LayerSpec, section
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape


@section("crop")
@dataclass(frozen=True, kw_only=True, slots=True)
class CropSpec(LayerSpec):
    """Center crop; in training a random one, flipped half the time, the same for the whole minibatch.

    It passes no delta back: the layers before it do not learn.
    Source: pjreddie/darknet src/crop_layer.c forward_crop_layer.
    Differs: the GPU code draws for each image, and rotates and recolors it by angle, shift, saturation and exposure.
    """

    crop_height: int = key(1, minimum=1)
    crop_width: int = key(1, minimum=1)
    flip: bool = key(False)
    noadjust: bool = key(False)

    # read by darknet's GPU code only
    angle: float = key(0.0, usual=(0, 360))
    saturation: float = key(1.0, usual=(0.1, 10))
    exposure: float = key(1.0, usual=(0.1, 10))
    shift: float = key(0.0, usual=(0, 1))

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        (x,) = inputs
        window = Shape(x.c, self.crop_height, self.crop_width)
        if window.h > x.h or window.w > x.w:
            raise ShapeError(
                f"the window, {window}, is larger than the input, {x}",
                hint="enlarge [net] width and height, or make crop_width and crop_height smaller",
            )
        return window

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _Crop(self)


class _Crop(Layer):
    def __init__(self, spec: CropSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        spec = self.spec
        free_rows, free_columns = x_BCHW.shape[2] - spec.crop_height, x_BCHW.shape[3] - spec.crop_width
        top, left = free_rows // 2, free_columns // 2
        if self.training:
            top, left = _random_below(free_rows + 1), _random_below(free_columns + 1)
            if spec.flip and _random_below(2):
                x_BCHW = x_BCHW.flip(3)
        window = x_BCHW[:, :, top : top + spec.crop_height, left : left + spec.crop_width].detach()
        return window if spec.noadjust else window * 2 - 1

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        ((x, shape),) = sources
        spec = self.spec
        top, left = (shape.h - spec.crop_height) // 2, (shape.w - spec.crop_width) // 2
        window = graph.slice(x, {2: (top, top + spec.crop_height, 1), 3: (left, left + spec.crop_width, 1)})
        if spec.noadjust:
            return window
        return graph.add("Sub", graph.add("Mul", window, torch.tensor(2.0)), torch.tensor(1.0))


def _random_below(count: int) -> int:
    """Random integer from 0 to count - 1."""
    return int(torch.randint(count, (), device="cpu"))
