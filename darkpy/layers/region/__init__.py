"""[region]: boxes of YOLOv2 and YOLO9000, relative to anchors in grid cells.

Legend: B images, A anchors, E = coords + 1 + classes entries (x, y, w, h, more coords, objectness, classes), C = A * E
channels, H W the grid, M candidates, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.dialect import Dialect, use_dialect
from darkpy.errors import ChannelsError, DarkpyError, ShapeError
from darkpy.finding import Finding
from darkpy.layers.anchors import MAX_ANCHOR, MIN_ANCHOR, chosen_anchors
from darkpy.layers.base import Layer, missing_anchors, section
from darkpy.layers.head import AnchorKeys, HeadSpec, OnnxDetections, scores_above
from darkpy.layers.loss import Loss, TrainingState, mean_text
from darkpy.layers.region.classes import checked_tree, class_tree, last_likely_class
from darkpy.layers.region.delta import region_loss
from darkpy.layers.region.graph import boxes_to_onnx, region_to_onnx
from darkpy.ops.boxes import Detections, cells, pick
from darkpy.ops.hierarchy import Hierarchy
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape


@section("region")
@dataclass(frozen=True, kw_only=True, slots=True)
class RegionSpec(HeadSpec):
    """Output memory is (anchor, entry, cell) in pjreddie's dialect, (cell, anchor, entry) in AlexeyAB's.

    AlexeyAB's applies the logistic of x and y in `decode`, not in the layer.

    Units: anchors in grid cells.
    Source: pjreddie/darknet and AlexeyAB/darknet src/region_layer.c, src/parser.c parse_region.
    Differs: a class tree has one softmax per group, as on the GPU; pjreddie's CPU code gives NaN. pjreddie's also takes
        the second of a batch of two images for the first mirrored, and averages their boxes.
    """

    truth_on_any_device: ClassVar[bool] = True

    coords: int = key(4, minimum=4, usual=(4, 100))
    classes: int = key(20, minimum=1, usual=(1, 100000))
    num: int = key(1, minimum=1, usual=(1, 1000))
    anchors: tuple[float, ...] = key((), usual=(MIN_ANCHOR, MAX_ANCHOR))  # .5 where the list ends early
    softmax: bool = key(False)
    background: bool = key(False, dialect=Dialect.PJREDDIE)  # a background class in place of the objectness
    tree: Path | None = key(None)
    map: Path | None = key(None)

    max: int = key(30, alexeyab=200, minimum=1, usual=(1, 100000))
    jitter: float = key(0.2, usual=(0, 1))
    resize: float = key(1.0, dialect=Dialect.ALEXEYAB, usual=(0.1, 10))
    random: float = key(0.0, usual=(0, 10))
    thresh: float = key(0.5, usual=(0, 1))
    rescore: bool = key(False)
    classfix: int = key(0, usual=(-1, 1))
    absolute: bool = key(False)
    bias_match: bool = key(False)
    focal_loss: bool = key(False, dialect=Dialect.ALEXEYAB)
    coord_scale: float = key(1.0, usual=(0, 1000))
    object_scale: float = key(1.0, usual=(0, 1000))
    noobject_scale: float = key(1.0, usual=(0, 1000))
    mask_scale: float = key(1.0, usual=(0, 1000))
    class_scale: float = key(1.0, usual=(0, 1000))

    # read by both dialects, without effect
    log: bool = key(False)
    sqrt: bool = key(False)

    @property
    def entries(self) -> int:
        """Channels of one anchor."""
        return self.coords + 1 + self.classes

    @property
    def anchor_keys(self) -> AnchorKeys:
        return AnchorKeys(tuple(range(self.num)), self.num, self.entries, is_in_cells=True)

    @property
    def class_count(self) -> int:
        return self.classes

    @property
    def input_count(self) -> int:
        return self.num * self.entries

    def describe_input(self) -> str:
        return f"num={self.num} x (coords={self.coords} + 1 + classes={self.classes})"

    @property
    def cells_first(self) -> bool:
        """True if the output's memory is (cell, anchor, entry) rather than (anchor, entry, cell)."""
        return self.dialect is Dialect.ALEXEYAB

    @property
    def has_many_labels(self) -> bool:
        """True if a box may have several classes: in pjreddie's dialect each class has its own logistic."""
        return self.dialect is Dialect.PJREDDIE and not self.softmax and self.tree is None

    @property
    def weighs_small_boxes(self) -> bool:
        """True if the box delta is weighted by 2 - w * h of the truth."""
        return self.dialect is Dialect.PJREDDIE

    @property
    def keeps_class_only_objectness(self) -> bool:
        """True if an image with a class label only still pulls objectness down."""
        return self.dialect is Dialect.PJREDDIE

    @property
    def logistic_slope_in_delta(self) -> bool:
        """True if the slope of the logistic is part of the delta, and so of the cost, not of the backward pass."""
        return self.dialect is Dialect.ALEXEYAB

    @property
    def class_fix(self) -> int:
        """Effective `classfix`: pjreddie's dialect reads the key without effect."""
        return self.classfix if self.dialect is Dialect.ALEXEYAB else 0

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        (x,) = inputs
        if self.coords != 4 and self.dialect is Dialect.ALEXEYAB:
            raise ShapeError(
                f"coords={self.coords}, but it must be 4 in the alexeyab dialect", hint=use_dialect(Dialect.PJREDDIE)
            )
        if x.c != self.input_count:
            message = f"reads {x.c} channels, but {self.describe_input()} are {self.input_count}"
            raise ChannelsError(message, self.input_count)
        return x

    def lint(self, inputs: Sequence[Shape]) -> Iterator[Finding]:
        yield from missing_anchors(self.anchors, range(self.num), "cells")

    def anchor_sizes(self, output: Shape, net_w: int, net_h: int) -> Tensor:
        cell_2 = torch.tensor((net_w / output.w, net_h / output.h))
        return chosen_anchors(self.anchors, range(self.num)) * cell_2

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _Region(self)

    def truth_shape(self, output: Shape) -> tuple[int, ...]:
        return (self.max, self.coords + (2 if self.dialect is Dialect.ALEXEYAB else 1))

    def row_sizes(self, output: Shape) -> tuple[int, ...]:
        return self.coords + 1, self.coords + 2

    def loss(self, input_BCHW: Tensor, output_BCHW: Tensor, truth: Tensor, state: TrainingState) -> Loss:
        """Raises: DarkpyError when focal_loss is set but class scores are not probabilities."""
        if self.focal_loss and not self.softmax and self.tree is None:
            raise DarkpyError(
                "[region] focal_loss=1 needs the logarithm of class scores, which are not probabilities here",
                hint="set softmax=1, or focal_loss=0",
            )
        return region_loss(self, output_BCHW, truth, state.seen)

    def log_line(self, index: int, loss: Loss) -> str:
        report = loss.report
        iou, objectness, recall = (
            mean_text(report[name], report["count"]) for name in ("iou", "objectness", "recalled")
        )
        return (
            f"Region Avg IOU: {iou}, Class: {mean_text(report['class'], report['class_count'])}, Obj: {objectness}, "
            f"No Obj: {mean_text(report['any_objectness'], report['places'])}, Avg Recall: {recall},  "
            f"count: {int(report['count'])}"
        )

    def entries_of(self, output_BCHW: Tensor) -> Tensor:
        """View the output as entries_BHWAE."""
        if not self.cells_first:
            return cells(output_BCHW, self.entries)
        batch, _, rows, columns = output_BCHW.shape
        return output_BCHW.reshape(batch, rows, columns, self.num, self.entries)

    def decode(
        self,
        output_BCHW: Tensor,
        net_w: int,
        net_h: int,
        thresh: float,
        tree_thresh: float = 0.5,
        class_map: Sequence[int] = (),
    ) -> Detections:
        """Candidates anchor by anchor (pjreddie), or cell by cell and without an objectness threshold (AlexeyAB)."""
        entries_BHWAE = self.entries_of(output_BCHW)
        objectness_BHWA = entries_BHWAE[..., self.coords]
        keeps_all = self.cells_first or self.background
        chosen_BHWA = torch.ones_like(objectness_BHWA, dtype=torch.bool) if keeps_all else ~(objectness_BHWA <= thresh)
        candidates = pick(entries_BHWAE, chosen_BHWA, by_anchor=not self.cells_first)
        sizes = [2, 2, self.coords - 4, 1, self.classes]
        xy_M2, wh_M2, _, scale_M1, class_MK = torch.split(candidates.entry_ME, sizes, 1)
        anchors_A2 = chosen_anchors(self.anchors, range(self.num), wh_M2.device)
        center_M2 = candidates.center_frac(xy_M2.sigmoid() if self.cells_first else xy_M2)
        size_M2 = wh_M2.exp() * anchors_A2[candidates.anchor_M] / candidates.grid_2
        if self.background:
            scale_M1 = torch.ones_like(scale_M1)
        elif self.classfix == -1 and self.dialect is Dialect.ALEXEYAB:
            scale_M1 = torch.where(scale_M1 < 0.5, 0.0, scale_M1)
        objectness_M1 = torch.ones_like(scale_M1) if self.cells_first else scale_M1
        if self.tree is None:
            prob_MK = scores_above(scale_M1 * class_MK, thresh)
        else:
            prob_MK = self._tree_scores(class_MK, scale_M1, thresh, tree_thresh, class_map)
        return Detections(candidates.image_M, torch.cat((center_M2, size_M2), 1), objectness_M1[:, 0], prob_MK)

    def _tree_scores(
        self, class_MK: Tensor, scale_M1: Tensor, thresh: float, tree_thresh: float, class_map: Sequence[int]
    ) -> Tensor:
        """Scores by the class tree: of the mapped classes, or of the one most specific class that is likely enough.

        Raises: DarkpyError when the map names a class that is not in the tree.
        Differs: darknet assumes a map of 200 lines, and reads beyond the end of a shorter one.
        """
        assert self.tree is not None
        if class_map and not 0 <= min(class_map) <= max(class_map) < self.classes:
            wrong = next(index for index in class_map if not 0 <= index < self.classes)
            raise DarkpyError(f"the map names class {wrong}, but classes={self.classes}", hint="classes count from 0")
        tree = class_tree(checked_tree(self.tree, self.classes), class_MK.device)
        prob_MK = tree.absolute(class_MK)
        if class_map:
            return scores_above(scale_M1 * prob_MK[:, list(class_map)], thresh)
        if self.dialect is Dialect.ALEXEYAB:
            return torch.where(scale_M1 > thresh, last_likely_class(prob_MK), 0.0)
        class_M1 = tree.descend(prob_MK, tree_thresh)[:, None]
        return torch.zeros_like(prob_MK).scatter(1, class_M1, scores_above(scale_M1, thresh))

    def boxes_to_onnx(self, graph: Graph, source: Value, net_w: int, net_h: int) -> OnnxDetections:
        return boxes_to_onnx(graph, self, source)


class _Region(Layer):
    """The logistic of centers and objectness, and the class scores, of each anchor at each cell."""

    def __init__(self, spec: RegionSpec) -> None:
        super().__init__()
        self.spec = spec
        tree = None if spec.tree is None else checked_tree(spec.tree, spec.classes)
        self.hierarchy = None if tree is None else Hierarchy(tree.parent, tree.group_size)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        spec = self.spec
        batch, _, rows, columns = x_BCHW.shape
        x_BAEHW = x_BCHW.reshape(batch, spec.num, spec.entries, rows, columns)
        xy_BA2HW, wh_BA2HW, more_BAEHW, objectness_BA1HW, class_BAKHW = torch.split(
            x_BAEHW, [2, 2, spec.coords - 4, 1, spec.classes], dim=2
        )
        if not spec.cells_first:
            xy_BA2HW, more_BAEHW = xy_BA2HW.sigmoid(), more_BAEHW.sigmoid()
        if spec.background and spec.softmax and self.hierarchy is None:
            scores_BAEHW = torch.cat((objectness_BA1HW, class_BAKHW), dim=2).softmax(2)
        else:
            if self.hierarchy is not None:
                class_BAKHW = self.hierarchy.softmax(class_BAKHW, 2)
            elif spec.softmax:
                class_BAKHW = class_BAKHW.softmax(2)
            elif not spec.cells_first:
                class_BAKHW = class_BAKHW.sigmoid()
            first_BA1HW = objectness_BA1HW if spec.background else objectness_BA1HW.sigmoid()
            scores_BAEHW = torch.cat((first_BA1HW, class_BAKHW), dim=2)
        y_BAEHW = torch.cat((xy_BA2HW, wh_BA2HW, more_BAEHW, scores_BAEHW), dim=2)
        if spec.cells_first:
            y_BAEHW = y_BAEHW.permute(0, 3, 4, 1, 2)
        return y_BAEHW.reshape(x_BCHW.shape)

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        ((x, shape),) = sources
        return region_to_onnx(graph, self.spec, self.hierarchy, x, shape)
