"""Base of [yolo] and [Gaussian_yolo]: keys, the anchors that a mask selects, geometry and activation.

Legend: B images, A anchors of a head, E entries of an anchor, C = A * E channels, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import torch

from darkpy.config.schema import MAX_INT, MAX_LIST, key
from darkpy.dialect import Dialect
from darkpy.errors import ChannelsError, ShapeError
from darkpy.finding import Finding
from darkpy.layers.base import Layer, missing_anchors
from darkpy.layers.head import AnchorKeys, HeadSpec, scores_above
from darkpy.ops.boxes import BoxCoder, Detections, cells, channel_mask, channel_runs, pick
from darkpy.ops.device import tensor_async
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape

_AX = Dialect.ALEXEYAB
FLT_MAX = 3.4028234663852886e38
MIN_ANCHOR, MAX_ANCHOR = 1e-3, 65_536
"""Widths and heights that make sense, in pixels or in cells."""


def chosen_anchors(
    anchors: Sequence[float], indices: Sequence[int], device: torch.device | None = None
) -> torch.Tensor:
    """Return (w, h) of the anchors `indices`; values missing at the end of the cfg's list are .5.

    Shapes: float32 (len(indices), 2). Units: those of the cfg (yolo: pixels, region: cells).
    """
    flat = [
        anchors[position] if position < len(anchors) else 0.5
        for index in indices
        for position in (2 * index, 2 * index + 1)
    ]
    return tensor_async(flat, device, torch.float32).view(-1, 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class AnchoredSpec(HeadSpec):
    """One scale of a YOLOv3-like network: `mask` lists the anchors predicted on its map.

    Units: anchors in pixels of the network's input.
    Differs: a mask beyond `num` selects anchors of the list (cspx-p7-mish.cfg); AlexeyAB's program reads memory behind
        its array.
    """

    truth_on_any_device: ClassVar[bool] = True
    box_entries: ClassVar[int]  # entries of a box and its objectness; the classes follow
    xywh: ClassVar[slice]  # the entries of its center and size

    classes: int = key(20, minimum=1, usual=(1, 100000))
    num: int = key(1, minimum=1, usual=(1, 1000))
    mask: tuple[int, ...] = key((), minimum=0)  # falls back to all anchors
    anchors: tuple[float, ...] = key((), usual=(MIN_ANCHOR, MAX_ANCHOR))  # .5 where the list ends early
    map: Path | None = key(None)

    max: int = key(90, alexeyab=200, minimum=1, usual=(1, 100000))
    jitter: float = key(0.2, usual=(0, 1))
    resize: float = key(1.0, dialect=_AX, usual=(0.1, 10))
    random: float = key(0.0, usual=(0, 10))
    ignore_thresh: float = key(0.5, usual=(0, 1))
    truth_thresh: float = key(1.0, usual=(0, 1))

    scale_x_y: float = key(1.0, dialect=_AX, usual=(1, 4))
    objectness_smooth: bool = key(False, dialect=_AX)
    iou_loss: str = key("mse", dialect=_AX, choices=("mse", "iou", "giou", "diou", "ciou"), fallback="iou")
    iou_thresh_kind: str = key("iou", dialect=_AX, choices=("iou", "giou", "diou", "ciou"), fallback="iou")
    iou_thresh: float = key(1.0, dialect=_AX, usual=(0, 1))
    iou_normalizer: float = key(1.0, alexeyab=0.75, dialect=_AX, usual=(0, 100))
    obj_normalizer: float = key(1.0, dialect=_AX, usual=(0, 100))
    cls_normalizer: float = key(1.0, dialect=_AX, usual=(0, 100))
    delta_normalizer: float = key(1.0, dialect=_AX, usual=(0, 100))
    max_delta: float = key(FLT_MAX, dialect=_AX, usual=(1e-3, FLT_MAX))
    label_smooth_eps: float = key(0.0, dialect=_AX, usual=(0, 0.9))
    counters_per_class: tuple[int, ...] = key((), dialect=_AX, usual=(0, MAX_INT))
    beta_nms: float = key(0.6, dialect=_AX, usual=(0, 10))
    nms_kind: str = key("default", dialect=_AX, choices=("default", "greedynms", "diounms"), fallback="default")

    @property
    def entries(self) -> int:
        """Number of entries of one anchor at one cell."""
        return self.box_entries + self.classes

    @property
    def anchor_indices(self) -> tuple[int, ...]:
        return self.mask or tuple(range(self.num))

    @property
    def anchor_keys(self) -> AnchorKeys:
        return AnchorKeys(self.anchor_indices, self.num, self.entries, is_in_cells=False)

    @property
    def class_count(self) -> int:
        return self.classes

    @property
    def input_count(self) -> int:
        return (len(self.mask) or self.num) * self.entries

    def describe_input(self) -> str:
        return f"{len(self.mask) or self.num} anchors x ({self.box_entries} + classes={self.classes})"

    @property
    def class_weights(self) -> tuple[float, ...]:
        """Loss weight of each class, 1 for the most frequent one. Source: src/parser.c get_classes_multipliers."""
        counters = [max(1, counter) for counter in self.counters_per_class]
        weights = tuple(min(max(counters) / counter, self.max_delta) for counter in counters)
        return weights or (1.0,) * self.classes

    @property
    def ignores_confident_only(self) -> bool:
        """True if `ignore_thresh` ignores an objectness only where the prediction has a class above .25."""
        return self.dialect is _AX

    @property
    def zeroes_nonfinite(self) -> bool:
        """True if non-finite deltas are set to 0."""
        return self.dialect is _AX

    @property
    def sums_box_deltas(self) -> bool:
        """True if the deltas of several targets of one prediction add up; otherwise the last one counts."""
        return self.dialect is _AX

    @property
    def nms(self) -> tuple[str, float]:
        return self.nms_kind, self.beta_nms

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        (x,) = inputs
        if x.c != self.input_count:
            message = f"reads {x.c} channels, but {self.describe_input()} are {self.input_count}"
            each, rest = divmod(x.c, len(self.mask) or self.num)
            fitting = "" if rest or each <= self.box_entries else f"; {x.c} are for classes={each - self.box_entries}"
            raise ChannelsError(f"{message}{fitting}", self.input_count)
        listed = len(self.anchors) // 2
        if self.mask and max(self.mask) >= max(self.num, listed):
            raise ShapeError(
                f"mask has anchor {max(self.mask)}, but num={self.num}, and anchors lists {listed}",
                hint="anchors are counted from 0",
            )
        if 2 * self.num > MAX_LIST:
            raise ShapeError(f"num={self.num} anchors, but a list holds {MAX_LIST // 2} at most")
        if len(self.counters_per_class) not in (0, self.classes):
            raise ShapeError(
                f"counters_per_class lists {len(self.counters_per_class)} classes, but classes={self.classes}"
            )
        return x

    def lint(self, inputs: Sequence[Shape]) -> Iterator[Finding]:
        yield from missing_anchors(self.anchors, self.anchor_indices, "pixels")

    def truth_shape(self, output: Shape) -> tuple[int, ...]:
        """Return (boxes, entries): x, y, w, h, class, and in the alexeyab dialect the track id.

        Differs: with a `max` other than 90, pjreddie's program reads the truth of all images but the first at wrong
            offsets.
        """
        return self.max, 6 if self.dialect is _AX else 5

    def row_sizes(self, output: Shape) -> tuple[int, ...]:
        return 5, 6

    def box_coder(self, grid_2: torch.Tensor, net_w: int, net_h: int) -> BoxCoder:
        """Return the coder between the head's entries and boxes."""
        raise NotImplementedError

    def class_scores(self, entry_ME: torch.Tensor) -> torch.Tensor:
        """Class scores of candidates, objectness included. Shapes: (M, K)."""
        raise NotImplementedError

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
        objectness = self.box_entries - 1
        is_below_BHWA = entries_BHWAE[..., objectness] <= thresh  # false for NaN, which is counted later
        candidates = pick(entries_BHWAE, ~is_below_BHWA)
        entry_ME, coder = candidates.entry_ME, self.box_coder(candidates.grid_2, net_w, net_h)
        boxes_M4 = coder.decode(entry_ME[:, self.xywh], candidates.cell_M2, self.anchors_px(candidates.anchor_M))
        prob_MK = scores_above(self.class_scores(entry_ME), thresh)
        return Detections(candidates.image_M, boxes_M4, entry_ME[:, objectness], prob_MK)

    def anchor_sizes(self, output: Shape, net_w: int, net_h: int) -> torch.Tensor:
        return chosen_anchors(self.anchors, self.anchor_indices)

    def anchors_px(self, anchor_M: torch.Tensor) -> torch.Tensor:
        """Return the anchor of each candidate; `anchor_M` indexes the mask."""
        return chosen_anchors(self.anchors, self.anchor_indices, anchor_M.device)[anchor_M]


class AnchoredHead(Layer):
    """Applies the logistic to every entry but the `raw` ones, then scale_x_y to the `center` ones."""

    is_raw_C11: torch.Tensor
    factor_C11: torch.Tensor
    shift_C11: torch.Tensor

    def __init__(self, spec: AnchoredSpec, *, raw: Collection[int], center: Collection[int]) -> None:
        super().__init__()
        self.spec = spec
        self.is_logistic = len(raw) < spec.entries
        self.is_scaled = spec.scale_x_y != 1
        anchors, scale = len(spec.mask) or spec.num, spec.scale_x_y
        self.raw, self.center = (channel_runs(chosen, spec.entries, anchors) for chosen in (raw, center))
        is_center_C11 = channel_mask(center, spec.entries, anchors)
        for name, array in (
            ("is_raw_C11", channel_mask(raw, spec.entries, anchors)),
            ("factor_C11", torch.where(is_center_C11, scale, 1.0)),
            ("shift_C11", torch.where(is_center_C11, (scale - 1) / 2, 0.0)),
        ):
            self.register_buffer(name, array, persistent=False)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        y_BCHW = torch.where(self.is_raw_C11, x_BCHW, torch.sigmoid(x_BCHW)) if self.is_logistic else x_BCHW
        return y_BCHW * self.factor_C11 - self.shift_C11 if self.is_scaled else y_BCHW

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        (y, shape) = sources[0]
        if self.is_logistic:
            y = self._logistic_to_onnx(graph, y, shape.c)
        if not self.is_scaled:
            return y
        return graph.add("Sub", graph.add("Mul", y, self.factor_C11), self.shift_C11)

    def _logistic_to_onnx(self, graph: Graph, x: str, channels: int) -> str:
        """Write the logistic of all channels but the raw runs; a Where with a constant mask is read by few runtimes."""
        edges = sorted({0, channels, *(edge for run in self.raw for edge in (run.start, run.stop))})
        raw_starts = {run.start for run in self.raw}
        parts = graph.split(x, [end - start for start, end in pairwise(edges)], axis=1)
        activated = [
            part if start in raw_starts else graph.add("Sigmoid", part)
            for start, part in zip(edges[:-1], parts, strict=True)
        ]
        return activated[0] if len(activated) == 1 else graph.add("Concat", *activated, axis=1)
