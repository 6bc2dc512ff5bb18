"""What [convolutional], [deconvolutional] and [connected] share: weights times input, then batch norm or a bias, then
the activation.

Legend: B images, F filters, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from darkpy.layers.base import ONE, ZERO, Layer, LayerSpec, Slot
from darkpy.ops.activations import ACTIVATIONS
from darkpy.ops.gradients import constrain, smooth
from darkpy.ops.normalisation import batch_normalize, fold_factors


def norm_slots(filters: int) -> tuple[Slot, ...]:
    """What batch norm keeps, in file order; its biases are the layer's own."""
    return (
        Slot("scales", (filters,), ONE, is_norm=True),
        Slot("rolling_mean", (filters,), ZERO, is_statistic=True, is_norm=True),
        Slot("rolling_variance", (filters,), ZERO, is_statistic=True, is_norm=True),
    )


class Product(Layer):
    """The arrays are `weights`, `biases` and with batch norm `scales`, `rolling_mean`, `rolling_variance`.

    On the way back a delta is smoothed, then constrained, then meets the activation, batch norm and the weights:
    darknet's order.
    """

    weights: torch.Tensor
    biases: torch.Tensor
    scales: torch.Tensor
    rolling_mean: torch.Tensor
    rolling_variance: torch.Tensor

    filter_axis: ClassVar[int] = 0  # of the weights
    memory_format: ClassVar[torch.memory_format] = torch.contiguous_format  # of the weights, once folded

    def __init__(self, spec: LayerSpec, slots: Sequence[Slot], *, activation: str, is_normalized: bool, bound: float):
        """bound: of the delta constraint where the section sets none, 0 for no constraint."""
        super().__init__(slots)
        self.activation = ACTIVATIONS[activation]
        self.is_normalized = is_normalized
        self.bound = bound if spec.constrain is None else spec.constrain
        self.smoothing = spec.smooth

    @property
    def arrays(self) -> Product:
        """The layer whose arrays are used."""
        return self

    @property
    def added_biases(self) -> torch.Tensor | None:
        """What the product itself adds: with batch norm nothing, it comes after."""
        arrays = self.arrays
        return None if arrays.is_normalized else arrays.biases

    def finish(self, y_BFHW: torch.Tensor) -> torch.Tensor:
        """From the product to the output."""
        arrays = self.arrays
        if arrays.is_normalized:
            y_BFHW = batch_normalize(
                y_BFHW,
                arrays.scales,
                arrays.biases,
                arrays.rolling_mean,
                arrays.rolling_variance,
                training=self.training,
                ranks=self.ranks,
            )
        y_BFHW = self.activation(y_BFHW, inplace=True)
        if y_BFHW.requires_grad:
            if self.bound:
                y_BFHW = constrain(y_BFHW, self.bound)
            if self.smoothing:
                y_BFHW = smooth(y_BFHW, self.smoothing)
        return y_BFHW

    def fold(self) -> None:
        weights, biases = self.weights.detach(), self.biases.detach()
        folded = torch.empty_like(weights, memory_format=self.memory_format)
        if not self.is_normalized:
            self.weights = torch.nn.Parameter(folded.copy_(weights))
            return
        factor_F, bias_F = fold_factors(self.scales.detach(), biases, self.rolling_mean, self.rolling_variance)
        across = [1] * weights.dim()
        across[self.filter_axis] = -1
        # computed in double and rounded once, without an array of doubles in between
        self.weights = torch.nn.Parameter(torch.mul(weights, factor_F.view(across), out=folded))
        self.biases = torch.nn.Parameter(bias_F.to(biases.dtype))
        self.is_normalized = False
        del self.scales, self.rolling_mean, self.rolling_variance
