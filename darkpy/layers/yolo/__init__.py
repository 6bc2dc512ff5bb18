"""[yolo]: boxes of YOLOv3, v4 and v7, relative to anchors.

Legend: B images, A anchors of this head, E = 5 + classes entries (x, y, w, h, objectness, classes), H W the grid,
M candidates, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.dialect import Dialect
from darkpy.layers.anchors import AnchoredHead, AnchoredSpec
from darkpy.layers.base import Layer, absolute, section
from darkpy.layers.head import above
from darkpy.ops.detections import Detections
from darkpy.ops.grid import cells, pick
from darkpy.shapes import Shape

_AX = Dialect.ALEXEYAB


@section("yolo")
@dataclass(frozen=True, kw_only=True, slots=True)
class YoloSpec(AnchoredSpec):
    """Source: pjreddie/darknet and AlexeyAB/darknet src/yolo_layer.c, src/parser.c parse_yolo.

    Differs: pjreddie's takes the second of two images for the first one mirrored, and averages them.
    """

    box_entries: ClassVar[int] = 5

    new_coords: bool = key(False, only=_AX)
    focal_loss: bool = key(False, only=_AX)
    show_details: bool = key(True, only=_AX)

    # tracking over video frames
    embedding_layer: int | None = key(None, only=_AX)
    track_history_size: int = key(5, only=_AX)
    sim_thresh: float = key(0.8, only=_AX)
    dets_for_track: int = key(1, only=_AX)
    dets_for_show: int = key(1, only=_AX)
    track_ciou_norm: float = key(0.01, only=_AX)

    def refers(self, index: int) -> tuple[int, ...]:
        return () if self.embedding_layer is None else (absolute(self.embedding_layer, index),)

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        # with new_coords the layer before has done the logistic
        return AnchoredHead(self, raw=range(self.entries) if self.new_coords else (2, 3), centre=(0, 1))

    def decode(
        self,
        output_BCHW: torch.Tensor,
        net_w: int,
        net_h: int,
        thresh: float,
        tree_thresh: float = 0.5,
        class_map: Sequence[int] = (),
    ) -> Detections:
        entries_BHWAE = cells(output_BCHW, self.entries)
        found = pick(entries_BHWAE, entries_BHWAE[..., 4] > thresh)
        xy_M2, wh_M2, objectness_M1, class_MK = torch.split(found.entry_ME, [2, 2, 1, self.classes], dim=1)
        share_M2 = 4 * wh_M2.square() if self.new_coords else wh_M2.exp()
        size_M2 = share_M2 * self.anchors_px(found.anchor_M) / wh_M2.new_tensor((net_w, net_h))
        boxes_M4 = torch.cat((found.centre_frac(xy_M2), size_M2), dim=1)
        return Detections(found.image_M, boxes_M4, objectness_M1[:, 0], above(objectness_M1 * class_MK, thresh))
