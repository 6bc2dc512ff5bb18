"""Tiles: overlapping parts of a large image, detected one by one, and their detections joined.

A large image is shrunk to the network's input, where small objects vanish. Tiles of about the input's size keep their
full resolution. The whole image is one more tile, for objects larger than the others.

Two tiles have the same pixels where they overlap. So their boxes of one object, clipped to the shared area, are the
same there, whether an edge cuts the object or not; and those of two objects differ. Boxes that agree are joined, and
the joined box has each edge from the best of its boxes that is not cut there. Pieces of objects that are more complete
on another tile are dropped.

Legend: T tiles, N detections, P pairs of detections, L joined detections, K classes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from darkpy.errors import DarkpyError
from darkpy.ops import boxes
from darkpy.ops.boxes import Detections

TILE_OVERLAP_SHARE = 0.2
"""Overlap of neighboring tiles, as a share of their side."""
MAX_TILES_PER_SIDE = 64
MIN_AGREEMENT_IOU = 0.5
"""IoU in the area that two tiles share, above which their boxes are one object."""
MIN_PIECE_SHARE = 0.6
"""Share of a box inside another tile's box, above which it may be a piece of that object."""
CUT_MARGIN_SHARE = 0.02
"""Distance of a box from the edge of its tile, as a share of the tile's side, below which the edge cuts it."""
MAX_PAIRS = 1 << 20
"""Pairs of boxes compared at a time; it bounds the memory."""
INWARD_4 = torch.tensor((1, 1, -1, -1))
"""Direction of the inside from each edge: left, top, right, bottom."""


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Number of tiles side by side; None makes each about as large as the network's input."""

    columns: int | None = None
    rows: int | None = None

    @classmethod
    def parse(cls, tiles: str | tuple[int, int]) -> TileGrid:
        """Raises: DarkpyError for anything but "auto", "4x3" and (4, 3)."""
        if tiles == "auto":
            return cls()
        match = re.fullmatch(r"(\d{1,4})[xX](\d{1,4})", tiles) if isinstance(tiles, str) else None
        columns, rows = match.groups() if match else tiles if isinstance(tiles, tuple) and len(tiles) == 2 else (0, 0)
        grid = cls(int(columns), int(rows))
        if not all(1 <= count <= MAX_TILES_PER_SIDE for count in (int(columns), int(rows))):
            hint = f'"auto", or columns x rows from 1 to {MAX_TILES_PER_SIDE}, such as 4x3'
            raise DarkpyError(f"tiles {tiles!r} are not a grid", hint=hint)
        return grid

    def cut(self, w: int, h: int, net_w: int, net_h: int) -> Tensor:
        """Cut an image of w x h pixels for an input of net_w x net_h.

        Returns: edges_T4 (left, top, right, bottom) in whole pixels, row by row, and the whole image as the last;
            only that where one tile is enough.
        """
        columns_2T = _intervals(w, self.columns, net_w)
        rows_2T = _intervals(h, self.rows, net_h)
        row, column = torch.meshgrid(torch.arange(rows_2T.shape[1]), torch.arange(columns_2T.shape[1]), indexing="ij")
        left_T, right_T = columns_2T[:, column.flatten()]
        top_T, bottom_T = rows_2T[:, row.flatten()]
        edges_T4 = torch.stack((left_T, top_T, right_T, bottom_T), dim=1)
        whole_14 = edges_T4.new_tensor([(0, 0, w, h)])
        return whole_14 if len(edges_T4) == 1 else torch.cat((edges_T4, whole_14))


def _intervals(side: int, count: int | None, net_side: int) -> Tensor:
    """Return first and last edges of equal, overlapping intervals that cover a side, (2, count)."""
    if count is None:
        count = max(1, round((side / net_side - TILE_OVERLAP_SHARE) / (1 - TILE_OVERLAP_SHARE)))
    count = min(count, MAX_TILES_PER_SIDE, side)
    length = min(side, math.ceil(side / (count - (count - 1) * TILE_OVERLAP_SHARE)))
    first = torch.linspace(0, side - length, count, dtype=torch.float64).round().long()
    return torch.stack((first, first + length))


def join_tiles(detections: Detections, tiles_T4: Tensor) -> Detections:
    """Join the detections on the tiles of one image.

    detections: suppressed in each tile; image_M is the tile, boxes are fractions of it.
    tiles_T4: as of `TileGrid.cut`, the whole image last.
    Returns: detections with image_M 0 and boxes as fractions of the image, without those of score 0. A box goes by its
        best class; a joined one has the highest score of each class.
    """
    detections = detections.select((detections.prob_MK > 0).any(dim=1))
    placed = _PlacedBoxes.of(detections, tiles_T4)
    is_whole_N = ~placed.pieces()
    detections, placed = detections.select(is_whole_N), placed.select(is_whole_N)
    if len(detections) == 0:
        return detections
    _, label_N = torch.unique(connected_components(placed.agreeing_pairs(), len(detections)), return_inverse=True)
    count = int(label_N.max()) + 1

    def reduce(values_NX: Tensor, how: str) -> Tensor:
        index_NX = label_N[:, None].expand_as(values_NX)
        empty_LX = values_NX.new_zeros(count, values_NX.shape[1])
        return empty_LX.scatter_reduce(0, index_NX, values_NX, how, include_self=False)

    # where all boxes are cut, their keys are equal, and the outermost edge is taken
    inward_4 = INWARD_4.to(placed.corners_N4)
    key_N4 = torch.where(placed.is_cut_N4, -1, placed.score_N[:, None])
    is_chosen_N4 = key_N4 == reduce(key_N4, "amax")[label_N]
    signed_N4 = placed.corners_N4 * inward_4
    chosen_L4 = reduce(torch.where(is_chosen_N4, signed_N4, torch.inf), "amin") * inward_4
    enclosing_L4 = reduce(signed_N4, "amin") * inward_4
    is_box_L1 = (chosen_L4[:, 2:] > chosen_L4[:, :2]).all(dim=1, keepdim=True)
    size_4 = tiles_T4[-1, 2:].repeat(2)
    return Detections(
        image_M=label_N.new_zeros(count),
        boxes_M4=boxes.to_center(torch.where(is_box_L1, chosen_L4, enclosing_L4) / size_4),
        objectness_M=reduce(detections.objectness_M[:, None], "amax")[:, 0],
        prob_MK=reduce(detections.prob_MK, "amax"),
    )


class _PlacedBoxes(NamedTuple):
    """Detections with their place in the image: corners, the tile's number and edges in pixels.

    is_cut_N4: an inner edge of the tile cuts the object there. on_part_N: not detected on the whole image.
    """

    corners_N4: Tensor
    score_N: Tensor
    class_N: Tensor
    tile_N: Tensor
    tile_N4: Tensor
    is_cut_N4: Tensor
    on_part_N: Tensor

    @classmethod
    def of(cls, detections: Detections, tiles_T4: Tensor) -> _PlacedBoxes:
        tile_N = detections.image_M
        tile_N4 = tiles_T4.to(detections.boxes_M4)[tile_N]
        size_N4 = (tile_N4[:, 2:] - tile_N4[:, :2]).repeat(1, 2)
        corners_N4 = boxes.to_corners(detections.boxes_M4) * size_N4 + tile_N4[:, :2].repeat(1, 2)
        is_near_N4 = (corners_N4 - tile_N4) * INWARD_4.to(corners_N4) <= CUT_MARGIN_SHARE * size_N4
        is_cut_N4 = is_near_N4 & (tile_N4 != tiles_T4[-1])  # no tile extends beyond an edge of the image
        score_N, class_N = detections.prob_MK.max(dim=1)
        return cls(corners_N4, score_N, class_N, tile_N, tile_N4, is_cut_N4, tile_N < len(tiles_T4) - 1)

    def select(self, index: Tensor) -> _PlacedBoxes:
        return _PlacedBoxes(*(values[index] for values in self))

    def comparisons(self) -> Iterator[tuple[Tensor, _PlacedBoxes, Tensor]]:
        """Yield indices of boxes, these boxes as columns to compare with all, and the pairs of a class on two tiles."""
        for index_R in torch.split(torch.arange(len(self.tile_N)), max(1, MAX_PAIRS // max(1, len(self.tile_N)))):
            first = self.select(index_R[:, None])
            yield index_R, first, (first.tile_N != self.tile_N) & (first.class_N == self.class_N)

    def pieces(self) -> Tensor:
        """Mask of boxes that are a piece of an object of which another tile has more.

        They lie inside a larger box, and are cut, or that box goes beyond their tile.
        """
        is_piece_N = torch.zeros_like(self.on_part_N)
        area_N = _area(self.corners_N4)
        for index_R, first, is_pair_RN in self.comparisons():
            area_R1 = area_N[index_R, None]
            is_inside_RN = _area(_clip(first.corners_N4, self.corners_N4)) > MIN_PIECE_SHARE * area_R1
            is_beyond_RN = ((self.corners_N4 - first.tile_N4) * INWARD_4.to(area_N) < 0).any(dim=-1) & self.on_part_N
            is_partial_RN = is_beyond_RN | first.is_cut_N4.any(dim=-1)
            is_piece_N[index_R] = (is_pair_RN & is_inside_RN & is_partial_RN & (area_R1 < area_N)).any(dim=1)
        return is_piece_N

    def agreeing_pairs(self) -> Tensor:
        """Pairs of detections of one object: each is the one in its tile that agrees best with the other."""
        pairs, agreements = [], []
        for index_R, first, is_pair_RN in self.comparisons():
            shared_RN4 = _clip(first.tile_N4, self.tile_N4)
            iou_RN = boxes.iou(
                boxes.to_center(_clip(first.corners_N4, shared_RN4)),
                boxes.to_center(_clip(self.corners_N4, shared_RN4)),
            )
            row, second = torch.nonzero(is_pair_RN & (iou_RN > MIN_AGREEMENT_IOU), as_tuple=True)
            pairs.append(torch.stack((index_R[row], second)))
            agreements.append(iou_RN[row, second])
        pairs_2P, agreement_P = torch.cat(pairs, dim=1), torch.cat(agreements)
        is_best_P = torch.ones_like(agreement_P, dtype=torch.bool)
        for own_P, other_P in (pairs_2P, pairs_2P.flip(0)):
            _, group_P = torch.unique(own_P * (self.tile_N.max() + 1) + self.tile_N[other_P], return_inverse=True)
            best_P = torch.zeros_like(agreement_P).scatter_reduce(0, group_P, agreement_P, "amax")
            is_best_P &= agreement_P == best_P[group_P]
        return pairs_2P[:, is_best_P]


def _clip(corners: Tensor, bounds: Tensor) -> Tensor:
    """Clip boxes; those outside have no area."""
    near = torch.maximum(corners[..., :2], bounds[..., :2])
    return torch.cat((near, torch.maximum(torch.minimum(corners[..., 2:], bounds[..., 2:]), near)), dim=-1)


def _area(corners: Tensor) -> Tensor:
    return (corners[..., 2:] - corners[..., :2]).prod(dim=-1)


def connected_components(pairs_2P: Tensor, count: int) -> Tensor:
    """Label each detection with the smallest index among those that pairs connect it with."""
    label_N = torch.arange(count)
    while True:
        joined_N = label_N.scatter_reduce(0, pairs_2P[0], label_N[pairs_2P[1]], "amin")
        if torch.equal(joined_N, label_N):
            return label_N
        label_N = joined_N
