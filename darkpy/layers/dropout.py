"""[dropout]: in training random elements become 0, and the others are scaled up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.layers.base import Layer, LayerSpec, section
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape


@section("dropout")
@dataclass(frozen=True, kw_only=True, slots=True)
class DropoutSpec(LayerSpec):
    """Drop each element with `probability`, and divide the others by 1 - probability.

    Source: pjreddie/darknet src/dropout_layer.c forward_dropout_layer.
    Differs: darknet works in place on the output of the layer before, so that other consumers of that layer and its
        activation gradient see the dropped elements; here only consumers of this layer do. `dropblock` drops single
        elements, as darknet's CPU code does; its GPU code drops a block of each channel.
    """

    needs_image: ClassVar[bool] = False

    probability: float = key(0.5, alexeyab=0.2, minimum=0)

    # read by AlexeyAB's GPU code only
    dropblock: bool = key(False, dialect=Dialect.ALEXEYAB)
    dropblock_size_rel: float = key(0.0, dialect=Dialect.ALEXEYAB, usual=(0, 1))
    dropblock_size_abs: float = key(0.0, dialect=Dialect.ALEXEYAB, usual=(0, 65536))

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        if self.probability >= 1:
            raise DarkpyError(f"probability={self.probability:g} drops every element", hint="choose one below 1")
        return inputs[0]

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _Dropout(self.probability)


class _Dropout(Layer):
    is_identity = True

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return functional.dropout(x_BCHW, self.probability, self.training)

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        return sources[0].name
