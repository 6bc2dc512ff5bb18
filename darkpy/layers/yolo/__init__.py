"""[yolo]: boxes of YOLOv3, v4 and v7, relative to anchors.

Legend: B images, A anchors of this head, E = 5 + classes entries (x, y, w, h, objectness, classes), H W the grid,
M candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.dialect import Dialect
from darkpy.errors import ShapeError
from darkpy.evaluation.detections import Detections
from darkpy.layers.anchors import chosen_anchors
from darkpy.layers.base import Layer, absolute, section
from darkpy.layers.head import HeadSpec
from darkpy.shapes import Shape

_AX = Dialect.ALEXEYAB
_FLT_MAX = 3.4028234663852886e38


@section("yolo")
@dataclass(frozen=True, kw_only=True, slots=True)
class YoloSpec(HeadSpec):
    """One scale of a YOLOv3-like network.

    Units: anchors in pixels of the network's input.
    Source: pjreddie/darknet and AlexeyAB/darknet src/yolo_layer.c, src/parser.c parse_yolo.
    """

    classes: int = key(20, minimum=1)
    num: int = key(1, minimum=1)
    mask: tuple[int, ...] = key((), minimum=0)  # falls back to all anchors
    anchors: tuple[float, ...] = key(())  # .5 where the list ends early
    map: str | None = key(None)

    max: int = key(90, alexeyab=200, minimum=1)
    jitter: float = key(0.2)
    resize: float = key(1.0, only=_AX)
    random: float = key(0.0)
    ignore_thresh: float = key(0.5)
    truth_thresh: float = key(1.0)

    scale_x_y: float = key(1.0, only=_AX)
    new_coords: bool = key(False, only=_AX)
    objectness_smooth: bool = key(False, only=_AX)
    iou_loss: str = key("mse", only=_AX, words=("mse", "iou", "giou", "diou", "ciou"))
    iou_thresh_kind: str = key("iou", only=_AX, words=("iou", "giou", "diou", "ciou"))
    iou_thresh: float = key(1.0, only=_AX)
    iou_normalizer: float = key(1.0, alexeyab=0.75, only=_AX)
    obj_normalizer: float = key(1.0, only=_AX)
    cls_normalizer: float = key(1.0, only=_AX)
    delta_normalizer: float = key(1.0, only=_AX)
    max_delta: float = key(_FLT_MAX, only=_AX)
    label_smooth_eps: float = key(0.0, only=_AX)
    focal_loss: bool = key(False, only=_AX)
    counters_per_class: tuple[int, ...] = key((), only=_AX)
    beta_nms: float = key(0.6, only=_AX)
    nms_kind: str = key("default", only=_AX, words=("default", "greedynms", "diounms"))
    show_details: bool = key(True, only=_AX)

    # tracking over video frames
    embedding_layer: int | None = key(None, only=_AX)
    track_history_size: int = key(5, only=_AX)
    sim_thresh: float = key(0.8, only=_AX)
    dets_for_track: int = key(1, only=_AX)
    dets_for_show: int = key(1, only=_AX)
    track_ciou_norm: float = key(0.01, only=_AX)

    @property
    def anchor_indices(self) -> tuple[int, ...]:
        return self.mask or tuple(range(self.num))

    @property
    def class_count(self) -> int:
        return self.classes

    @property
    def nms(self) -> tuple[str, float]:
        return self.nms_kind, self.beta_nms

    def refers(self, index: int) -> tuple[int, ...]:
        return () if self.embedding_layer is None else (absolute(self.embedding_layer, index),)

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        (x,) = inputs
        anchors = len(self.mask) or self.num
        wanted = anchors * (5 + self.classes)
        if x.c != wanted:
            raise ShapeError(
                f"reads {x.c} channels, but {anchors} anchors x (5 + classes={self.classes}) are {wanted}",
                hint=f"set filters={wanted} in the convolutional before it",
            )
        if self.mask and max(self.mask) >= self.num:
            raise ShapeError(f"mask names anchor {max(self.mask)}, but num={self.num}", hint="anchors count from 0")
        return x

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _Yolo(self)

    def decode(
        self, output_BCHW: torch.Tensor, net_w: int, net_h: int, thresh: float, tree_thresh: float = 0.5
    ) -> Detections:
        batch, _, rows, columns = output_BCHW.shape
        entries_BHWAE = output_BCHW.view(batch, -1, 5 + self.classes, rows, columns).permute(0, 3, 4, 1, 2)
        place_M4 = (entries_BHWAE[..., 4] > thresh).nonzero()
        image_M, row_M, column_M, anchor_M = place_M4.unbind(1)
        entry_ME = entries_BHWAE[image_M, row_M, column_M, anchor_M]
        anchors_A2 = chosen_anchors(self.anchors, self.anchor_indices).to(output_BCHW)
        x_M = (column_M + entry_ME[:, 0]) / columns
        y_M = (row_M + entry_ME[:, 1]) / rows
        wh_M2 = entry_ME[:, 2:4].square() * 4 if self.new_coords else entry_ME[:, 2:4].exp()
        wh_M2 = wh_M2 * anchors_A2[anchor_M] / wh_M2.new_tensor((net_w, net_h))
        objectness_M = entry_ME[:, 4]
        prob_MK = objectness_M[:, None] * entry_ME[:, 5:]
        prob_MK = torch.where(prob_MK > thresh, prob_MK, 0.0)
        return Detections(image_M, torch.cat([x_M[:, None], y_M[:, None], wh_M2], 1), objectness_M, prob_MK)


class _Yolo(Layer):
    """The logistic of x, y, objectness and classes; with `new_coords` the layer before has done that."""

    def __init__(self, spec: YoloSpec) -> None:
        super().__init__()
        self.entries = 5 + spec.classes
        self.scale_x_y, self.has_new_coords = spec.scale_x_y, spec.new_coords

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        batch, _, rows, columns = x_BCHW.shape
        x_BAEHW = x_BCHW.reshape(batch, -1, self.entries, rows, columns)
        if self.has_new_coords:
            y_BAEHW = x_BAEHW.clone()
        else:
            y_BAEHW = torch.sigmoid(x_BAEHW)
            y_BAEHW[:, :, 2:4] = x_BAEHW[:, :, 2:4]
        if self.scale_x_y != 1:
            # out of place: sigmoid's gradient needs its own output
            y_BAEHW = y_BAEHW.clone() if y_BAEHW.requires_grad else y_BAEHW
            y_BAEHW[:, :, :2] = y_BAEHW[:, :, :2] * self.scale_x_y - (self.scale_x_y - 1) / 2
        return y_BAEHW.view_as(x_BCHW)
