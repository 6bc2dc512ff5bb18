"""[cost]: the loss of networks that end in a vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.dialect import Dialect
from darkpy.layers.base import Layer, section
from darkpy.layers.loss import MASKED_TRUTH, Loss, LossSpec, TrainingState
from darkpy.shapes import Shape

_PJ = Dialect.PJREDDIE


def _types(dialect: Dialect) -> tuple[str, ...]:
    return ("sse", "masked", "smooth", "L1", "seg", "wgan") if dialect is _PJ else ("sse", "masked", "smooth")


@section("cost")
@dataclass(frozen=True, kw_only=True, slots=True)
class CostSpec(LossSpec):
    """Its output is the error terms. Without a truth pjreddie's compares with zeros, AlexeyAB's leaves zeros.

    Source: pjreddie/darknet and AlexeyAB/darknet src/cost_layer.c forward_cost_layer.
    """

    is_output: ClassVar[bool] = False

    type_: str = key("sse", name="type", choices=_types, aliases=dict.fromkeys(("L1", "seg", "wgan"), "sse"))
    scale: float = key(1.0)
    ratio: float = key(0.0)
    noobj: float = key(1.0, dialect=_PJ)
    thresh: float = key(0.0, dialect=_PJ)

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return inputs[0]

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _Cost(self)

    def loss(
        self, input_BCHW: torch.Tensor, output_BCHW: torch.Tensor, truth: torch.Tensor, state: TrainingState
    ) -> Loss:
        """Delta and cost; `scale` counts on the way back alone.

        Source: pjreddie/darknet src/cost_layer.c forward_cost_layer_gpu, backward_cost_layer_gpu.
        Differs: `smooth` leaves a masked truth masked, and the truth of other layers as it was; pjreddie's `masked`,
            whose GPU code masks another array, is AlexeyAB's.
        """
        truth_BCHW = truth.reshape(input_BCHW.shape)
        if self.smooth:
            smooth_BCHW = (1 - self.smooth) * truth_BCHW + self.smooth / input_BCHW[0].numel()
            truth_BCHW = torch.where(truth_BCHW == MASKED_TRUTH, truth_BCHW, smooth_BCHW)
        error_BCHW, delta_BCHW = self.compare(input_BCHW, truth_BCHW)
        if self.thresh:
            delta_BCHW = torch.where(delta_BCHW.abs() < self.thresh / input_BCHW[0].numel(), 0.0, delta_BCHW)
        return Loss(delta_BCHW, self.scale * delta_BCHW, error_BCHW.sum())

    def compare(self, x_BCHW: torch.Tensor, truth_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The error terms, which are the layer's output, and the delta.

        Differs: an input that is exactly its truth has L1's delta 0; darknet's is -1. `smooth` has the delta of the GPU
            code; beyond 1 that of pjreddie's CPU code has the wrong sign.
        """
        away_BCHW = truth_BCHW - x_BCHW
        match self.type_:
            case "L1":
                return away_BCHW.abs(), away_BCHW.sign()
            case "smooth":
                size_BCHW = away_BCHW.abs()
                error_BCHW = torch.where(size_BCHW < 1, away_BCHW**2, 2 * size_BCHW - 1)
                return error_BCHW, away_BCHW.clamp(-1, 1)
            case "wgan":
                error_BCHW = torch.where(truth_BCHW != 0, -x_BCHW, x_BCHW)
                return error_BCHW, torch.where(truth_BCHW > 0, 1.0, -1.0)
            case "masked":
                away_BCHW = torch.where(truth_BCHW == MASKED_TRUTH, 0.0, away_BCHW)
                return away_BCHW**2, away_BCHW
            case "seg":
                weight_BCHW = torch.where(truth_BCHW == 0, self.noobj, 1.0)
                return weight_BCHW * away_BCHW**2, weight_BCHW * away_BCHW
            case _:
                return away_BCHW**2, away_BCHW


class _Cost(Layer):
    def __init__(self, spec: CostSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        nothing_BCHW = torch.zeros_like(x_BCHW)
        return self.spec.compare(x_BCHW, nothing_BCHW)[0] if self.spec.dialect is _PJ else nothing_BCHW
