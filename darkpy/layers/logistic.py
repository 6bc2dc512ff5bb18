"""[logistic]: independent probabilities, and the cross entropy as their loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from darkpy.config.net import NetSpec
from darkpy.dialect import Dialect
from darkpy.layers.base import Layer, section
from darkpy.layers.loss import LossSpec
from darkpy.shapes import Shape


@section("logistic", only=Dialect.PJREDDIE)
@dataclass(frozen=True, kw_only=True, slots=True)
class LogisticSpec(LossSpec):
    """Source: pjreddie/darknet src/logistic_layer.c forward_logistic_layer."""

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return inputs[0]

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _Logistic()


class _Logistic(Layer):
    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(x_BCHW)
