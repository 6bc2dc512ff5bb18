"""What sections say that is allowed and hurts training, and that several rooms may say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Doubt:
    """Something that a section may say, and hardly means.

    kind: its name for programs. key: whose line it is about. tries: what may be meant, the likeliest first.
    """

    kind: str
    message: str
    key: str | None = None
    tries: tuple[str, ...] = ()


def skipped_cells(size: int, strides: Sequence[int]) -> Iterator[Doubt]:
    """That windows of `size` x `size` cells do not touch each other.

    strides: down and across.
    """
    longest = max(strides)
    if longest <= size:
        return
    read = min(size / strides[0], 1) * min(size / strides[1], 1)
    message = (
        f"stride={longest} is larger than size={size}: {1 - read:.0%} of the cells are in no window, and the layers"
        " before learn nothing from them"
    )
    yield Doubt("stride-beyond-size", message, "stride", (f"stride={size}", f"size={longest}"))


def missing_anchors(anchors: Sequence[float], indices: Sequence[int], unit: str) -> Iterator[Doubt]:
    """That some anchors of a head are not in its list. unit: what the cfg counts them in."""
    listed, wanted = len(anchors) // 2, max(indices) + 1
    if wanted > listed:
        message = f"uses anchors up to number {wanted - 1}, and anchors= lists {listed}: the others are .5 x .5 {unit}"
        yield Doubt("missing-anchors", message, "anchors", (f"anchors= with {wanted} pairs", f"num={listed}"))
