"""[cost]: loss of networks that end in a vector, by elementwise error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from darkpy.config.net import NetSpec
from darkpy.config.schema import MAX_INT, key
from darkpy.dialect import Dialect
from darkpy.layers.base import Layer, section
from darkpy.layers.loss import MASKED_TRUTH, Loss, LossSpec, TrainingState
from darkpy.shapes import Shape

_COST_TYPES = {
    Dialect.PJREDDIE: ("sse", "masked", "smooth", "L1", "seg", "wgan"),
    Dialect.ALEXEYAB: ("sse", "masked", "smooth"),
}


@section("cost")
@dataclass(frozen=True, kw_only=True, slots=True)
class CostSpec(LossSpec):
    """Output the error terms: without a truth, against zeros in pjreddie's dialect, all 0 in AlexeyAB's.

    Source: pjreddie/darknet and AlexeyAB/darknet src/cost_layer.c forward_cost_layer.
    """

    needs_image: ClassVar[bool] = False
    is_output: ClassVar[bool] = False

    type_: str = key(
        "sse",
        name="type",
        choices=_COST_TYPES.__getitem__,
        aliases=dict.fromkeys(("L1", "seg", "wgan"), "sse"),
        fallback="sse",
    )
    scale: float = key(1.0, usual=(0, MAX_INT))
    ratio: float = key(0.0, usual=(0, 100))
    noobj: float = key(1.0, dialect=Dialect.PJREDDIE, usual=(0, MAX_INT))
    thresh: float = key(0.0, dialect=Dialect.PJREDDIE, usual=(0, MAX_INT))

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return inputs[0]

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _Cost(self)

    def loss(self, input_BCHW: Tensor, output_BCHW: Tensor, truth: Tensor, state: TrainingState) -> Loss:
        """Delta and cost; `scale` multiplies the delta for the layer before alone.

        Source: pjreddie/darknet src/cost_layer.c forward_cost_layer_gpu, backward_cost_layer_gpu.
        Differs: `smooth` keeps masked elements masked and does not change the truth of other layers. pjreddie's
            `masked` is computed like AlexeyAB's; its GPU code masks the wrong array.
        """
        truth_BCHW = truth.reshape(input_BCHW.shape)
        if self.smooth:
            smooth_BCHW = (1 - self.smooth) * truth_BCHW + self.smooth / input_BCHW[0].numel()
            truth_BCHW = torch.where(truth_BCHW == MASKED_TRUTH, truth_BCHW, smooth_BCHW)
        error_BCHW, delta_BCHW = self.compare(input_BCHW, truth_BCHW)
        if self.thresh:
            delta_BCHW = torch.where(delta_BCHW.abs() < self.thresh / input_BCHW[0].numel(), 0.0, delta_BCHW)
        return Loss(delta_BCHW, self.scale * delta_BCHW, error_BCHW.sum())

    def compare(self, x_BCHW: Tensor, truth_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return the error terms (the layer's output) and the delta.

        Differs: L1's delta is 0 where input and truth are equal; darknet's is -1. `smooth` has the delta of the GPU
            code; that of pjreddie's CPU code has the wrong sign beyond 1.
        """
        difference_BCHW = truth_BCHW - x_BCHW
        match self.type_:
            case "L1":
                return difference_BCHW.abs(), difference_BCHW.sign()
            case "smooth":
                size_BCHW = difference_BCHW.abs()
                error_BCHW = torch.where(size_BCHW < 1, difference_BCHW**2, 2 * size_BCHW - 1)
                return error_BCHW, difference_BCHW.clamp(-1, 1)
            case "wgan":
                error_BCHW = torch.where(truth_BCHW != 0, -x_BCHW, x_BCHW)
                return error_BCHW, torch.where(truth_BCHW > 0, 1.0, -1.0)
            case "masked":
                difference_BCHW = torch.where(truth_BCHW == MASKED_TRUTH, 0.0, difference_BCHW)
                return difference_BCHW**2, difference_BCHW
            case "seg":
                weight_BCHW = torch.where(truth_BCHW == 0, self.noobj, 1.0)
                return weight_BCHW * difference_BCHW**2, weight_BCHW * difference_BCHW
            case _:
                return difference_BCHW**2, difference_BCHW


class _Cost(Layer):
    def __init__(self, spec: CostSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, x_BCHW: Tensor) -> Tensor:
        zeros_BCHW = torch.zeros_like(x_BCHW)
        return self.spec.compare(x_BCHW, zeros_BCHW)[0] if self.spec.dialect is Dialect.PJREDDIE else zeros_BCHW
