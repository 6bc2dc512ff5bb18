"""[yolo]: boxes of YOLOv3, v4 and v7, relative to anchors.

Legend: B images, A anchors of this head, E = 5 + classes entries (x, y, w, h, objectness, classes), H W the grid,
M candidates, K classes.

Delta and cost of [yolo].

Legend: B images, T rows of a truth, E entries, C = anchors * E, H W the grid, A anchors, M matches, K classes.
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
from darkpy.layers.anchored_delta import MEAN_FIELDS, AnchoredDelta, averages_line
from darkpy.layers.anchors import AnchoredHead, AnchoredSpec
from darkpy.layers.base import Layer, absolute_index, section
from darkpy.layers.head import OnnxDetections
from darkpy.layers.loss import Loss, TrainingState
from darkpy.ops.box_gradients import overlap_gradient
from darkpy.ops.boxes import BoxCoder
from darkpy.ops.device import tensor_async
from darkpy.ops.matching import Matches
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape

_LOG_EPS = 1e-15  # keeps the logarithm of the focal loss finite


class YoloDelta(AnchoredDelta["YoloSpec"]):
    """Differs: AlexeyAB's mse loss leaves NaN and inf in box deltas; here they become 0, counted, as with iou_loss."""

    @property
    def keeps_first_objectness(self) -> bool:
        return self.spec.objectness_smooth

    def ignored_target(self, overlap_BHWA: Tensor) -> Tensor:
        return overlap_BHWA

    def box_delta(self, entry_ME: Tensor, matches: Matches) -> Tensor:
        """Box delta by squared error or by the gradient of an overlap.

        The overlap's gradient is not the full chain rule: x and y lack the slope of the logistic and the cell's size,
        w and h the anchor's size (with `new_coords` all factors). darknet leaves them out, and the `iou_normalizer`
        of published cfgs is tuned to that.
        Source: src/yolo_layer.c delta_yolo_box; src/box.c dx_box_iou.
        """
        spec, xywh_M4 = self.spec, entry_ME[:, :4]
        scale_M1 = spec.iou_normalizer * self.weight_K[matches.class_M, None]
        if spec.iou_loss == "mse":
            # 2 - w * h: small boxes count up to twice as much as one that fills the image
            size_weight_M1 = 2 - matches.frac_M4[:, 2:].prod(1, keepdim=True)
            return size_weight_M1 * (self.target_entries(matches) - xywh_M4) * scale_M1
        gradient_M4 = overlap_gradient(self.pred_frac(entry_ME, matches), matches.frac_M4, spec.iou_loss)
        if not spec.new_coords:
            gradient_M4 = torch.cat((gradient_M4[:, :2], gradient_M4[:, 2:] * xywh_M4[:, 2:].exp()), dim=1)
        return self.bounded(gradient_M4 * scale_M1)

    def class_delta(self, prob_MK: Tensor, class_M: Tensor) -> Tensor:
        if not self.spec.focal_loss:
            return super().class_delta(prob_MK, class_M)
        # gradient of the focal loss with alpha .5 and gamma 2 (Lin et al. 2017), by the true class's probability for
        # all classes, as in delta_yolo_class; label_smooth_eps and counters_per_class do not act on it
        prob_M1 = prob_MK.gather(1, class_M[:, None]) + _LOG_EPS
        focal_M1 = 0.5 * -(1 - prob_M1) * (2 * prob_M1 * prob_M1.log() + prob_M1 - 1)
        is_true_MK = torch.zeros_like(prob_MK).scatter(1, class_M[:, None], 1.0)
        return (is_true_MK - prob_MK) * focal_M1

    def write(self) -> None:
        super().write()
        if self.spec.iou_thresh < 1:
            self.average_boxes(self.has_truth_BHWA & (self.delta_BHWAE[..., self.objectness] != 0))
        self.count_nonfinite()


def yolo_loss(spec: YoloSpec, output_BCHW: Tensor, truth_BTE: Tensor, state: TrainingState) -> Loss:
    """Delta and cost of a minibatch.

    Reports: the fields of AnchoredDelta, and per image `total_loss`, `class_loss` (objectness included) and
        `iou_loss`, the rest.
    Source:  pjreddie/darknet and AlexeyAB/darknet src/yolo_layer.c forward_yolo_layer, backward_yolo_layer_gpu
    Differs: [net] loss_scale, which the update divides out again, is not applied.
    """
    head = YoloDelta(spec, output_BCHW, truth_BTE, state.net)
    head.write()
    delta_BCHW, report = head.delta_BCHW, head.report
    state.delta_filter.apply(delta_BCHW, spec.entries, state.net, state.updates, state.process_group)
    square_BHWAE = head.delta_BHWAE.square()
    total = square_BHWAE.sum()
    class_loss = spec.obj_normalizer * square_BHWAE[..., head.objectness :].sum()
    cost = total  # the squared length of the delta, which is what darknet prints as the loss
    if spec.show_details and spec.iou_loss != "mse":
        overlap = report["giou" if spec.iou_loss == "giou" else "iou"]
        count = state.process_group.sum_(report["count"].clone())
        cost = spec.iou_normalizer * (report["count"] - overlap) / count.clamp(min=1) + class_loss
    losses = {"total_loss": total, "class_loss": class_loss, "iou_loss": total - class_loss}
    report |= {name: loss / len(delta_BCHW) for name, loss in losses.items()}
    input_delta_BCHW = delta_BCHW if spec.delta_normalizer == 1 else spec.delta_normalizer * delta_BCHW
    return Loss(delta_BCHW, input_delta_BCHW, cost, report, MEAN_FIELDS | losses.keys())


def log_line(spec: YoloSpec, index: int, loss: Loss) -> str:
    """darknet's line of a minibatch; AlexeyAB's shows a count of 1 where there is no match."""
    report = loss.report
    if spec.dialect is Dialect.PJREDDIE:
        return averages_line(index, report)
    name = spec.iou_loss if spec.iou_loss in ("mse", "giou") else "iou"
    count = max(1, int(report["count"]))
    details = f"class_loss = {report['class_loss']:f}, iou_loss = {report['iou_loss']:f}, " if spec.show_details else ""
    return (
        f"v3 ({name} loss, Normalizer: (iou: {spec.iou_normalizer:.2f}, obj: {spec.obj_normalizer:.2f}, "
        f"cls: {spec.cls_normalizer:.2f}) Region {index} Avg (IOU: {report['iou'] / count:f}), count: {count}, "
        f"{details}total_loss = {report['total_loss']:f} "
    )


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
    track_history_size: int = key(5, dialect=Dialect.ALEXEYAB, usual=(1, 1000))
    sim_thresh: float = key(0.8, dialect=Dialect.ALEXEYAB, usual=(0, 1))
    dets_for_track: int = key(1, dialect=Dialect.ALEXEYAB, usual=(0, 1000))
    dets_for_show: int = key(1, dialect=Dialect.ALEXEYAB, usual=(0, 1000))
    track_ciou_norm: float = key(0.01, dialect=Dialect.ALEXEYAB, usual=(0, 100))

    @property
    def input_activations(self) -> tuple[str, ...]:
        return ("logistic",) if self.new_coords else ("linear",)

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
