"""[crnn]: simple recurrent layer made of three convolutional layers.

Legend: S sequences, C channels, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.dialect import Dialect
from darkpy.layers.base import Layer, activation_key, section
from darkpy.layers.recurrent import Part, RecurrentSpec, SimpleRecurrent, State, require_same_size
from darkpy.shapes import Shape


@section("crnn")
@dataclass(frozen=True, kw_only=True, slots=True)
class CrnnSpec(RecurrentSpec):
    """s <- input(x) + self(s) (+ s with `shortcut`); y = output(s). Each inner layer has the activation.

    pjreddie's convolutions are 3x3 with a border of 1; AlexeyAB's follow the keys, and must keep rows and columns.
    Differs: pjreddie's code swaps rows and columns, so that it works for square inputs alone, and never trains the
        inner layers.
    """

    output_filters: int = key(1, dialect=Dialect.PJREDDIE, minimum=1)
    hidden_filters: int = key(1, dialect=Dialect.PJREDDIE, minimum=1)
    output: int = key(1, dialect=Dialect.ALEXEYAB, minimum=1)
    hidden: int = key(1, dialect=Dialect.ALEXEYAB, minimum=1)
    activation: str = activation_key("logistic")
    shortcut: bool = key(False)
    size: int = key(3, dialect=Dialect.ALEXEYAB, minimum=1)
    stride: int = key(1, dialect=Dialect.ALEXEYAB, minimum=1)
    dilation: int = key(1, dialect=Dialect.ALEXEYAB, minimum=1)
    pad: bool = key(True, alexeyab=False, dialect=Dialect.ALEXEYAB)
    padding: int = key(0, dialect=Dialect.ALEXEYAB, minimum=0)
    groups: int = key(1, dialect=Dialect.ALEXEYAB, minimum=1)
    xnor: bool = key(False, dialect=Dialect.ALEXEYAB)

    @property
    def state_filters(self) -> int:
        return self.hidden if self.dialect is Dialect.ALEXEYAB else self.hidden_filters

    @property
    def filters(self) -> int:
        return self.output if self.dialect is Dialect.ALEXEYAB else self.output_filters

    def parts(self, inputs: Sequence[Shape]) -> Mapping[str, Part]:
        state = Shape(self.state_filters, inputs[0].h, inputs[0].w)
        return {
            "input_layer": Part(self.convolutional(self.state_filters), inputs[0]),
            "self_layer": Part(self.convolutional(self.state_filters), state),
            "output_layer": Part(self.convolutional(self.filters), state),
        }

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        parts = self.parts(inputs)
        for part in parts.values():
            require_same_size(part)
        return parts["output_layer"].shape

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _Crnn(self, net.time_steps, self.build_parts(inputs, net))


class _Crnn(SimpleRecurrent):
    def __init__(self, spec: CrnnSpec, time_steps: int, parts: Mapping[str, Layer]) -> None:
        super().__init__(time_steps, parts, shortcut=spec.shortcut)
        self.state_filters = spec.state_filters

    def initial_state(self, x_SCHW: torch.Tensor) -> State:
        sequences, _, h, w = x_SCHW.shape
        return (x_SCHW.new_zeros(sequences, self.state_filters, h, w),)
