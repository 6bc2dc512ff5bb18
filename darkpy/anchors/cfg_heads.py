"""Anchors for the heads of a cfg: who predicts with which, and the lines that say so.

Letters: K anchors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from darkpy.anchors.kmeans import Floats
from darkpy.build import Node, Plan
from darkpy.config.text import Entry
from darkpy.errors import DarkpyError
from darkpy.layers.head import AnchorKeys, HeadSpec

_VALUE = re.compile(rb"(\s*[^=]*=\s*)(.*?)(\s*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class CfgHead:
    """A layer that predicts with anchors.

    stride: how many pixels of the input a cell of its map is, w and h. sizes: its anchors in pixels of the input.
    source: the layer whose filters= are its channels; None where that layer has no such key.
    """

    node: Node
    keys: AnchorKeys
    classes: int
    stride: tuple[float, float]
    sizes: tuple[tuple[float, float], ...]
    source: Node | None

    @property
    def unit(self) -> tuple[float, float]:
        """Pixels of the input in one unit of its anchors."""
        return self.stride if self.keys.is_in_cells else (1.0, 1.0)


@dataclass(frozen=True, slots=True)
class HeadAnchors:
    """What a head is to have: the numbers of its anchors in the list of all, and its channels."""

    head: CfgHead
    mask: tuple[int, ...]

    @property
    def filters(self) -> int:
        return len(self.mask) * self.head.keys.entries


def find_heads(plan: Plan) -> tuple[CfgHead, ...]:
    """The heads of a network, in the order of the cfg.

    Raises: DarkpyError when none has anchors.
    """
    heads = tuple(_heads(plan))
    if not heads:
        raise DarkpyError(f"{plan.file}: has no layer with anchors=", hint="[yolo] and [region] have")
    return heads


def _heads(plan: Plan) -> Iterator[CfgHead]:
    for node in plan.nodes:
        if not isinstance(node.spec, HeadSpec) or (keys := node.spec.anchor_keys) is None:
            continue
        stride = (plan.net.width / node.shape.w, plan.net.height / node.shape.h)
        before = plan.nodes[node.sources[0]] if node.sources[0] >= 0 else None
        source = before if before is not None and "filters" in before.section.entries else None
        sizes = node.spec.anchor_sizes(node.shape, plan.net.width, plan.net.height).tolist()
        yield CfgHead(node, keys, node.spec.class_count, stride, tuple(map(tuple, sizes)), source)


def current_anchors(heads: Sequence[CfgHead]) -> Floats:
    """What the heads predict with now, each anchor once. Units: pixels of the input. Shapes: (K, 2)."""
    return np.array(sorted({size for head in heads for size in head.sizes}))


def assign_anchors(count: int, heads: Sequence[CfgHead]) -> tuple[HeadAnchors, ...]:
    """Give anchors, the smallest first, to the heads: the finest map gets the smallest.

    As many as each has now; where that is another number in all, the same number to each, and of those left over one
    more to the finest.

    Raises: DarkpyError when there are fewer anchors than heads.
    """
    if count < len(heads):
        raise DarkpyError(f"{count} anchors for {len(heads)} heads", hint=f"ask for {len(heads)} or more")
    finest_first = sorted(range(len(heads)), key=lambda number: heads[number].stride)
    counts = [len(heads[number].keys.indices) for number in finest_first]
    if sum(counts) != count:
        each, left = divmod(count, len(heads))
        counts = [each + (place < left) for place in range(len(heads))]
    masks: dict[int, tuple[int, ...]] = {}
    first = 0
    for number, held in zip(finest_first, counts, strict=True):
        masks[number] = tuple(range(first, first + held))
        first += held
    return tuple(HeadAnchors(head, masks[number]) for number, head in enumerate(heads))


def round_anchors(anchors_K2: Floats, heads: Sequence[CfgHead]) -> Floats:
    """Anchors as the cfg will say them: whole pixels, or four decimals of cells. Units: pixels."""
    unit_2 = np.array(heads[0].unit)
    least = 1e-4 if heads[0].keys.is_in_cells else 1.0
    said_K2: Floats = np.maximum(np.round(anchors_K2 / unit_2, 4 if heads[0].keys.is_in_cells else 0), least) * unit_2
    return said_K2


def rewrite(text: bytes, anchors_K2: Floats, head_anchors: Sequence[HeadAnchors]) -> bytes:
    """A cfg with other anchors=, mask=, num= and filters=; every other byte stays.

    text: what the plan of the heads was made of.
    """
    lines = text.split(b"\n")
    inserted: dict[int, list[bytes]] = {}
    for one in head_anchors:
        entries = one.head.node.section.entries
        values = values_of(anchors_K2, one)
        place = entries["anchors"].line if "anchors" in entries else one.head.node.section.line
        for key, value in values.items():
            if key in entries:
                _edit(lines, entries[key], value)
            else:
                end = b"\r" if lines[place - 1].endswith(b"\r") else b""
                inserted.setdefault(place, []).append(f"{key}={value}".encode() + end)
        if one.head.source is not None:
            _edit(lines, one.head.source.section.entries["filters"], str(one.filters))
    for place in sorted(inserted, reverse=True):
        lines[place:place] = inserted[place]
    return b"\n".join(lines)


def values_of(anchors_K2: Floats, one: HeadAnchors) -> Mapping[str, str]:
    """The keys of a head and what they are to say."""
    pairs = (anchors_K2 / np.array(one.head.unit)).tolist()
    values = {"anchors": ", ".join(f"{w:.6g},{h:.6g}" for w, h in pairs), "num": str(len(anchors_K2))}
    has_mask = "mask" in one.head.node.section.entries
    if has_mask or one.mask != tuple(range(len(anchors_K2))):
        values["mask"] = ",".join(map(str, one.mask))
    return values


def _edit(lines: list[bytes], entry: Entry, value: str) -> None:
    """Put another value on a line; blanks around the old one stay, and so does a line that says the same."""
    found = _VALUE.fullmatch(lines[entry.line - 1])
    if found is not None and entry.value != value.replace(" ", ""):
        lines[entry.line - 1] = found[1] + value.encode() + found[3]
