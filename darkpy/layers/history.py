"""[history]: the last frames stacked as channels, the newest first.

Legend: S sequences, C channels, H W rows and columns, P channels of the past frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.dialect import Dialect
from darkpy.layers.base import Layer, LayerSpec, section
from darkpy.layers.recurrent import Recurrent, State
from darkpy.shapes import Shape


@section("history", dialect=Dialect.ALEXEYAB)
@dataclass(frozen=True, kw_only=True, slots=True)
class HistorySpec(LayerSpec):
    """Source: AlexeyAB/darknet src/conv_lstm_layer.c forward_history_layer.

    Differs: frames fed one per call (time_steps=1) become history, too; darknet leaves the older frames 0. Gradients
        reach the older frames of the same sequence; darknet stops them.
    """

    history_size: int = key(4, minimum=1)

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        (x,) = inputs
        return Shape(x.c * self.history_size, x.h, x.w)

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _History(net.time_steps, self.history_size)


class _History(Recurrent):
    def __init__(self, time_steps: int, history_size: int) -> None:
        super().__init__(time_steps, {})
        self.history_size = history_size

    def initial_state(self, x_SCHW: torch.Tensor) -> State:
        sequences, channels, h, w = x_SCHW.shape
        return (x_SCHW.new_zeros(sequences, channels * (self.history_size - 1), h, w),)

    def step(self, x_SCHW: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        (past_SPHW,) = state
        y_SCHW = torch.cat((x_SCHW, past_SPHW), 1)
        return y_SCHW, (y_SCHW[:, : past_SPHW.shape[1]],)
