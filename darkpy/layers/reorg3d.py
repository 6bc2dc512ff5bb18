"""[reorg3d]: space to depth.

Legend: B images, C channels, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.dialect import Dialect
from darkpy.layers.base import Layer, LayerSpec, section
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.ops.space_to_depth import depth_to_space, require_blocks, require_parts, space_to_depth
from darkpy.shapes import Shape


@section("reorg3d", dialect=Dialect.ALEXEYAB)
@dataclass(frozen=True, kw_only=True, slots=True)
class Reorg3dSpec(LayerSpec):
    """Space to depth; `reverse` is not its inverse, but first reads the memory as an image `stride` times larger.

    Source: AlexeyAB/darknet src/reorg_layer.c, src/blas.c reorg_cpu.
    """

    stride: int = key(1, minimum=1)
    reverse: bool = key(False)

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        (x,) = inputs
        if self.reverse:
            require_parts(x, self.stride, power=4)
            return Shape(x.c // self.stride**2, x.h * self.stride, x.w * self.stride)
        require_blocks(x, self.stride)
        return Shape(x.c * self.stride**2, x.h // self.stride, x.w // self.stride)

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _Reorg3d(self)


class _Reorg3d(Layer):
    preserves_dtype = True

    def __init__(self, spec: Reorg3dSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        stride = self.spec.stride
        if not self.spec.reverse:
            return space_to_depth(x_BCHW, stride)
        declared = self.spec.shape((Shape(*x_BCHW.shape[1:]),))
        return depth_to_space(x_BCHW.reshape(-1, *declared), stride).reshape(-1, *declared)

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        ((x, shape),) = sources
        if not self.spec.reverse:
            return graph.add("SpaceToDepth", x, blocksize=self.spec.stride)
        declared = self.spec.shape((shape,))
        moved = graph.add("DepthToSpace", graph.reshape(x, 0, *declared), blocksize=self.spec.stride)
        return graph.reshape(moved, 0, *declared)
