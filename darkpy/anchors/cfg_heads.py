"""Anchors of the heads of a cfg: their assignment to heads, and the edit of the cfg's lines.

Letters: K anchors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from darkpy.anchors.kmeans import Floats
from darkpy.build import Node, Plan
from darkpy.config.edit import edit_cfg
from darkpy.errors import DarkpyError
from darkpy.finding import CfgEdit
from darkpy.layers.head import AnchorKeys, HeadSpec


@dataclass(frozen=True, slots=True)
class CfgHead:
    """Layer that predicts with anchors.

    stride: pixels of the input per cell of its map, w and h. sizes: its anchors in pixels of the input.
    source: the layer before it, whose filters= sets its channels; None if that layer has no such key.
    """

    node: Node
    keys: AnchorKeys
    classes: int
    stride: tuple[float, float]
    sizes: tuple[tuple[float, float], ...]
    source: Node | None

    @property
    def unit(self) -> tuple[float, float]:
        """Pixels of the input per unit of its anchors."""
        return self.stride if self.keys.is_in_cells else (1.0, 1.0)


@dataclass(frozen=True, slots=True)
class HeadAnchors:
    """Anchors assigned to a head: `mask` are their indices in the list of all anchors."""

    head: CfgHead
    mask: tuple[int, ...]

    @property
    def filters(self) -> int:
        return len(self.mask) * self.head.keys.entries


def find_heads(plan: Plan) -> tuple[CfgHead, ...]:
    """Find the heads with anchors, in the order of the cfg.

    Raises: DarkpyError when none has anchors.
    """
    heads: list[CfgHead] = []
    for node in plan.nodes:
        if not isinstance(node.spec, HeadSpec) or (keys := node.spec.anchor_keys) is None:
            continue
        stride = (plan.net.width / node.shape.w, plan.net.height / node.shape.h)
        before = plan.nodes[node.sources[0]] if node.sources[0] >= 0 else None
        source = before if before is not None and "filters" in before.section.entries else None
        sizes = node.spec.anchor_sizes(node.shape, plan.net.width, plan.net.height).tolist()
        heads.append(CfgHead(node, keys, node.spec.class_count, stride, tuple(map(tuple, sizes)), source))
    if not heads:
        raise DarkpyError(f"{plan.file}: has no layer with anchors=", hint="[yolo] and [region] have anchors")
    return tuple(heads)


def current_anchors(heads: Sequence[CfgHead]) -> Floats:
    """Return the anchors that the heads use now, each once. Units: pixels of the input. Shapes: (K, 2)."""
    return np.array(sorted({size for head in heads for size in head.sizes}))


def assign_anchors(count: int, heads: Sequence[CfgHead]) -> tuple[HeadAnchors, ...]:
    """Assign anchors, sorted by size, to heads: the finest map gets the smallest.

    Each head keeps its number of anchors if they add up to `count`; else all get the same number, and the finest maps
    one more each of the remainder.

    Raises: DarkpyError when there are fewer anchors than heads.
    """
    if count < len(heads):
        raise DarkpyError(f"{count} anchors for {len(heads)} heads", hint=f"ask for {len(heads)} or more")
    finest_first = sorted(range(len(heads)), key=lambda index: heads[index].stride)
    counts = [len(heads[index].keys.indices) for index in finest_first]
    if sum(counts) != count:
        each, remainder = divmod(count, len(heads))
        counts = [each + (rank < remainder) for rank in range(len(heads))]
    masks: dict[int, tuple[int, ...]] = {}
    first = 0
    for index, head_count in zip(finest_first, counts, strict=True):
        masks[index] = tuple(range(first, first + head_count))
        first += head_count
    return tuple(HeadAnchors(head, masks[index]) for index, head in enumerate(heads))


def round_anchors(anchors_K2: Floats, heads: Sequence[CfgHead]) -> Floats:
    """Round anchors as they are written in the cfg: integer pixels, or four decimals of cells. Units: pixels."""
    unit_2 = np.array(heads[0].unit)
    decimals, smallest = (4, 1e-4) if heads[0].keys.is_in_cells else (0, 1.0)
    rounded_K2: Floats = np.maximum(np.round(anchors_K2 / unit_2, decimals), smallest) * unit_2
    return rounded_K2


def rewrite(text: bytes, anchors_K2: Floats, head_anchors: Sequence[HeadAnchors]) -> bytes:
    """Return a cfg with new anchors=, mask=, num= and filters=; every other byte is unchanged.

    text: the cfg that the plan of the heads was made from.
    """
    edits = anchor_edits(anchors_K2, head_anchors)
    return edit_cfg(text.decode("utf-8", "surrogateescape"), edits).encode("utf-8", "surrogateescape")


def anchor_edits(anchors_K2: Floats, head_anchors: Sequence[HeadAnchors]) -> list[CfgEdit]:
    """Return the edits that give the heads new anchors=, mask=, num=, and filters= before them."""
    edits: list[CfgEdit] = []
    for assignment in head_anchors:
        layer, source = assignment.head.node.index, assignment.head.source
        edits += (CfgEdit(key, value, layer) for key, value in values_of(anchors_K2, assignment).items())
        if source is not None:
            edits.append(CfgEdit("filters", str(assignment.filters), source.index))
    return edits


def values_of(anchors_K2: Floats, assignment: HeadAnchors) -> Mapping[str, str]:
    """Return the keys of a head with their new values."""
    pairs = (anchors_K2 / np.array(assignment.head.unit)).tolist()
    values = {"anchors": ", ".join(f"{w:.6g},{h:.6g}" for w, h in pairs), "num": str(len(anchors_K2))}
    has_mask = "mask" in assignment.head.node.section.entries
    if has_mask or assignment.mask != tuple(range(len(anchors_K2))):
        values["mask"] = ",".join(map(str, assignment.mask))
    return values
