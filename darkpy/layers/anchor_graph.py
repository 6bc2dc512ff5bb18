"""Decoding of anchored heads as ONNX operators: candidates in rows, then their boxes and scores.

Legend: B images, A anchors, E entries of an anchor, L cells, M = L * A candidates, K classes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from darkpy.layers.anchors import AnchoredSpec, chosen_anchors
from darkpy.layers.head import OnnxDetections
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape


class EntryTensors(NamedTuple):
    """Names of the graph's tensors (B, M, n) that hold the entries of candidates before any logistic.

    sigma: of [Gaussian_yolo] alone.
    """

    xy: str
    wh: str
    objectness: str
    classes: str
    sigma: str | None = None


def candidates_to_onnx(graph: Graph, source: Value, anchors: int, entries: int, *, by_anchor: bool = False) -> str:
    """Reorder map_BCHW into entries_BME: cell by cell with the anchors of a cell together, or anchor by anchor."""
    entries_BAEL = graph.reshape(source.name, 0, anchors, entries, -1)
    rows = graph.add("Transpose", entries_BAEL, perm=(0, 1, 3, 2) if by_anchor else (0, 3, 1, 2))
    return graph.reshape(rows, 0, -1, entries)


def cells_of(shape: Shape, anchors: int, *, by_anchor: bool = False) -> torch.Tensor:
    """Return cell_M2, the (column, row) of each candidate."""
    row_L, column_L = torch.meshgrid(torch.arange(shape.h), torch.arange(shape.w), indexing="ij")
    cell_L2 = torch.stack((column_L, row_L), dim=2).reshape(-1, 2)
    return cell_L2.repeat(anchors, 1) if by_anchor else cell_L2.repeat_interleave(anchors, dim=0)


def detections_to_onnx(
    graph: Graph, spec: AnchoredSpec, entries: EntryTensors, shape: Shape, net_w: int, net_h: int
) -> OnnxDetections:
    """Boxes and scores of candidates, in the arithmetic of `BoxCoder.decode`; constants are folded in float64."""
    grid_2 = torch.tensor((shape.w, shape.h), dtype=torch.float64)
    coder, scale = spec.box_coder(grid_2, net_w, net_h), spec.scale_x_y
    anchors_A2 = chosen_anchors(spec.anchors, spec.anchor_indices).double()
    cell_M2 = cells_of(shape, len(anchors_A2)).double()
    size_M2 = anchors_A2.repeat(shape.h * shape.w, 1) / coder.net_2

    def logistic(name: str) -> str:
        return name if coder.squared_size else graph.add("Sigmoid", name)

    offset = graph.add("Mul", logistic(entries.xy), (scale / grid_2).float())
    center = graph.add("Add", offset, ((cell_M2 - (scale - 1) / 2) / grid_2).float()[None])
    if coder.squared_size:
        size = graph.add("Mul", graph.add("Mul", entries.wh, entries.wh), (4 * size_M2).float()[None])
    else:
        size = graph.add("Mul", graph.add("Exp", entries.wh), size_M2.float()[None])
    if coder.to_center:
        center = graph.add("Add", center, graph.add("Mul", size, torch.tensor(coder.to_center)))
    objectness = logistic(entries.objectness)
    scores = graph.add("Mul", objectness, logistic(entries.classes))
    if entries.sigma is not None:
        uncertainty = graph.add("ReduceMean", graph.add("Sigmoid", entries.sigma), axes=(2,), keepdims=1)
        scores = graph.add("Mul", scores, graph.add("Sub", torch.tensor(1.0), uncertainty))
    return OnnxDetections(graph.add("Concat", center, size, axis=2), objectness, scores)
