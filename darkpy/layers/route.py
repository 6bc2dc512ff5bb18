"""[route]: layers concatenated along the channels.

Legend: B images, C channels, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.dialect import Dialect
from darkpy.errors import ShapeError, SizeMismatchError
from darkpy.layers.base import Layer, LayerSpec, absolute_index, section
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import FlatShape, Shape

_AX = Dialect.ALEXEYAB


@section("route")
@dataclass(frozen=True, kw_only=True, slots=True)
class RouteSpec(LayerSpec):
    """The concatenated outputs of `layers`; with `groups`, part `group_id` of the channels of each.

    Layers of different height or width are flattened in the pjreddie dialect: the output has no image.
    Source: AlexeyAB/darknet src/route_layer.c forward_route_layer; pjreddie/darknet src/parser.c parse_route.
    """

    needs_image: ClassVar[bool] = False

    layers: tuple[int, ...] = key()
    groups: int = key(1, dialect=_AX, minimum=1)
    group_id: int = key(0, dialect=_AX, minimum=0)

    # CUDA scheduling
    stream: int = key(-1, dialect=_AX)
    wait_stream: int = key(-1, dialect=_AX)

    def sources(self, index: int) -> tuple[int, ...]:
        return tuple(absolute_index(layer, index) for layer in self.layers)

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        if self.group_id >= self.groups:
            raise ShapeError(
                f"group_id={self.group_id} is not below groups={self.groups}", hint="ids are counted from 0"
            )
        for x in inputs:
            if x.c % self.groups:
                raise ShapeError(f"{x.c} channels cannot be split into groups={self.groups}")
        if is_flattened(inputs):
            if self.groups > 1 or self.dialect is _AX:
                raise SizeMismatchError(
                    f"the layers differ in height or width: {', '.join(map(str, inputs))}",
                    hint="route layers of one height and width; [upsample] or a stride makes them equal",
                )
            return FlatShape.vector(sum(x.outputs for x in inputs))
        return Shape(sum(x.c for x in inputs) // self.groups, inputs[0].h, inputs[0].w)

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return Route(self, is_flat=is_flattened(inputs))


@section("route_lhalf", dialect=_AX, any_dialect=True)
@dataclass(frozen=True, kw_only=True, slots=True)
class RouteLhalfSpec(RouteSpec):
    """Source: WongKinYiu/PyTorch_YOLOv4 models/models.py; no darknet has the section."""

    reading: ClassVar[str] = "is a section of WongKinYiu's PyTorch_YOLOv4, read as [route] with groups=2 and group_id=0"

    groups: int = key(2, minimum=1)
    group_id: int = key(0, minimum=0)

    def extensions(self) -> list[str]:
        return [f"[{self.type}]"]


def is_flattened(inputs: Sequence[Shape]) -> bool:
    """True if the layers differ in height or width, or if one of them has no image."""
    return len({(x.h, x.w) for x in inputs}) > 1 or any(isinstance(x, FlatShape) for x in inputs)


class Route(Layer):
    preserves_dtype = True

    def __init__(self, spec: RouteSpec, is_flat: bool) -> None:
        super().__init__()
        self.groups, self.group_id, self.is_flat = spec.groups, spec.group_id, is_flat
        self.is_identity = spec.groups == 1 and not is_flat

    def forward(self, *parts_BCHW: torch.Tensor) -> torch.Tensor:
        if self.is_flat:
            return torch.cat([part.flatten(1) for part in parts_BCHW], dim=1)[:, :, None, None]
        if self.groups > 1:
            parts_BCHW = tuple(part.chunk(self.groups, dim=1)[self.group_id] for part in parts_BCHW)
        return parts_BCHW[0] if len(parts_BCHW) == 1 else torch.cat(parts_BCHW, dim=1)

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        parts = [part.name for part in sources]
        if self.is_flat:
            parts = [graph.reshape(part.name, 0, part.shape.outputs, 1, 1) for part in sources]
        elif self.groups > 1:
            sizes = [part.shape.c // self.groups for part in sources]
            ranges = [(self.group_id * size, (self.group_id + 1) * size, 1) for size in sizes]
            parts = [graph.slice(name, {1: channels}) for name, channels in zip(parts, ranges, strict=True)]
        return parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=1)
