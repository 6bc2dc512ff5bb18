"""[normalization]: local response normalization across channels (LRN, as in AlexNet).

Legend: B images, C channels, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.layers.base import Layer, LayerSpec, section
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape


@section("normalization", "lrn")
@dataclass(frozen=True, kw_only=True, slots=True)
class NormalizationSpec(LayerSpec):
    """y = x * (kappa + alpha * sum of the squares of the `size` channels around) ^ -beta.

    darknet's running sum never adds the square of channel size / 2, but subtracts it when the window leaves that
    channel, so that the sums of all later channels are too small by it. The backward pass treats the norm as a
    constant: the delta is multiplied by the same power.
    Source: pjreddie/darknet src/normalization_layer.c.
    """

    alpha: float = key(0.0001, usual=(0, 100))
    beta: float = key(0.75, usual=(0, 100))
    kappa: float = key(1.0, usual=(1e-6, 1000))
    size: int = key(5, minimum=1)

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return inputs[0]

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _Normalization(self)


class _Normalization(Layer):
    def __init__(self, spec: NormalizationSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        spec = self.spec
        norm_BCHW = spec.kappa + spec.alpha * _neighbors(x_BCHW.detach() ** 2, spec.size)
        return x_BCHW * norm_BCHW**-spec.beta

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        """Write the sum over neighbors as a 1 x 1 convolution of the squares."""
        ((x, shape),) = sources
        spec = self.spec
        is_near_CC11 = _neighbors(torch.eye(shape.c)[:, :, None, None], spec.size).transpose(0, 1)
        kappa_C = torch.full((shape.c,), spec.kappa)
        norm = graph.add("Conv", graph.add("Mul", x, x), spec.alpha * is_near_CC11, kappa_C, kernel_shape=(1, 1))
        return graph.add("Mul", x, graph.add("Pow", norm, torch.tensor(-spec.beta)))


def _neighbors(squared_BCHW: torch.Tensor, size: int) -> torch.Tensor:
    """Sum of each channel's neighbors, without channel size / 2; modifies its argument."""
    channels, middle, back = squared_BCHW.shape[1], size // 2, (size - 1) // 2
    missing_B1HW = squared_BCHW[:, middle : middle + 1].clone()
    squared_BCHW[:, middle : middle + 1] = 0
    before, after = min(back, channels - 1), min(middle, channels - 1)
    padded = functional.pad(squared_BCHW, (0, 0, 0, 0, before, after))
    window = (before + 1 + after, 1, 1)
    sum_BCHW = functional.avg_pool3d(padded[:, None], window, stride=1, divisor_override=1)[:, 0]
    sum_BCHW[:, middle + back + 1 :] -= missing_B1HW
    return sum_BCHW
