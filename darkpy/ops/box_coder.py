"""How anchored heads say where a box is: its place inside a cell of the grid, and its sizes in anchors.

Boxes, cells and anchors stand along the last dimension; those before it broadcast.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class BoxCoder:
    """The numbers x, y, w, h of an entry, and the boxes they stand for.

    to_center: how many of its own sizes the box's center lies away from the point that the cell holds.
    squared_size: sizes are 4 * w * w anchors, else exp(w) (`new_coords`).
    Shapes:  grid_2 (columns, rows), net_2 (width, height); cells are (column, row), anchors (w, h).
    Units:   net and anchors in pixels of the network's input, boxes in fractions of it.
    Source:  AlexeyAB/darknet src/yolo_layer.c get_yolo_box, delta_yolo_box; src/gaussian_yolo_layer.c alike
    """

    grid_2: Tensor
    net_2: Tensor
    to_center: float = 0.0
    squared_size: bool = False

    def decode(self, xywh: Tensor, cell: Tensor, anchor_px: Tensor) -> Tensor:
        """What numbers at a cell mean."""
        xy, wh = xywh[..., :2], xywh[..., 2:]
        size = (4 * wh.square() if self.squared_size else wh.exp()) * anchor_px / self.net_2
        return torch.cat(((cell + xy) / self.grid_2 + self.to_center * size, size), dim=-1)

    def encode(self, box_frac: Tensor, cell: Tensor, anchor_px: Tensor) -> Tensor:
        """What would have to stand at a cell to mean the boxes."""
        share = box_frac[..., 2:] * self.net_2 / anchor_px
        return torch.cat(
            (self._point(box_frac) - cell, (share / 4).sqrt() if self.squared_size else share.log()), dim=-1
        )

    def cells(self, box_frac: Tensor) -> Tensor:
        """The cells that hold the boxes' points, int64; what lies outside is in the cell next to it."""
        return torch.minimum(self._point(box_frac).long().clamp(min=0), self.grid_2.long() - 1)

    def _point(self, box_frac: Tensor) -> Tensor:
        """Units: cells of the grid."""
        return (box_frac[..., :2] - self.to_center * box_frac[..., 2:]) * self.grid_2
