"""[l2norm]: each pixel's channels scaled to length 1.

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


@section("l2norm", dialect=Dialect.PJREDDIE, any_dialect=True)
@dataclass(frozen=True, kw_only=True, slots=True)
class L2normSpec(LayerSpec):
    """A pixel of zeros stays zero. With `scale` each channel is then multiplied by a number that is learned.

    Source: pjreddie/darknet src/blas_kernels.cu l2norm_kernel.
    Differs: the gradient is the true one; darknet's CPU code hands the delta on as it is, its GPU code adds to it what
    has nothing to do with the loss. Its CPU code divides pixels of zeros by 0. AlexeyAB's fork has no such section.
    The scales are no darknet's, but Liu et al., ParseNet (2015), and SSD's, which starts them at 20.
    """

    scale: float = key(0.0, minimum=0, extension=True)  # darkpy's own: where each channel's scale starts; 0 for none

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
        # 1 where it is 0, before the root: the root's gradient at 0 is infinite
        y_BCHW = x_BCHW / torch.where(squared_B1HW == 0, 1.0, squared_B1HW).sqrt()
        return y_BCHW if scales_C is None else y_BCHW * scales_C[:, None, None]

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        x = sources[0].name
        norm = graph.add("ReduceL2", x, axes=(1,), keepdims=1)
        is_nothing = graph.add("Equal", norm, torch.tensor(0.0))
        y = graph.add("Div", x, graph.add("Where", is_nothing, torch.tensor(1.0), norm))
        scales_C = self._parameters.get("scales")
        return y if scales_C is None else graph.add("Mul", y, scales_C[:, None, None])
