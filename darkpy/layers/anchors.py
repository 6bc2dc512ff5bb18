"""Anchors as the heads read them."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def chosen_anchors(anchors: Sequence[float], indices: Sequence[int]) -> torch.Tensor:
    """The (w, h) of the anchors `indices`; what a cfg's list leaves out is .5, what it has too many is not read.

    Shapes: float32 (len(indices), 2). Units: those of the cfg (yolo: pixels, region: cells).
    """
    flat = [
        anchors[position] if position < len(anchors) else 0.5
        for index in indices
        for position in (2 * index, 2 * index + 1)
    ]
    return torch.tensor(flat, dtype=torch.float32).view(-1, 2)
