"""[l2norm]: each pixel's channels scaled to length 1.

Legend: B images, C channels, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from darkpy.config.net import NetSpec
from darkpy.dialect import Dialect
from darkpy.layers.base import Layer, LayerSpec, section
from darkpy.shapes import Shape


@section("l2norm", only=Dialect.PJREDDIE)
@dataclass(frozen=True, kw_only=True, slots=True)
class L2normSpec(LayerSpec):
    """A pixel of zeros stays zero.

    Source: pjreddie/darknet src/blas_kernels.cu l2norm_kernel.
    Differs: the gradient is the true one; darknet's CPU code hands the delta on as it is, its GPU code adds to it what
    has nothing to do with the loss. Its CPU code divides pixels of zeros by 0.
    """

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return inputs[0]

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _L2norm()


class _L2norm(Layer):
    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        squared_B1HW = x_BCHW.square().sum(1, keepdim=True)
        # 1 where it is 0, before the root: the root's gradient at 0 is infinite
        return x_BCHW / torch.where(squared_B1HW == 0, 1.0, squared_B1HW).sqrt()
