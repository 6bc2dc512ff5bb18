"""Layout of anchored heads: every cell of the output map predicts A boxes with E entries each.

Legend: B images, A boxes of a cell, E entries of a box, C = A * E channels, H W rows and columns, M candidates.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from darkpy.ops.device import tensor_async


def cells(map_BCHW: Tensor, entries: int) -> Tensor:
    """View the output map of a yolo layer box by box, in darknet's order of candidates.

    Returns: entries_BHWAE, a view.
    """
    batch, _, rows, columns = map_BCHW.shape
    return map_BCHW.view(batch, -1, entries, rows, columns).permute(0, 3, 4, 1, 2)


def channel_mask(selected: Collection[int], entries: int, anchors: int) -> Tensor:
    """Return mask_C11, True at the selected entries of every anchor."""
    mask_E = torch.zeros(entries, dtype=torch.bool, device="cpu")
    mask_E[list(selected)] = True
    return mask_E.repeat(anchors)[:, None, None]


def channel_runs(selected: Collection[int], entries: int, anchors: int) -> tuple[slice, ...]:
    """Return the selected entries of every anchor as slices of consecutive channels."""
    starts = sorted(entry for entry in selected if entry - 1 not in selected)
    ends = sorted(entry + 1 for entry in selected if entry + 1 not in selected)
    return tuple(
        slice(anchor * entries + start, anchor * entries + end)
        for anchor in range(anchors)
        for start, end in zip(starts, ends, strict=True)
    )


@dataclass(frozen=True, slots=True)
class Candidates:
    """Boxes selected from a grid: their cells and predicted entries.

    Shapes: image_M, anchor_M, cell_M2 (column, row) int64; grid_2 (columns, rows); entry_ME float32.
    """

    image_M: Tensor
    cell_M2: Tensor
    anchor_M: Tensor
    grid_2: Tensor
    entry_ME: Tensor

    def center_frac(self, xy_M2: Tensor) -> Tensor:
        """Convert positions inside the cell to centers in fractions of the map."""
        return (self.cell_M2 + xy_M2) / self.grid_2


def pick(entries_BHWAE: Tensor, selected_BHWA: Tensor, *, by_anchor: bool = False) -> Candidates:
    """Select boxes of each image by a mask: cell by cell with all anchors of a cell, or anchor by anchor."""
    if by_anchor:
        image_M, anchor_M, row_M, column_M = selected_BHWA.permute(0, 3, 1, 2).nonzero().unbind(1)
    else:
        image_M, row_M, column_M, anchor_M = selected_BHWA.nonzero().unbind(1)
    _, rows, columns, _, _ = entries_BHWAE.shape
    return Candidates(
        image_M,
        torch.stack((column_M, row_M), dim=1),
        anchor_M,
        tensor_async((columns, rows), image_M.device),
        entries_BHWAE[image_M, row_M, column_M, anchor_M].float(),
    )
