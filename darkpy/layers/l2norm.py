"""[l2norm]: L2 normalization over the channels of each pixel.

Legend: B images, C channels, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.dialect import Dialect
from darkpy.layers.base import ArraySpec, Init, Layer, LayerSpec, section
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape

_SMALLEST_NORM = 1e-30  # below the root of the smallest square that float32 holds


@section("l2norm", dialect=Dialect.PJREDDIE, any_dialect=True)
@dataclass(frozen=True, kw_only=True, slots=True)
class L2normSpec(LayerSpec):
    """Scale each pixel's channels to length 1; a pixel of zeros stays zero. `scale` adds a learned factor per channel.

    Source: pjreddie/darknet src/blas_kernels.cu l2norm_kernel; `scale`: ParseNet (Liu et al. 2015), SSD (starts at 20).
    Differs: the gradient is exact; darknet's CPU code passes the delta through, its GPU code adds a term that is not
        part of the gradient. Its CPU code divides pixels of zeros by 0. AlexeyAB's darknet has no such section.
    """

    scale: float = key(0.0, minimum=0, extension=True)  # darkpy's own: initial factor of each channel; 0 for none

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return inputs[0]

    def arrays(self, inputs: Sequence[Shape]) -> tuple[ArraySpec, ...]:
        if not self.scale:
            return ()
        return (ArraySpec("scales", (inputs[0].c,), Init(mean=self.scale), is_extension=True),)

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _L2norm(self.arrays(inputs))


class _L2norm(Layer):
    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        scales_C = self._parameters.get("scales")
        squared_B1HW = x_BCHW.square().sum(1, keepdim=True)
        # 0 is replaced before the square root, whose gradient at 0 is infinite
        y_BCHW = x_BCHW / torch.where(squared_B1HW == 0, 1.0, squared_B1HW).sqrt()
        return y_BCHW if scales_C is None else y_BCHW * scales_C[:, None, None]

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        x = sources[0].name
        norm = graph.add("ReduceL2", x, axes=(1,), keepdims=1)
        y = graph.add("Div", x, graph.add("Max", norm, torch.tensor(_SMALLEST_NORM)))  # a norm of 0 has zeros only
        scales_C = self._parameters.get("scales")
        return y if scales_C is None else graph.add("Mul", y, scales_C[:, None, None])
