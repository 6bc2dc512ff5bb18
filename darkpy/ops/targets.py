"""Target boxes of detection heads: parsing of the label rows, and conflicts over one prediction.

Legend: B images, T rows of an image's labels, E entries of a row (x, y, w, h, ..., class, ...), N boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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
