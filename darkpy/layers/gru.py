"""[gru]: gated recurrent unit.

Legend: S sequences, C channels, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.dialect import Dialect
from darkpy.layers.base import Layer, section
from darkpy.layers.recurrent import Part, Recurrent, RecurrentSpec, State
from darkpy.shapes import Shape


@section("gru")
@dataclass(frozen=True, kw_only=True, slots=True)
class GruSpec(RecurrentSpec):
    """Gates: z keeps the old state, r admits it into the new one; y = s.

    In the file, pjreddie's inner layers of the state come before those of the input, AlexeyAB's after.
    """

    needs_image: ClassVar[bool] = False

    output: int = key(1, minimum=1)
    tanh: bool = key(False, dialect=Dialect.PJREDDIE)  # activation of the new state; logistic without

    def parts(self, inputs: Sequence[Shape]) -> Mapping[str, Part]:
        of_state = {name: Part(self.connected(self.output), Shape.vector(self.output)) for name in ("wz", "wr", "wh")}
        of_input = {name: Part(self.connected(self.output), inputs[0]) for name in ("uz", "ur", "uh")}
        return of_state | of_input if self.dialect is Dialect.PJREDDIE else of_input | of_state

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return Shape.vector(self.output)

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _Gru(self, net.time_steps, self.build_parts(inputs, net))


class _Gru(Recurrent):
    """Source: pjreddie/darknet and AlexeyAB/darknet src/gru_layer.c forward_gru_layer."""

    wz: Layer
    wr: Layer
    wh: Layer
    uz: Layer
    ur: Layer
    uh: Layer

    def __init__(self, spec: GruSpec, time_steps: int, parts: Mapping[str, Layer]) -> None:
        super().__init__(time_steps, parts)
        self.state_size = spec.output
        self.activation = torch.tanh if spec.tanh else torch.sigmoid

    def initial_state(self, x_SCHW: torch.Tensor) -> State:
        return (x_SCHW.new_zeros(x_SCHW.shape[0], self.state_size, 1, 1),)

    def step(self, x_SCHW: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        x, (s,) = x_SCHW, state
        z = torch.sigmoid(self.uz(x) + self.wz(s))
        r = torch.sigmoid(self.ur(x) + self.wr(s))
        h = self.activation(self.uh(x) + self.wh(r * s))
        s = z * s + (1 - z) * h
        return s, (s,)
