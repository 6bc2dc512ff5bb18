"""[region] as ONNX operators.

Legend: B images, A anchors, E entries of an anchor, M candidates, K classes, L cells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from darkpy.errors import DarkpyError
from darkpy.layers.anchor_graph import candidates_to_onnx, cells_of
from darkpy.layers.anchors import chosen_anchors
from darkpy.layers.head import OnnxDetections
from darkpy.ops.hierarchy import Hierarchy
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape

if TYPE_CHECKING:
    from darkpy.layers.region import RegionSpec


def region_to_onnx(graph: Graph, spec: RegionSpec, hierarchy: Hierarchy | None, x: str, shape: Shape) -> str:
    """Write the head's forward pass."""
    xy, wh, *more, objectness, classes = _split_entries(graph, spec, graph.reshape(x, 0, spec.num, spec.entries, -1))
    if not spec.cells_first:
        xy, *more = (graph.add("Sigmoid", part) for part in (xy, *more))
    if hierarchy is None:
        scores = _scores_to_onnx(graph, spec, objectness, classes)
    else:
        class_scores = hierarchy.softmax_to_onnx(graph, classes, 2, (shape.h * shape.w,))
        scores = (objectness if spec.background else graph.add("Sigmoid", objectness), class_scores)
    y_BAEL = graph.add("Concat", xy, wh, *more, *scores, axis=2)
    if spec.cells_first:
        y_BAEL = graph.add("Transpose", y_BAEL, perm=(0, 3, 1, 2))
    return graph.reshape_like(y_BAEL, Value(x, shape))


def boxes_to_onnx(graph: Graph, spec: RegionSpec, source: Value) -> OnnxDetections:
    """Write boxes and scores of all candidates. Raises: DarkpyError for a class tree."""
    if spec.tree is not None:
        raise DarkpyError("choosing from its class tree cannot be written as ONNX operators")
    by_anchor = not spec.cells_first
    entries = candidates_to_onnx(graph, source, spec.num, spec.entries, by_anchor=by_anchor)
    xy, wh, *_, objectness, classes = _split_entries(graph, spec, entries)
    grid_2 = torch.tensor((source.shape.w, source.shape.h))
    anchors_A2 = chosen_anchors(spec.anchors, range(spec.num)) / grid_2
    cell_M2 = cells_of(source.shape, spec.num, by_anchor=by_anchor)
    cells = source.shape.h * source.shape.w
    size_M2 = anchors_A2.repeat_interleave(cells, 0) if by_anchor else anchors_A2.repeat(cells, 1)
    offset = graph.add("Mul", graph.add("Sigmoid", xy), 1 / grid_2)
    center = graph.add("Add", offset, (cell_M2 / grid_2)[None])
    boxes = graph.add("Concat", center, graph.add("Mul", graph.add("Exp", wh), size_M2[None]), axis=2)
    first, *rest = _scores_to_onnx(graph, spec, objectness, classes)
    if spec.background:
        return OnnxDetections(boxes, None, rest[0] if rest else graph.slice(first, {2: (1, 1 + spec.classes, 1)}))
    if spec.class_fix == -1:
        is_low = graph.add("Less", first, torch.tensor(0.5))
        first = graph.add("Where", is_low, torch.tensor(0.0), first)
    return OnnxDetections(boxes, first, graph.add("Mul", first, rest[0]))


def _split_entries(graph: Graph, spec: RegionSpec, entries: str) -> tuple[str, ...]:
    """Split axis 2 into x and y, w and h, more coordinates if there are any, objectness, classes."""
    more = (spec.coords - 4,) if spec.coords > 4 else ()
    return graph.split(entries, (2, 2, *more, 1, spec.classes), axis=2)


def _scores_to_onnx(graph: Graph, spec: RegionSpec, objectness: str, classes: str) -> tuple[str, ...]:
    """Objectness and class scores without a tree; a single tensor if one softmax covers both."""
    if spec.background and spec.softmax:
        return (graph.add("Softmax", graph.add("Concat", objectness, classes, axis=2), axis=2),)
    first = objectness if spec.background else graph.add("Sigmoid", objectness)
    if spec.softmax:
        return first, graph.add("Softmax", classes, axis=2)
    return first, classes if spec.cells_first else graph.add("Sigmoid", classes)
