"""Recorded minibatches of an update, bad labels in them, and the IoU of boxes with anchors.

Legend: B images, T rows of a truth, E numbers of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from darkpy.build import Plan
from darkpy.diagnostics.monitor.symptoms import Symptom
from darkpy.finding import Cause
from darkpy.layers.head import HeadSpec

_ROW_LENGTHS = (5, 6)  # x, y, w, h, class, and the object's track


@dataclass(frozen=True, slots=True)
class RecordedBatch:
    """A minibatch. seen: the images before it. paths: what each image was made of; empty if unknown."""

    x_BCHW: Tensor
    truth: Tensor
    paths: tuple[tuple[str, ...], ...]
    seen: int

    def name(self, image: int) -> str:
        """Name of an image in messages."""
        paths = self.paths[image] if image < len(self.paths) else ()
        return " + ".join(paths) or f"image {image} of its minibatch"

    def nonfinite(self) -> dict[int, str]:
        """Images with NaN or infinite pixels or labels, with a description."""
        found: dict[int, str] = {}
        for what, array in (("pixel values", self.x_BCHW), ("label values", self.truth)):
            count_B = (~array.isfinite()).flatten(1).sum(1)
            for image in count_B.nonzero().flatten().tolist():
                found.setdefault(image, f"{what} that are NaN or infinite: {int(count_B[image])}")
        return found


def has_boxes(plan: Plan, truth: Tensor) -> bool:
    """True if a truth has a row for each box."""
    heads = [(node.spec, node.shape) for node in plan.nodes if isinstance(node.spec, HeadSpec)]
    has_rows = any(spec.truth_shape(shape)[0] == getattr(spec, "max", None) for spec, shape in heads)
    return has_rows and truth.dim() == 3 and truth.shape[2] in _ROW_LENGTHS


@dataclass(frozen=True, kw_only=True, slots=True)
class BadLabel(Symptom):
    """A label that no head can learn: a box outside its image or without area, a class that does not exist.

    margin: by which a center may lie outside, in widths of the image: rounding.
    largest: width and height, in those of the image; a box may go beyond its edges, not far.
    """

    cause: ClassVar[Cause] = Cause.DATA
    hints: ClassVar[tuple[str, ...]] = (
        "data: the label files of the images named here (darkpy doctor CFG DATA finds all of them)",
        "operations: classes= of the heads, names= of the .data file",
    )

    margin: float = 1e-3
    largest: float = 2.0

    def found(self, plan: Plan, kept: RecordedBatch) -> list[tuple[int, str]]:
        """The image and a text for each bad row. Rows with x == 0 are skipped."""
        if not has_boxes(plan, kept.truth):
            return []
        truth_BTE: Any = kept.truth.numpy()
        if self._are_extremes_good(truth_BTE.reshape(-1, truth_BTE.shape[2]), plan):
            return []
        row_N5 = truth_BTE[..., :5][truth_BTE[..., 0] != 0]
        place_N2, size_N2, class_N = row_N5[:, :2], row_N5[:, 2:4], row_N5[:, 4]
        with np.errstate(invalid="ignore"):
            is_good_3N = (
                (abs(place_N2 - 0.5) <= 0.5 + self.margin).all(1),
                (abs(size_N2 - self.largest / 2) < self.largest / 2).all(1),
                (class_N >= 0) & (class_N < _classes(plan)),
            )
        places = np.argwhere(truth_BTE[..., 0] != 0).tolist()
        return [
            (
                image,
                f"{kept.name(image)}: box {row} (x {x:.4g}, y {y:.4g}, w {w:.4g}, h {h:.4g}, class {kind:.4g}) {what}",
            )
            for what, is_good_N in zip(
                ("lies outside the image", "has an impossible size", "is of no class"), is_good_3N, strict=True
            )
            for (image, row), (x, y, w, h, kind), is_good in zip(places, row_N5, is_good_N, strict=True)
            if not is_good
        ]

    def _are_extremes_good(self, rows_NE: Any, plan: Plan) -> bool:
        """True if the extremes show that all rows are good: a fast check of every minibatch; false for NaN."""
        columns_EN = np.ascontiguousarray(rows_NE.T)
        low, high = columns_EN.min(1).tolist(), columns_EN.max(1).tolist()
        x, w, h = (np.count_nonzero(columns_EN[entry]) for entry in (0, 2, 3))
        is_within = high[0] <= 1 and high[1] <= 1 and high[2] <= 1 and high[3] <= 1 and high[4] < _classes(plan)
        return bool(is_within and min(low[:5]) >= 0 and min(w, h) >= x)


def _classes(plan: Plan) -> float:
    """Number of classes of the heads; unlimited if `map=` translates them."""
    heads = [node.spec for node in plan.nodes if isinstance(node.spec, HeadSpec)]
    return np.inf if any(getattr(head, "map", None) for head in heads) else max(head.class_count for head in heads)


class AnchorOverlaps:
    """Mean IoU of boxes with their best anchors, center on center.

    MIN_BOXES: boxes that are needed for a mean. MAX_BOXES: boxes whose sizes are kept.
    sizes_frac: w, h of boxes as fractions of the image, (N, 2) each.
    """

    MIN_BOXES, MAX_BOXES = 32, 5000

    def __init__(self) -> None:
        self.sizes_frac: list[Tensor] = []
        self.total = 0.0
        self.boxes = 0

    def add(self, plan: Plan, truth: Tensor) -> None:
        net = plan.net
        heads: Sequence[Any] = [node for node in plan.nodes if isinstance(node.spec, HeadSpec)]
        sizes = [node.spec.anchor_sizes(node.shape, net.width, net.height) for node in heads]
        anchors_frac_A2 = torch.cat([torch.zeros(0, 2), *sizes]) / torch.tensor((net.width or 1, net.height or 1))
        if not len(anchors_frac_A2) or not has_boxes(plan, truth):
            return
        truth_BTE = truth.detach().float().cpu()
        size_N12 = truth_BTE[truth_BTE[..., 0] != 0][:, None, 2:4]
        size_N12 = size_N12[(size_N12 > 0).all(2)[:, 0]]
        shared_NA = torch.minimum(size_N12, anchors_frac_A2).prod(2)
        overlap_NA = shared_NA / (size_N12.prod(2) + anchors_frac_A2.prod(1) - shared_NA)
        self.total += float(overlap_NA.amax(1).sum()) if len(size_N12) else 0.0
        if self.boxes < self.MAX_BOXES:
            self.sizes_frac.append(size_N12[:, 0])
        self.boxes += len(size_N12)

    @property
    def mean(self) -> float | None:
        return self.total / self.boxes if self.boxes >= self.MIN_BOXES else None
