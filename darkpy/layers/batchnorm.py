"""[batchnorm]: batch normalization on its own.

Legend: B images, C channels, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from darkpy.config.net import NetSpec
from darkpy.dialect import Dialect
from darkpy.layers.base import INIT_ONE, INIT_ZERO, ArraySpec, Layer, LayerSpec, section
from darkpy.ops.norms import NORM_EPS, batch_normalize
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape


@section("batchnorm")
@dataclass(frozen=True, kw_only=True, slots=True)
class BatchnormSpec(LayerSpec):
    """Normalize and scale each channel; AlexeyAB's dialect also adds biases, which pjreddie's file does not hold.

    Source: pjreddie/darknet and AlexeyAB/darknet src/batchnorm_layer.c; src/parser.c load_batchnorm_weights.
    Differs: pjreddie's CPU code crashes here, and its GPU code never updates this layer.
    """

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return inputs[0]

    def arrays(self, inputs: Sequence[Shape]) -> tuple[ArraySpec, ...]:
        channels = (inputs[0].c,)
        # not is_norm: dontloadscales does not apply to this layer
        arrays = (
            ArraySpec("scales", channels, INIT_ONE),
            ArraySpec("rolling_mean", channels, INIT_ZERO, is_statistic=True),
            ArraySpec("rolling_variance", channels, INIT_ZERO, is_statistic=True),
        )
        return arrays if self.dialect is Dialect.PJREDDIE else (ArraySpec("biases", channels), *arrays)

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _Batchnorm(self.arrays(inputs), self.bn_freeze or net.bn_freeze)


class _Batchnorm(Layer):
    scales: torch.Tensor
    rolling_mean: torch.Tensor
    rolling_variance: torch.Tensor

    def __init__(self, arrays: Sequence[ArraySpec], freeze: str) -> None:
        super().__init__(arrays)
        self.freeze = freeze
        self.freeze_affine(freeze)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return batch_normalize(
            x_BCHW,
            self.scales,
            self._added_biases(),
            self.rolling_mean,
            self.rolling_variance,
            training=self.training,
            process_group=self.process_group,
            freeze=self.freeze,
        )

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        arrays = (self.scales, self._added_biases(), self.rolling_mean, self.rolling_variance)
        return graph.add("BatchNormalization", sources[0].name, *arrays, epsilon=NORM_EPS)

    def _added_biases(self) -> torch.Tensor:
        biases_C: torch.Tensor | None = getattr(self, "biases", None)
        return torch.zeros_like(self.scales) if biases_C is None else biases_C
