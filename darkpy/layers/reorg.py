"""[reorg]: passthrough of YOLOv2: space to depth in darknet's own order.

Legend: B images, C channels, H W rows and columns.
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
from darkpy.layers.base import Layer, LayerSpec, section
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.ops.space_to_depth import depth_to_space, require_blocks, require_parts, space_to_depth
from darkpy.shapes import FlatShape, Shape


@section("reorg")
@dataclass(frozen=True, kw_only=True, slots=True)
class ReorgSpec(LayerSpec):
    """Space to depth of the input's memory read as an image `stride` times as high and wide, with fewer channels.

    `reverse` is depth to space, but not the inverse. pjreddie's dialect: `flatten` moves the channels last (with
    `reverse` first) in memory; `extra` appends so many zeros to the flat input.
    Source: pjreddie/darknet src/reorg_layer.c, src/blas.c reorg_cpu; AlexeyAB/darknet src/reorg_old_layer.c.
    """

    stride: int = key(1, minimum=1)
    reverse: bool = key(False)
    flatten: bool = key(False, dialect=Dialect.PJREDDIE)
    extra: int = key(0, dialect=Dialect.PJREDDIE, minimum=0)

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        (x,) = inputs
        if self.extra:
            if self.flatten:
                raise ShapeError(f"flatten=1 keeps the number of cells, extra={self.extra} adds to it")
            return FlatShape.vector(x.outputs + self.extra)
        if self.reverse or not self.flatten:
            require_parts(x, self.stride)
        if self.reverse:
            return Shape(x.c // self.stride**2, x.h * self.stride, x.w * self.stride)
        require_blocks(x, self.stride)
        return Shape(x.c * self.stride**2, x.h // self.stride, x.w // self.stride)

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _Reorg(self)


class _Reorg(Layer):
    preserves_dtype = True

    def __init__(self, spec: ReorgSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        spec, stride = self.spec, self.spec.stride
        x = Shape(*x_BCHW.shape[1:])
        if spec.extra:
            return functional.pad(x_BCHW.flatten(1), (0, spec.extra))[:, :, None, None]
        if spec.flatten and spec.reverse:
            moved = x_BCHW.reshape(-1, x.h * x.w, x.c).transpose(1, 2)
        elif spec.flatten:
            moved = x_BCHW.flatten(2).transpose(1, 2)
        elif spec.reverse:
            moved = depth_to_space(x_BCHW, stride)
        else:
            moved = space_to_depth(x_BCHW.reshape(-1, x.c // stride**2, x.h * stride, x.w * stride), stride)
        return moved.reshape(-1, *spec.shape((x,)))

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        (source,) = sources
        x, shape = source
        spec, stride, out = self.spec, self.spec.stride, self.spec.shape((shape,))
        if spec.extra:
            flat = graph.reshape(x, 0, shape.outputs)
            return graph.reshape(graph.pad(flat, (0, 0, 0, spec.extra)), 0, *out)
        if spec.flatten:
            sides = (-1, shape.c) if spec.reverse else (shape.c, -1)
            moved = graph.add("Transpose", graph.reshape(x, 0, *sides), perm=(0, 2, 1))
        elif spec.reverse:
            return graph.add("DepthToSpace", x, blocksize=stride)
        else:  # channels and rows stay together; MNN computes a Reshape behind SpaceToDepth wrong
            blocks = graph.reshape(x, 0, -1, stride, 0, stride)
            moved = graph.add("Transpose", blocks, perm=(0, 2, 4, 1, 3))
        return graph.reshape_like(moved, source, out)
