"""Whether a network's anchors are as large as the objects that it is to find.

Letters: A anchors, N boxes, S scales.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from darkpy.diagnostics.checks.cfg import Cfg
from darkpy.diagnostics.checks.images import Sample
from darkpy.finding import Finding
from darkpy.ops.boxes import iou

FEWEST, MOST = 20, 20_000
"""Boxes from which anchors are judged, and those that are looked at, spread over the lists."""
POOR = 0.5
"""The mean overlap of boxes with their best anchors below which they are not made for these data. The anchors of both
forks' cfgs for COCO and VOC have 0.53 and more on blood cells; those of a network's own data 0.75 and more."""
OTHER_SIZE, GAIN = 1.6, 0.2
"""How far the best factor for all anchors must be from 1, and what it must gain in overlap, to be worth telling."""
BEYOND = 1.25
"""How many times both sides of the network's input no object can be."""


@dataclass(frozen=True, slots=True)
class Fit:
    """The mean overlap of boxes with their best anchors, and what it is with all of them `factor` times as large."""

    overlap: float
    factor: float
    best: float


def boxes_px(samples: Sequence[Sample], net_w: int, net_h: int, *, keeps_proportions: bool) -> Tensor:
    """Width and height of each box in pixels of the network's input, (N, 2).

    keeps_proportions: whether images are fitted into the input as pjreddie's are, and not stretched to it.
    """
    sizes = [torch.zeros(0, 2)]
    for one in samples:
        if not (one.w and one.h and len(one.boxes_N5)):
            continue
        shown_w, shown_h = float(net_w), float(net_h)
        if keeps_proportions:
            scale = min(net_w / one.w, net_h / one.h)
            shown_w, shown_h = one.w * scale, one.h * scale
        sizes.append(one.boxes_N5[:, 2:4] * torch.tensor((shown_w, shown_h)))
    return torch.cat(sizes)


def fit(boxes_N2: Tensor, anchors_A2: Tensor) -> Fit:
    """How well anchors suit boxes, center on center."""
    boxes_N2 = boxes_N2[:: max(1, len(boxes_N2) // MOST)]
    factor_S = 2 ** torch.linspace(-4, 4, 65)
    overlap_S = torch.stack([_overlap(boxes_N2, anchors_A2 * factor) for factor in factor_S])
    best = int(overlap_S.argmax())
    return Fit(float(_overlap(boxes_N2, anchors_A2)), float(factor_S[best]), float(overlap_S[best]))


def _overlap(boxes_N2: Tensor, anchors_A2: Tensor) -> Tensor:
    boxes_N4, anchors_A4 = (torch.cat((torch.zeros_like(size), size), 1) for size in (boxes_N2, anchors_A2))
    return iou(boxes_N4[:, None], anchors_A4[None]).amax(dim=1).mean()


def check_anchors(cfg: Cfg, samples: Sequence[Sample], *, keeps_proportions: bool) -> Iterator[Finding]:
    """The anchors of all heads together against the boxes of a list."""
    net = cfg.plan.net
    anchors_A2 = _anchors(cfg)
    boxes_N2 = boxes_px(samples, net.width, net.height, keeps_proportions=keeps_proportions)
    if not len(anchors_A2) or len(boxes_N2) < FEWEST:
        return
    found = fit(boxes_N2, anchors_A2)
    is_other_size = max(found.factor, 1 / found.factor) >= OTHER_SIZE and found.best - found.overlap >= GAIN
    if found.overlap < POOR or is_other_size:
        text = f"boxes overlap with their best anchors by {found.overlap:.0%} on average"
        if is_other_size:
            times, size = (1 / found.factor, "large") if found.factor < 1 else (found.factor, "small")
            text = f"anchors are {times:.1f} times too {size}: {text}, and by {found.best:.0%} at that scale"
        yield _finding(cfg, "anchors", text)


def check_anchor_sizes(cfg: Cfg) -> Iterator[Finding]:
    """Anchors larger than the network's input, whatever the data."""
    net = cfg.plan.net
    anchors_A2 = _anchors(cfg)
    beyond_A = (anchors_A2 > BEYOND * torch.tensor((net.width, net.height))).all(dim=1)
    if beyond_A.any():
        w, h = anchors_A2[beyond_A].amax(dim=0).tolist()
        text = f"{int(beyond_A.sum())} of {len(anchors_A2)} anchors are larger than the input of {net.width} x"
        yield _finding(cfg, "anchors-beyond-input", f"{text} {net.height}, up to {w:.0f} x {h:.0f} pixels")


def _anchors(cfg: Cfg) -> Tensor:
    net = cfg.plan.net
    sizes = [spec.anchor_sizes(node.shape, net.width, net.height) for node, spec in cfg.heads]
    return torch.cat([torch.zeros(0, 2), *sizes])


def _finding(cfg: Cfg, name: str, message: str) -> Finding:
    net, node = cfg.plan.net, cfg.heads[-1][0]
    return Finding(
        name=name,
        location=cfg.plan.locate(node.index, "anchors"),
        message=message,
        hints=(f"the anchors of `darkpy anchors` for {net.width} x {net.height} in all heads",),
    )
