"""[connected]: every output reads every input.

Legend: B images, N inputs (C, H, W in this order), F outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.layers.base import Init, Layer, LayerSpec, Slot, activation_key, section
from darkpy.layers.product import Product, norm_slots
from darkpy.shapes import Shape


@section("connected", "conn")
@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectedSpec(LayerSpec):
    """A product with the weights, then batch norm over the minibatch or a bias, then the activation.

    Source: pjreddie/darknet and AlexeyAB/darknet src/connected_layer.c forward_connected_layer.
    """

    output: int = key(1, minimum=1)
    activation: str = activation_key("logistic")
    batch_normalize: bool = key(False)

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return Shape.vector(self.output)

    def slots(self, inputs: Sequence[Shape]) -> tuple[Slot, ...]:
        count = inputs[0].outputs
        noise = Init(scale=math.sqrt(2 / count))
        product = (
            Slot("biases", (self.output,)),
            Slot("weights", (self.output, count), noise, is_decayed=True, is_connected=True),
        )
        return (*product, *norm_slots(self.output)) if self.batch_normalize else product

    def operations(self, inputs: Sequence[Shape]) -> int:
        return 2 * inputs[0].outputs * self.output

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return Connected(
            self,
            self.slots(inputs),
            activation=self.activation,
            is_normalized=self.batch_normalize,
            bound=net.constrain,
        )


class Connected(Product):
    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        y_BF = functional.linear(x_BCHW.flatten(1), self.weights, self.added_biases)
        return self.finish(y_BF[:, :, None, None])
