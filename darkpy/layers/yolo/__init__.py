"""[yolo]: boxes of YOLOv3, v4 and v7, relative to anchors.

Legend: B images, A anchors of this head, E = 5 + classes entries (x, y, w, h, objectness, classes), H W the grid,
M candidates, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.dialect import Dialect
from darkpy.layers.anchor_graph import EntryTensors, candidates_to_onnx, detections_to_onnx
from darkpy.layers.anchors import AnchoredHead, AnchoredSpec
from darkpy.layers.base import Layer, absolute_index, section
from darkpy.layers.head import OnnxDetections
from darkpy.layers.loss import Loss, TrainingState
from darkpy.layers.yolo.delta import log_line, yolo_loss
from darkpy.ops.box_coder import BoxCoder
from darkpy.ops.device import tensor_async
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape


@section("yolo", "yolo4")  # yolo4: of an OpenCL fork, with AlexeyAB's keys
@dataclass(frozen=True, kw_only=True, slots=True)
class YoloSpec(AnchoredSpec):
    """Source: pjreddie/darknet and AlexeyAB/darknet src/yolo_layer.c, src/parser.c parse_yolo.

    Differs: pjreddie's takes the second of a batch of two images for the first mirrored, and averages their boxes.
    """

    box_entries: ClassVar[int] = 5
    xywh: ClassVar[slice] = slice(0, 4)

    new_coords: bool = key(False, dialect=Dialect.ALEXEYAB)
    focal_loss: bool = key(False, dialect=Dialect.ALEXEYAB)
    show_details: bool = key(True, dialect=Dialect.ALEXEYAB)

    # tracking over video frames
    embedding_layer: int | None = key(None, dialect=Dialect.ALEXEYAB)
    track_history_size: int = key(5, dialect=Dialect.ALEXEYAB)
    sim_thresh: float = key(0.8, dialect=Dialect.ALEXEYAB)
    dets_for_track: int = key(1, dialect=Dialect.ALEXEYAB)
    dets_for_show: int = key(1, dialect=Dialect.ALEXEYAB)
    track_ciou_norm: float = key(0.01, dialect=Dialect.ALEXEYAB)

    @property
    def input_activation(self) -> str:
        return "logistic" if self.new_coords else "linear"

    def shared_with(self, index: int) -> tuple[int, ...]:
        return () if self.embedding_layer is None else (absolute_index(self.embedding_layer, index),)

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        # with new_coords the layer before has applied the logistic
        return AnchoredHead(self, raw=range(self.entries) if self.new_coords else (2, 3), center=(0, 1))

    def box_coder(self, grid_2: Tensor, net_w: int, net_h: int) -> BoxCoder:
        return BoxCoder(grid_2, tensor_async((net_w, net_h), grid_2.device), squared_size=self.new_coords)

    def loss(self, input_BCHW: Tensor, output_BCHW: Tensor, truth: Tensor, state: TrainingState) -> Loss:
        return yolo_loss(self, output_BCHW, truth, state)

    def log_line(self, index: int, loss: Loss) -> str:
        return log_line(self, index, loss)

    def class_scores(self, entry_ME: Tensor) -> Tensor:
        return entry_ME[:, 4:5] * entry_ME[:, 5:]

    def boxes_to_onnx(self, graph: Graph, source: Value, net_w: int, net_h: int) -> OnnxDetections:
        entries_BME = candidates_to_onnx(graph, source, len(self.anchor_indices), self.entries)
        entries = EntryTensors(*graph.split(entries_BME, (2, 2, 1, self.classes), axis=2))
        return detections_to_onnx(graph, self, entries, source.shape, net_w, net_h)
