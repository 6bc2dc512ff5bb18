"""Lint findings that several section types share: settings that are allowed and bad for training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from darkpy.finding import Finding


def skipped_cells(size: int, strides: Sequence[int]) -> Iterator[Finding]:
    """Find windows of `size` x `size` cells that leave gaps between each other.

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
    hints = (f"stride={size}", f"size={longest}")
    yield Finding(name="stride-beyond-size", message=message, key="stride", hints=hints)


def missing_anchors(anchors: Sequence[float], indices: Sequence[int], unit: str) -> Iterator[Finding]:
    """Find anchors of a head that its list lacks. unit: in which the cfg gives them."""
    listed, wanted = len(anchors) // 2, max(indices) + 1
    if wanted > listed:
        message = f"uses anchors up to number {wanted - 1}, and anchors= lists {listed}: the others are .5 x .5 {unit}"
        hints = (f"anchors= with {wanted} pairs", f"num={listed}")
        yield Finding(name="missing-anchors", message=message, key="anchors", hints=hints)
