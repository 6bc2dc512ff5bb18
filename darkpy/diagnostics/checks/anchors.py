"""Checks of a network's anchors against the sizes of the objects and of the input.

Letters: A anchors, N boxes, S scales.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from darkpy.anchors.cfg_heads import anchor_edits, find_heads
from darkpy.anchors.recommend import Recommendation, default_count, recommend
from darkpy.anchors.search import SearchConfig
from darkpy.build import Node, Plan
from darkpy.diagnostics.checks.cfg import heads_of
from darkpy.diagnostics.checks.images import InspectedImage
from darkpy.finding import CfgEdit, Finding, Remedy, Severity
from darkpy.layers.head import AnchorKeys, HeadSpec
from darkpy.ops.boxes import iou

MIN_BOXES, MAX_BOXES = 20, 20_000
"""Boxes that are needed to judge anchors, and those that are used at most, spread over the lists."""
MIN_MEAN_IOU = 0.5
"""Mean IoU of boxes with their best anchors below which the anchors do not suit the data. The anchors of both
forks' cfgs for COCO and VOC have 0.53 and more on blood cells; those of a network's own data 0.75 and more."""
MIN_SCALE_FACTOR, MIN_IOU_GAIN = 1.6, 0.2
"""Distance of the best common factor from 1, and its gain in IoU, that make a finding."""
MIN_NOTED_IOU_GAIN, MIN_NOTED_RECALL_GAIN = 0.1, 0.15
"""Gains in mean IoU or recall (share of boxes with an IoU of .5) from which better anchors are noted."""
ANCHOR_RESTARTS, SAMPLED_BOXES = 3, 5000
PUBLISHED_MASKS = ([3], [0], 6)
"""Anchors that two heads use, that none uses, and their number in three published cfgs and their weights."""
MAX_INPUT_SIDES = 1.25
"""Width and height of an anchor, in sides of the network's input, that no object can have."""


@dataclass(frozen=True, slots=True)
class AnchorFit:
    """Mean IoU of boxes with their best anchors, and the best one, reached with all anchors `factor` times as large."""

    mean_iou: float
    factor: float
    best_iou: float


def boxes_px(samples: Sequence[InspectedImage], net_w: int, net_h: int, *, letterbox: bool) -> Tensor:
    """Width and height of each box in pixels of the network's input, (N, 2).

    letterbox: fit images into the input as pjreddie's darknet does, in place of stretching them.
    """
    sizes = [torch.zeros(0, 2)]
    for image in samples:
        if not (image.w and image.h and len(image.boxes_N5)):
            continue
        scaled_w, scaled_h = float(net_w), float(net_h)
        if letterbox:
            scale = min(net_w / image.w, net_h / image.h)
            scaled_w, scaled_h = image.w * scale, image.h * scale
        sizes.append(image.boxes_N5[:, 2:4] * torch.tensor((scaled_w, scaled_h)))
    return torch.cat(sizes)


def fit(boxes_N2: Tensor, anchors_A2: Tensor) -> AnchorFit:
    """Fit of anchors to boxes, center on center."""
    boxes_N2 = boxes_N2[:: max(1, len(boxes_N2) // MAX_BOXES)]
    factor_S = 2 ** torch.linspace(-4, 4, 65)
    mean_iou_S = torch.stack([_mean_iou(boxes_N2, anchors_A2 * factor) for factor in factor_S])
    best = int(mean_iou_S.argmax())
    return AnchorFit(float(_mean_iou(boxes_N2, anchors_A2)), float(factor_S[best]), float(mean_iou_S[best]))


def _mean_iou(boxes_N2: Tensor, anchors_A2: Tensor) -> Tensor:
    boxes_N4, anchors_A4 = (torch.cat((torch.zeros_like(size), size), 1) for size in (boxes_N2, anchors_A2))
    return iou(boxes_N4[:, None], anchors_A4[None]).amax(dim=1).mean()


def check_anchors(plan: Plan, samples: Sequence[InspectedImage], *, letterbox: bool) -> Iterator[Finding]:
    """Check the anchors of all heads together against the boxes of a list."""
    net = plan.net
    anchors_A2 = _anchors(plan)
    boxes_N2 = boxes_px(samples, net.width, net.height, letterbox=letterbox)
    if not len(anchors_A2) or len(boxes_N2) < MIN_BOXES:
        return
    fitted = fit(boxes_N2, anchors_A2)
    is_other_size = (
        max(fitted.factor, 1 / fitted.factor) >= MIN_SCALE_FACTOR and fitted.best_iou - fitted.mean_iou >= MIN_IOU_GAIN
    )
    if fitted.mean_iou < MIN_MEAN_IOU or is_other_size:
        text = f"boxes overlap with their best anchors by {fitted.mean_iou:.0%} on average"
        if is_other_size:
            times, size = (1 / fitted.factor, "large") if fitted.factor < 1 else (fitted.factor, "small")
            text = f"anchors are {times:.1f} times too {size}: {text}, and by {fitted.best_iou:.0%} at that scale"
        found = _recommendation(plan, boxes_N2)
        yield replace(_finding(plan, "anchors", text), remedies=() if found is None else (_remedy(found),))
    else:
        yield from _check_better_anchors(plan, boxes_N2)


def _recommendation(plan: Plan, boxes_N2: Tensor) -> Recommendation | None:
    """Anchors of the boxes for the heads; None if they have too few sizes."""
    count = default_count(find_heads(plan))
    sampled_N2 = boxes_N2[:: max(1, len(boxes_N2) // MAX_BOXES)].double()
    size_N2 = (sampled_N2 / torch.tensor((plan.net.width, plan.net.height))).numpy()
    size_N2 = size_N2[(size_N2 > 0).all(axis=1)]
    if len(np.unique(size_N2, axis=0)) < count:
        return None
    return recommend(plan, size_N2, SearchConfig(count=count, restarts=ANCHOR_RESTARTS, sample=SAMPLED_BOXES))


def _remedy(found: Recommendation) -> Remedy:
    return Remedy(edits=tuple(anchor_edits(found.anchors_K2, found.head_anchors)), reason="for a full training")


def _check_better_anchors(plan: Plan, boxes_N2: Tensor) -> Iterator[Finding]:
    """Note anchors of the data that fit its boxes much better than the cfg's, and what it takes to use them."""
    found = _recommendation(plan, boxes_N2)
    if found is None:
        return
    iou_gain = found.new.average_iou - found.now.average_iou
    if iou_gain < MIN_NOTED_IOU_GAIN and found.new.recall - found.now.recall < MIN_NOTED_RECALL_GAIN:
        return
    now, new = (f"{fit.average_iou:.0%} on average, {fit.recall:.0%} of them by half" for fit in (found.now, found.new))
    text = (
        f"boxes overlap with their best anchors by {now}; with anchors of these data by {new}. Heads trained with"
        " others must then relearn sizes: better after a full schedule, worse after a short one"
    )
    yield Finding(
        name="anchors-better",
        severity=Severity.NOTE,
        location=plan.locate(found.head_anchors[-1].head.node.index, "anchors"),
        message=text,
        remedies=(_remedy(found),),
    )


def check_anchor_sizes(plan: Plan) -> Iterator[Finding]:
    """Check for anchors that are larger than the network's input, whatever the data."""
    net = plan.net
    anchors_A2 = _anchors(plan)
    beyond_A = (anchors_A2 > MAX_INPUT_SIDES * torch.tensor((net.width, net.height))).all(dim=1)
    if beyond_A.any():
        w, h = anchors_A2[beyond_A].amax(dim=0).tolist()
        text = f"{int(beyond_A.sum())} of {len(anchors_A2)} anchors are larger than the input of {net.width} x"
        yield _finding(plan, "anchors-beyond-input", f"{text} {net.height}, up to {w:.0f} x {h:.0f} pixels")


def check_masks(plan: Plan) -> Iterator[Finding]:
    """Check that the heads divide one list of anchors among themselves, the smallest for the finest map."""
    heads = [HeadNode(node, keys) for node, spec in heads_of(plan) if (keys := spec.anchor_keys) is not None]
    if len(heads) < 2 or any(head.has_own_list for head in heads):
        return
    yield from _check_lists(plan, heads)
    indices = sorted(index for head in heads for index in head.keys.indices)
    used, count = set(indices), max(head.keys.num for head in heads)
    repeated = sorted({index for index in used if indices.count(index) > 1})
    missing = sorted(set(range(count)) - used)
    finest_first = sorted(heads, key=lambda head: -head.node.shape.h * head.node.shape.w)
    areas = [head.mean_area(plan) for head in finest_first]
    is_unsorted = not repeated and not missing and areas != sorted(areas)
    if not (repeated or missing or is_unsorted):
        return
    message = f"the heads' masks divide {count} anchors unevenly"
    if repeated:
        message += f"; {', '.join(map(str, repeated))} used by two heads"
    if missing:
        message += f"; {', '.join(map(str, missing))} used by none"
    if is_unsorted:
        message = "larger anchors are used on a finer map, smaller ones on a coarser: masks of another cfg?"
    remedies: tuple[Remedy, ...] = ()
    is_published = (repeated, missing, count) == PUBLISHED_MASKS
    if len(indices) == count and not is_published:
        first, edits = 0, []
        for head in finest_first:
            last = first + len(head.keys.indices)
            edits.append(CfgEdit("mask", ",".join(map(str, range(first, last))), head.node.index))
            first = last
        remedies = (Remedy(edits=tuple(sorted(edits, key=lambda edit: edit.layer or 0))),)
    yield Finding(
        name="masks",
        severity=Severity.NOTE if is_published else Severity.WARNING,
        location=plan.locate(heads[-1].node.index, "mask"),
        message=f"{message} (as in yolov4-tiny.cfg, whose published weights need it)" if is_published else message,
        remedies=remedies,
        hints=() if remedies or is_published else ("each anchor in one mask=, and filters= before the heads",),
    )


class HeadNode(NamedTuple):
    """Head with anchors."""

    node: Node
    keys: AnchorKeys

    @property
    def anchors(self) -> tuple[float, ...]:
        return tuple(getattr(self.node.spec, "anchors", ()))

    @property
    def has_own_list(self) -> bool:
        """True if the head uses all anchors of its list."""
        return len(set(self.keys.indices)) * 2 >= len(self.anchors)

    def mean_area(self, plan: Plan) -> float:
        spec = self.node.spec
        assert isinstance(spec, HeadSpec)
        sizes_A2 = spec.anchor_sizes(self.node.shape, plan.net.width, plan.net.height)
        return float(sizes_A2.prod(dim=1).mean())


def _check_lists(plan: Plan, heads: Sequence[HeadNode]) -> Iterator[Finding]:
    """Check that all heads have the same anchors= and num=."""
    for key, values in (
        ("anchors", [",".join(f"{value:g}" for value in head.anchors) for head in heads]),
        ("num", [str(head.keys.num) for head in heads]),
    ):
        usual = max(values, key=lambda value: (values.count(value), values.index(value) == 0))
        odd = [head.node.index for head, value in zip(heads, values, strict=True) if value != usual]
        if odd:
            layers = ", ".join(map(str, odd))
            edits = tuple(CfgEdit(key, usual, index) for index in odd) if usual else ()
            yield Finding(
                name=f"{key}-differ" if key == "anchors" else f"{key}-differs",
                location=plan.locate(odd[0], key),
                message=f"{key}= of layers {layers} is not that of the other heads, which share one list of anchors",
                remedies=(Remedy(edits=edits),) if edits else (),
            )


def _anchors(plan: Plan) -> Tensor:
    net = plan.net
    sizes = [spec.anchor_sizes(node.shape, net.width, net.height) for node, spec in heads_of(plan)]
    return torch.cat([torch.zeros(0, 2), *sizes])


def _finding(plan: Plan, name: str, message: str) -> Finding:
    net, node = plan.net, heads_of(plan)[-1][0]
    return Finding(
        name=name,
        location=plan.locate(node.index, "anchors"),
        message=message,
        hints=(
            f"darkpy anchors DATA --cfg CFG --write: the anchors of the data's boxes at {net.width} x {net.height}",
        ),
    )
