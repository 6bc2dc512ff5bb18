"""[cost]: the loss of networks that end in a vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.dialect import Dialect
from darkpy.layers.base import Layer, LayerSpec, section
from darkpy.shapes import Shape

_PJ = Dialect.PJREDDIE


def _types(dialect: Dialect) -> tuple[str, ...]:
    return ("sse", "masked", "smooth", "L1", "seg", "wgan") if dialect is _PJ else ("sse", "masked", "smooth")


@section("cost")
@dataclass(frozen=True, kw_only=True, slots=True)
class CostSpec(LayerSpec):
    """Its output is the error terms. Without a truth pjreddie's compares with zeros, AlexeyAB's leaves zeros.

    Source: pjreddie/darknet and AlexeyAB/darknet src/cost_layer.c forward_cost_layer.
    """

    is_output: ClassVar[bool] = False

    type_: str = key("sse", name="type", words=_types, misread=dict.fromkeys(("L1", "seg", "wgan"), "sse"))
    scale: float = key(1.0)
    ratio: float = key(0.0)
    noobj: float = key(1.0, only=_PJ)
    thresh: float = key(0.0, only=_PJ)

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return inputs[0]

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _Cost(self)


class _Cost(Layer):
    def __init__(self, spec: CostSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        if self.spec.dialect is not _PJ:
            return torch.zeros_like(x_BCHW)
        size_BCHW = x_BCHW.abs()
        match self.spec.type_:
            case "L1":
                return size_BCHW
            case "smooth":
                return torch.where(size_BCHW < 1, size_BCHW**2, 2 * size_BCHW - 1)
            case "wgan":
                return x_BCHW
            case _:
                return size_BCHW**2
