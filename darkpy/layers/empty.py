"""[empty]: the output of the layer before under another index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from darkpy.config.net import NetSpec
from darkpy.dialect import Dialect
from darkpy.layers.base import Layer, LayerSpec, section
from darkpy.layers.identity import Identity
from darkpy.shapes import Shape


@section("empty", "silence", dialect=Dialect.ALEXEYAB)
@dataclass(frozen=True, kw_only=True, slots=True)
class EmptySpec(LayerSpec):
    """Source: AlexeyAB/darknet src/parser.c parse_network_cfg_custom, EMPTY."""

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return inputs[0]

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return Identity()
