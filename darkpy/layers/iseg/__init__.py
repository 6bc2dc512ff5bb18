"""[iseg]: instance segmentation: class scores and an embedding for each pixel, alike within an instance.

Legend: B images, C = classes + ids channels, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.dialect import Dialect
from darkpy.errors import ChannelsError
from darkpy.layers.base import Layer, section
from darkpy.layers.iseg.delta import iseg_loss
from darkpy.layers.loss import Loss, LossSpec, TrainingState
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape


@section("iseg", dialect=Dialect.PJREDDIE)
@dataclass(frozen=True, kw_only=True, slots=True)
class IsegSpec(LossSpec):
    """Source: pjreddie/darknet src/iseg_layer.c, src/parser.c parse_iseg."""

    max_instances: ClassVar[int] = 90
    restarts_random: ClassVar[bool] = True

    classes: int = key(20, minimum=1, usual=(1, 100000))
    ids: int = key(32, minimum=0, usual=(0, 100000))

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        (x,) = inputs
        expected = self.classes + self.ids
        if x.c != expected:
            message = f"reads {x.c} channels, but classes={self.classes} + ids={self.ids} are {expected}"
            raise ChannelsError(message, expected)
        return x

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _Iseg(self.classes)

    def class_channels(self, output: Shape) -> int:
        return self.classes

    def truth_shape(self, output: Shape) -> tuple[int, ...]:
        """Rows are instances: the class, negative after the last instance, then the mask."""
        return (self.max_instances, 1 + output.h * output.w)

    def loss(self, input_BCHW: Tensor, output_BCHW: Tensor, truth: Tensor, state: TrainingState) -> Loss:
        return iseg_loss(output_BCHW, truth, self.classes)


class _Iseg(Layer):
    """The logistic of the classes; the embedding unchanged."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return torch.cat((x_BCHW[:, : self.classes].sigmoid(), x_BCHW[:, self.classes :]), dim=1)

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        ((x, shape),) = sources
        if shape.c == self.classes:
            return graph.add("Sigmoid", x)
        classes, embedding = graph.split(x, (self.classes, shape.c - self.classes), axis=1)
        return graph.add("Concat", graph.add("Sigmoid", classes), embedding, axis=1)
