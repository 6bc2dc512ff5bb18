"""[logistic]: independent probabilities, with binary cross entropy as the loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from darkpy.config.net import NetSpec
from darkpy.dialect import Dialect
from darkpy.layers.base import Layer, section
from darkpy.layers.loss import Loss, LossSpec, TrainingState
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape

_LOG_EPS = 1e-7  # in logistic_x_ent_kernel


@section("logistic", dialect=Dialect.PJREDDIE)
@dataclass(frozen=True, kw_only=True, slots=True)
class LogisticSpec(LossSpec):
    """Source: pjreddie/darknet src/logistic_layer.c forward_logistic_layer."""

    needs_image: ClassVar[bool] = False

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return inputs[0]

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _Logistic()

    def loss(self, input_BCHW: Tensor, output_BCHW: Tensor, truth: Tensor, state: TrainingState) -> Loss:
        """Source: pjreddie/darknet src/blas_kernels.cu logistic_x_ent_kernel; the CPU code takes the logarithm of 0."""
        truth_BCHW = truth.reshape(output_BCHW.shape)
        delta_BCHW = truth_BCHW - output_BCHW
        true_BCHW, false_BCHW = (output_BCHW + _LOG_EPS).log(), (1 - output_BCHW + _LOG_EPS).log()
        return Loss(delta_BCHW, delta_BCHW, -(truth_BCHW * true_BCHW + (1 - truth_BCHW) * false_BCHW).sum())


class _Logistic(Layer):
    def forward(self, x_BCHW: Tensor) -> Tensor:
        return torch.sigmoid(x_BCHW)

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        return graph.add("Sigmoid", sources[0].name)
