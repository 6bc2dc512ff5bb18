"""Assignment of target boxes to predictions.

Legend: B images, T rows of an image's targets, H W the grid, A anchors, N targets, M matches, P some of these.

Target boxes of detection heads: parsing of the label rows, and conflicts over one prediction.

Legend: B images, T rows of an image's labels, E entries of a row (x, y, w, h, ..., class, ...), N boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from darkpy.ops.boxes import OVERLAP_MEASURES, BoxCoder, iou
from darkpy.ops.device import tensor_async


@dataclass(frozen=True, slots=True)
class TargetBoxes:
    """Target boxes of a minibatch, image by image in the order of their rows.

    frac_BT4, class_BT: by row; rows without a box have zeros, which overlap nothing, and class -1.
    frac_N4, image_N, row_N, class_N: of the boxes only.
    rejected: scalar int64, the number of rows that are in use but not valid boxes.
    Units: fractions of the image.
    """

    frac_BT4: Tensor
    class_BT: Tensor
    image_N: Tensor
    row_N: Tensor
    frac_N4: Tensor
    rejected: Tensor

    @property
    def class_N(self) -> Tensor:
        return self.class_BT[self.image_N, self.row_N]

    def cells(self, columns: int, rows: int) -> tuple[Tensor, Tensor]:
        """Compute column and row of the cell with each center; a center on the far edge is in the last cell."""
        column_N = (self.frac_N4[:, 0] * columns).long().clamp(max=columns - 1)
        return column_N, (self.frac_N4[:, 1] * rows).long().clamp(max=rows - 1)


def is_listed(truth_BTE: Tensor) -> Tensor:
    """Mask the rows before the first one with x = 0, which ends a list."""
    return (truth_BTE[..., 0] != 0).cumprod(1).bool()


def read_target_boxes(truth_BTE: Tensor, classes: int, class_entry: int = 4) -> TargetBoxes:
    """Parse the label rows of a minibatch; `class_entry` is the entry with the class.

    Source: pjreddie/darknet src/yolo_layer.c and src/region_layer.c, float_to_box and the loops around it.
    Differs: a row whose box is not inside the image, or whose class is not below `classes`, is rejected; darknet
        accesses memory beyond its arrays.
    """
    listed_BT = is_listed(truth_BTE)
    truth_BTE = truth_BTE[:, : max(1, int(listed_BT.sum(1).amax()))]
    listed_BT = listed_BT[:, : truth_BTE.shape[1]]
    center_BT2, size_BT2, class_BT = truth_BTE[..., :2], truth_BTE[..., 2:4], truth_BTE[..., class_entry]
    is_inside_BT = ((center_BT2 >= 0) & (center_BT2 <= 1) & (size_BT2 > 0) & size_BT2.isfinite()).all(2)
    is_box_BT = listed_BT & is_inside_BT & (class_BT >= 0) & (class_BT < classes)
    image_N, row_N = is_box_BT.nonzero().unbind(1)
    return TargetBoxes(
        frac_BT4=torch.where(is_box_BT[..., None], truth_BTE[..., :4], 0.0),
        class_BT=torch.where(is_box_BT, class_BT, -1.0).long(),
        image_N=image_N,
        row_N=row_N,
        frac_N4=truth_BTE[image_N, row_N, :4],
        rejected=(listed_BT & ~is_box_BT).sum(),
    )


def last_writer(position_N: Tensor, positions: int) -> Tensor:
    """Return, for each of N sequential writes to a position, the index of the last write to the same position.

    darknet writes targets one after the other, so that the last one of a position wins.
    """
    index_N = torch.arange(len(position_N), device=position_N.device)
    return index_N.new_zeros(positions).scatter_reduce(0, position_N, index_N, "amax")[position_N]


@dataclass(frozen=True, slots=True)
class Matches:
    """Target boxes assigned to predictions, in darknet's order.

    row_M: rows of the targets in the image's list.
    first_P, later_P: indices of the first match of each prediction, and of all others; last_P: of the last match.
    Shapes:  image_M, row_M, anchor_M (along the mask), class_M int64; cell_M2 (column, row); frac_M4.
    Units:   boxes in fractions of the image.
    """

    image_M: Tensor
    row_M: Tensor
    cell_M2: Tensor
    anchor_M: Tensor
    frac_M4: Tensor
    class_M: Tensor
    first_P: Tensor
    later_P: Tensor
    last_P: Tensor

    @staticmethod
    def of(truths: TargetBoxes, image_M: Tensor, row_M: Tensor, cell_M2: Tensor, anchor_M: Tensor) -> Matches:
        """Assign the targets in the given rows to predictions."""
        position_M4 = torch.cat((image_M[:, None], cell_M2, anchor_M[:, None]), dim=1)
        _, position_M = torch.unique(position_M4, dim=0, return_inverse=True)
        index_M = torch.arange(len(position_M), device=position_M.device)
        is_last_M = last_writer(position_M, len(position_M)) == index_M
        is_first_M = (last_writer(position_M.flip(0), len(position_M)) == index_M).flip(0)
        frac_M4, class_M = truths.frac_BT4[image_M, row_M], truths.class_BT[image_M, row_M]
        first_P, later_P, last_P = (index_M[mask_M] for mask_M in (is_first_M, ~is_first_M, is_last_M))
        return Matches(image_M, row_M, cell_M2, anchor_M, frac_M4, class_M, first_P, later_P, last_P)

    def __len__(self) -> int:
        return len(self.image_M)

    @property
    def index(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Indices into a map of B, H, W, A."""
        cell_column_M, cell_row_M = self.cell_M2.unbind(1)
        return self.image_M, cell_row_M, cell_column_M, self.anchor_M


def match(
    truths: TargetBoxes, coder: BoxCoder, anchors_px_A2: Tensor, mask: Sequence[int], thresh: float, kind: str
) -> Matches:
    """Match each target with the anchor of the most similar size, if that anchor is in the mask.

    With `thresh` below 1, also with all anchors of the mask that overlap more than this, both boxes centered.
    Shapes:  anchors_px_A2 has the anchors of all heads.
    Source:  AlexeyAB/darknet src/yolo_layer.c process_batch
    """
    anchor_frac_A2 = anchors_px_A2 / coder.net_2
    mask_A = tensor_async(mask, anchor_frac_A2.device)
    size_N12 = truths.frac_N4[:, None, 2:]
    best_N1 = _centered_overlap(size_N12, anchor_frac_A2, "iou").argmax(1, keepdim=True)
    is_match_NA = best_N1 == mask_A
    if thresh < 1:
        is_match_NA |= _centered_overlap(size_N12, anchor_frac_A2[mask_A], kind) > thresh
    truth_M, anchor_M = is_match_NA.nonzero().unbind(1)
    cell_M2 = coder.cells(truths.frac_N4[truth_M])
    return Matches.of(truths, truths.image_N[truth_M], truths.row_N[truth_M], cell_M2, anchor_M)


def match_predictions(truths: TargetBoxes, row_BHWA: Tensor, selected_BHWA: Tensor) -> Matches:
    """Match the selected predictions, each with the target in its row of `row_BHWA`."""
    image_M, row_M, column_M, anchor_M = selected_BHWA.nonzero().unbind(1)
    truth_row_M = row_BHWA[image_M, row_M, column_M, anchor_M]
    return Matches.of(truths, image_M, truth_row_M, torch.stack((column_M, row_M), dim=1), anchor_M)


def best_overlaps(truths: TargetBoxes, pred_frac_BHWA4: Tensor) -> tuple[Tensor, Tensor]:
    """Return each prediction's largest IoU with a target of its image, 0 for none, and the row of that target."""
    best = iou(pred_frac_BHWA4.unsqueeze(-2), truths.frac_BT4[:, None, None, None]).max(-1)
    return best.values, best.indices


def _centered_overlap(size: Tensor, other: Tensor, kind: str) -> Tensor:
    box, other_box = (torch.cat((torch.zeros_like(wh), wh), dim=-1) for wh in (size, other))
    return OVERLAP_MEASURES[kind](box, other_box)
