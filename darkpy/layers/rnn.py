"""[rnn]: simple recurrent layer made of three connected layers.

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
from darkpy.layers.base import Layer, activation_key, section
from darkpy.layers.recurrent import Part, RecurrentSpec, SimpleRecurrent, State
from darkpy.shapes import Shape

_SELF_ACTIVATIONS = {1: "logistic", 2: "loggy"}


@section("rnn")
@dataclass(frozen=True, kw_only=True, slots=True)
class RnnSpec(RecurrentSpec):
    """s <- input(x) + self(s) (+ s with `shortcut`); y = output(s). Each inner layer has the activation.

    pjreddie's state has `output` elements; AlexeyAB's has `hidden`, and its self layer may have another activation.
    """

    needs_image: ClassVar[bool] = False

    output: int = key(1, minimum=1)
    hidden: int = key(
        1, dialect=Dialect.ALEXEYAB, minimum=1, identifies_dialect=False
    )  # pjreddie's rnn.cfg has it, too
    activation: str = activation_key("logistic")
    logistic: int = key(0, dialect=Dialect.ALEXEYAB, usual=(0, 2))  # the self layer's activation: 1 logistic, 2 loggy
    shortcut: bool = key(False)

    @property
    def state_size(self) -> int:
        return self.hidden if self.dialect is Dialect.ALEXEYAB else self.output

    def parts(self, inputs: Sequence[Shape]) -> Mapping[str, Part]:
        state = Shape.vector(self.state_size)
        self_activation = _SELF_ACTIVATIONS.get(self.logistic, self.activation)
        return {
            "input_layer": Part(self.connected(self.state_size, self.activation), inputs[0]),
            "self_layer": Part(self.connected(self.state_size, self_activation), state),
            "output_layer": Part(self.connected(self.output, self.activation), state),
        }

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return Shape.vector(self.output)

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _Rnn(self, net.time_steps, self.build_parts(inputs, net))


class _Rnn(SimpleRecurrent):
    def __init__(self, spec: RnnSpec, time_steps: int, parts: Mapping[str, Layer]) -> None:
        super().__init__(time_steps, parts, shortcut=spec.shortcut)
        self.state_size = spec.state_size

    def initial_state(self, x_SCHW: torch.Tensor) -> State:
        return (x_SCHW.new_zeros(x_SCHW.shape[0], self.state_size, 1, 1),)
