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
from darkpy.layers.base import ONE, ZERO, Init, Layer, LayerSpec, Slot, activation_key, section
from darkpy.ops.activations import ACTIVATIONS
from darkpy.ops.normalisation import batch_normalize, fold_factors
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
        output = (self.output,)
        noise = Init(scale=math.sqrt(2 / count))
        product = (
            Slot("biases", output),
            Slot("weights", (self.output, count), noise, is_connected=True),
        )
        if not self.batch_normalize:
            return product
        return (
            *product,
            Slot("scales", output, ONE, is_norm=True),
            Slot("rolling_mean", output, ZERO, is_statistic=True, is_norm=True),
            Slot("rolling_variance", output, ZERO, is_statistic=True, is_norm=True),
        )

    def operations(self, inputs: Sequence[Shape]) -> int:
        return 2 * inputs[0].outputs * self.output

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Connected:
        return Connected(self, self.slots(inputs))


class Connected(Layer):
    """The arrays are `weights`, `biases` and with batch norm `scales`, `rolling_mean`, `rolling_variance`."""

    weights: torch.Tensor
    biases: torch.Tensor
    scales: torch.Tensor
    rolling_mean: torch.Tensor
    rolling_variance: torch.Tensor

    def __init__(self, spec: ConnectedSpec, slots: Sequence[Slot]) -> None:
        super().__init__(slots)
        self.spec = spec
        self.activation = ACTIVATIONS[spec.activation]
        self.is_normalized = spec.batch_normalize

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        x_BN = x_BCHW.flatten(1)
        y_BF = functional.linear(x_BN, self.weights, None if self.is_normalized else self.biases)
        if self.is_normalized:
            y_BF = batch_normalize(
                y_BF, self.scales, self.biases, self.rolling_mean, self.rolling_variance, training=self.training
            )
        return self.activation(y_BF[:, :, None, None], inplace=True)

    def fold(self) -> None:
        if not self.is_normalized:
            return
        factor_F, bias_F = fold_factors(
            self.scales.detach(), self.biases.detach(), self.rolling_mean, self.rolling_variance
        )
        self.weights = torch.nn.Parameter((self.weights.detach() * factor_F[:, None]).float())
        self.biases = torch.nn.Parameter(bias_F.float())
        self.is_normalized = False
        del self.scales, self.rolling_mean, self.rolling_variance
