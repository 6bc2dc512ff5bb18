"""[deconvolutional]: a convolution's way back, from fewer cells to more.

Legend: B images, C channels in, F filters, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.dialect import Dialect
from darkpy.errors import ShapeError
from darkpy.layers.base import ONE, ZERO, Init, Layer, LayerSpec, Slot, activation_key, section
from darkpy.ops.activations import ACTIVATIONS
from darkpy.ops.normalisation import batch_normalize, fold_factors
from darkpy.shapes import Shape


@section("deconvolutional", "deconv", only=Dialect.PJREDDIE)
@dataclass(frozen=True, kw_only=True, slots=True)
class DeconvolutionalSpec(LayerSpec):
    """Each number times the weights is added to a window of the output; then batch norm or a bias, then activation.

    Source: pjreddie/darknet src/deconvolutional_layer.c; the file's order: src/parser.c save_convolutional_weights.
    Differs: pjreddie's code writes weight files with this layer and crashes when it reads one; here they are read.
    """

    filters: int = key(1, minimum=1)
    size: int = key(1, minimum=1)
    stride: int = key(1, minimum=1)
    pad: bool = key(False)  # a flag: padding becomes size / 2
    padding: int = key(0, minimum=0)  # on each side, of the output
    activation: str = activation_key("logistic")
    batch_normalize: bool = key(False)

    @property
    def border(self) -> int:
        """Rows and columns cut off on each side of the output."""
        return self.size // 2 if self.pad else self.padding

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        (x,) = inputs
        h, w = ((side - 1) * self.stride + self.size - 2 * self.border for side in (x.h, x.w))
        if min(h, w) < 1:
            raise ShapeError(
                f"makes {w} x {h} cells of {x}: (side - 1) * stride={self.stride} + size={self.size} "
                f"- 2 * padding={self.border}",
                hint="make padding smaller",
            )
        return Shape(self.filters, h, w)

    def slots(self, inputs: Sequence[Shape]) -> tuple[Slot, ...]:
        (x,) = inputs
        out = self.shape(inputs)
        filters = (self.filters,)
        noise = Init(scale=0.02 * (out.w * out.h) / (x.w * x.h), is_normal=True)
        biases, weights = Slot("biases", filters), Slot("weights", (x.c, self.filters, self.size, self.size), noise)
        if not self.batch_normalize:
            return biases, weights
        return (
            biases,
            Slot("scales", filters, ONE, is_norm=True),
            Slot("rolling_mean", filters, ZERO, is_statistic=True, is_norm=True),
            Slot("rolling_variance", filters, ZERO, is_statistic=True, is_norm=True),
            weights,
        )

    def operations(self, inputs: Sequence[Shape]) -> int:
        return 2 * self.filters * self.size * self.size * inputs[0].outputs

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return Deconvolutional(self, self.slots(inputs))


class Deconvolutional(Layer):
    """The arrays are `weights`, `biases` and with batch norm `scales`, `rolling_mean`, `rolling_variance`."""

    weights: torch.Tensor
    biases: torch.Tensor
    scales: torch.Tensor
    rolling_mean: torch.Tensor
    rolling_variance: torch.Tensor

    def __init__(self, spec: DeconvolutionalSpec, slots: Sequence[Slot]) -> None:
        super().__init__(slots)
        self.spec = spec
        self.activation = ACTIVATIONS[spec.activation]
        self.is_normalized = spec.batch_normalize

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        biases = None if self.is_normalized else self.biases
        y_BFHW = functional.conv_transpose2d(x_BCHW, self.weights, biases, self.spec.stride, self.spec.border)
        if self.is_normalized:
            y_BFHW = batch_normalize(
                y_BFHW, self.scales, self.biases, self.rolling_mean, self.rolling_variance, training=self.training
            )
        return self.activation(y_BFHW, inplace=True)

    def fold(self) -> None:
        if not self.is_normalized:
            return
        arrays = (self.scales.detach(), self.biases.detach(), self.rolling_mean, self.rolling_variance)
        factor_F, bias_F = fold_factors(*arrays)
        self.weights = torch.nn.Parameter((self.weights.detach() * factor_F[None, :, None, None]).float())
        self.biases = torch.nn.Parameter(bias_F.float())
        self.is_normalized = False
        del self.scales, self.rolling_mean, self.rolling_variance
