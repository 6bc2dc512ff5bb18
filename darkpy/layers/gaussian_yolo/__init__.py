"""[Gaussian_yolo]: boxes with an uncertainty (sigma) for each of x, y, w and h.

Legend: B images, A anchors of this head, E = 9 + classes entries (x, y, w, h, each followed by its
sigma, objectness, classes), H W the grid, M candidates, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.dialect import Dialect
from darkpy.layers.anchor_graph import EntryTensors, candidates_to_onnx, detections_to_onnx
from darkpy.layers.anchors import AnchoredHead, AnchoredSpec
from darkpy.layers.base import Layer, section
from darkpy.layers.gaussian_yolo.delta import gaussian_yolo_loss, log_line
from darkpy.layers.head import OnnxDetections
from darkpy.layers.loss import Loss, TrainingState
from darkpy.ops.boxes import BoxCoder
from darkpy.ops.device import tensor_async
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape

_NMS_KINDS = ("default", "greedynms", "diounms", "cornersnms")
_TO_CENTER = {"center": 0.0, "left_top": 0.5, "right_bottom": -0.5}  # from the point to the center, in box sizes


@section("Gaussian_yolo", dialect=Dialect.ALEXEYAB)
@dataclass(frozen=True, kw_only=True, slots=True)
class GaussianYoloSpec(AnchoredSpec):
    """Source: AlexeyAB/darknet src/gaussian_yolo_layer.c, src/parser.c parse_gaussian_yolo."""

    box_entries: ClassVar[int] = 9
    xywh: ClassVar[slice] = slice(0, 8, 2)

    nms_kind: str = key("default", choices=_NMS_KINDS, fallback="default")
    yolo_point: str = key("center", choices=tuple(_TO_CENTER))  # the point of the box that lies in the cell
    uc_normalizer: float = key(1.0, usual=(0, 100))

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return AnchoredHead(self, raw=(4, 6), center=(0, 2))

    def box_coder(self, grid_2: Tensor, net_w: int, net_h: int) -> BoxCoder:
        return BoxCoder(grid_2, tensor_async((net_w, net_h), grid_2.device), to_center=_TO_CENTER[self.yolo_point])

    def loss(self, input_BCHW: Tensor, output_BCHW: Tensor, truth: Tensor, state: TrainingState) -> Loss:
        return gaussian_yolo_loss(self, output_BCHW, truth, state)

    def log_line(self, index: int, loss: Loss) -> str:
        return log_line(index, loss)

    def class_scores(self, entry_ME: Tensor) -> Tensor:
        certainty_M1 = 1 - entry_ME[:, 1:8:2].mean(1, keepdim=True)
        return entry_ME[:, 8:9] * entry_ME[:, 9:] * certainty_M1

    def boxes_to_onnx(self, graph: Graph, source: Value, net_w: int, net_h: int) -> OnnxDetections:
        entries_BME = candidates_to_onnx(graph, source, len(self.anchor_indices), self.entries)
        box, objectness, classes = graph.split(entries_BME, (8, 1, self.classes), axis=2)
        xy, wh, sigma = (
            graph.add("Gather", box, torch.tensor(entries), axis=2) for entries in ((0, 2), (4, 6), (1, 3, 5, 7))
        )
        entries = EntryTensors(xy, wh, objectness, classes, sigma)
        return detections_to_onnx(graph, self, entries, source.shape, net_w, net_h)
