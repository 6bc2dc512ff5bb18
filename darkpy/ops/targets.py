"""The truth of heads that learn boxes: which rows can be learnt from, and who wins a place that several want.

Legend: B images, T rows of an image's truth, E numbers of a row (x, y, w, h, ..., class, ...), N boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TargetBoxes:
    """The boxes of a minibatch, image by image in the order of their rows.

    Shapes: frac_BT4, all 0 where there is no box, which overlaps nothing; class_BT int64, -1 there; frac_N4, image_N,
        row_N and class_N, the boxes alone; rejected, one int64, how many rows before the end of their lists are none.
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
        """Column and row of the cell in which each center lies; a center on the far edge lies in the last one."""
        column_N = (self.frac_N4[:, 0] * columns).long().clamp(max=columns - 1)
        return column_N, (self.frac_N4[:, 1] * rows).long().clamp(max=rows - 1)


def is_listed(truth_BTE: Tensor) -> Tensor:
    """Which rows come before the first x of 0, where a list ends."""
    return (truth_BTE[..., 0] != 0).cumprod(1).bool()


def read_target_boxes(truth_BTE: Tensor, classes: int, class_entry: int = 4) -> TargetBoxes:
    """The boxes of a truth, whose rows hold the class at `class_entry`.

    Source: pjreddie/darknet src/yolo_layer.c and src/region_layer.c, float_to_box and the loops around it.
    Differs: a row that is no box inside the image, or that has a class beyond `classes`, is left out; darknet reads
        and writes beyond its arrays.
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


def last_writer(place_N: Tensor, places: int) -> Tensor:
    """For each of N writers, in order, the number of the last one that writes to its place: who is heard in the end."""
    number_N = torch.arange(len(place_N), device=place_N.device)
    return number_N.new_zeros(places).scatter_reduce(0, place_N, number_N, "amax")[place_N]
