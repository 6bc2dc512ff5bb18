"""Box coder of anchored heads: centers relative to a grid cell, sizes relative to an anchor.

Boxes, cells and anchors are along the last dimension; the dimensions before it broadcast.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class BoxCoder:
    """Conversion between the predicted values x, y, w, h and boxes.

    to_center: offset from the point that is inside the cell to the box's center, in sizes of the box.
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
        """Compute the boxes that predicted values at a cell stand for."""
        xy, wh = xywh[..., :2], xywh[..., 2:]
        size = (4 * wh.square() if self.squared_size else wh.exp()) * anchor_px / self.net_2
        return torch.cat(((cell + xy) / self.grid_2 + self.to_center * size, size), dim=-1)

    def encode(self, box_frac: Tensor, cell: Tensor, anchor_px: Tensor) -> Tensor:
        """Compute the values that a cell would have to predict for the boxes."""
        size = box_frac[..., 2:] * self.net_2 / anchor_px  # in anchors
        wh = (size / 4).sqrt() if self.squared_size else size.log()
        return torch.cat((self._point(box_frac) - cell, wh), dim=-1)

    def cells(self, box_frac: Tensor) -> Tensor:
        """Compute the cells that contain the boxes' points, int64; points outside the grid get the nearest cell."""
        return torch.minimum(self._point(box_frac).long().clamp(min=0), self.grid_2.long() - 1)

    def _point(self, box_frac: Tensor) -> Tensor:
        """Compute the point of the box that must be inside the cell, the center if `to_center` is 0. Units: cells."""
        return (box_frac[..., :2] - self.to_center * box_frac[..., 2:]) * self.grid_2
