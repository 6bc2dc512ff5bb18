"""[lstm]: long short-term memory.

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

_GATE_ORDER = {Dialect.PJREDDIE: "ifog", Dialect.ALEXEYAB: "figo"}  # of the arrays in the weight file


@section("lstm")
@dataclass(frozen=True, kw_only=True, slots=True)
class LstmSpec(RecurrentSpec):
    """Gates: f forgets the old cell, i admits the new one, o outputs it; y = s. Every gate has two biases."""

    needs_image: ClassVar[bool] = False

    output: int = key(1, minimum=1)

    def parts(self, inputs: Sequence[Shape]) -> Mapping[str, Part]:
        gates, state = _GATE_ORDER[self.dialect], Shape.vector(self.output)
        return {f"w{gate}": Part(self.connected(self.output), state) for gate in gates} | {
            f"u{gate}": Part(self.connected(self.output), inputs[0]) for gate in gates
        }

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return Shape.vector(self.output)

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _Lstm(self, net.time_steps, self.build_parts(inputs, net))


class _Lstm(Recurrent):
    """Source: pjreddie/darknet and AlexeyAB/darknet src/lstm_layer.c forward_lstm_layer."""

    wf: Layer
    wi: Layer
    wg: Layer
    wo: Layer
    uf: Layer
    ui: Layer
    ug: Layer
    uo: Layer

    def __init__(self, spec: LstmSpec, time_steps: int, parts: Mapping[str, Layer]) -> None:
        super().__init__(time_steps, parts)
        self.state_size = spec.output

    def initial_state(self, x_SCHW: torch.Tensor) -> State:
        zeros = x_SCHW.new_zeros(x_SCHW.shape[0], self.state_size, 1, 1)
        return zeros, zeros

    def step(self, x_SCHW: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        x, (s, c) = x_SCHW, state
        f = torch.sigmoid(self.wf(s) + self.uf(x))
        i = torch.sigmoid(self.wi(s) + self.ui(x))
        g = torch.tanh(self.wg(s) + self.ug(x))
        o = torch.sigmoid(self.wo(s) + self.uo(x))
        c = f * c + i * g
        s = o * torch.tanh(c)
        return s, (s, c)
