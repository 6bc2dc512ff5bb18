"""Which truth a detection finds.

D detections, T truths, P pairs of both, N boxes of either kind.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from darkpy.ops import boxes

PAIRS = 1 << 20
"""How many pairs of boxes are compared at a time, about; it bounds the memory."""


class GroupedGroundTruth:
    """Truths in groups, which are numbers: a detection is compared with those that have its own number."""

    def __init__(self, boxes_T4: Tensor, group_T: Tensor) -> None:
        self.count = len(group_T)
        self._boxes_T4 = boxes_T4
        self._sorted_T, self._order_T = group_T.sort(stable=True)

    def find(self, boxes_D4: Tensor, group_D: Tensor, iou_thresh: float) -> tuple[Tensor, Tensor]:
        """The place of the truth of its group that each detection overlaps most, if by more than iou_thresh, else -1.

        A truth may be found more than once; of equal overlaps the first truth counts.
        Returns: the places, and the IoU with that truth, or 0.
        Source:  AlexeyAB/darknet src/detector.c validate_detector_map
        """
        most_D = boxes_D4.new_zeros(len(boxes_D4))
        truth_D = torch.full_like(group_D, self.count)
        for place_P, truth_P, iou_P in self._overlaps(boxes_D4, group_D):
            iou_P = torch.where(iou_P > iou_thresh, iou_P, 0.0)
            most_D.scatter_reduce_(0, place_P, iou_P, "amax")
            is_most_P = (iou_P > 0) & (iou_P == most_D[place_P])
            truth_D.scatter_reduce_(0, place_P[is_most_P], truth_P[is_most_P], "amin")
        return torch.where(most_D > 0, truth_D, -1), most_D

    def best_iou_per_truth(self, boxes_D4: Tensor, group_D: Tensor) -> Tensor:
        """The largest IoU of each truth with a detection of its group, 0 where there is none."""
        most_T = self._boxes_T4.new_zeros(self.count)
        for _, truth_P, iou_P in self._overlaps(boxes_D4, group_D):
            most_T.scatter_reduce_(0, truth_P, iou_P, "amax")
        return most_T

    def _overlaps(self, boxes_D4: Tensor, group_D: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Places of a detection and a truth and their IoU, for all pairs within a group.

        The pairs of one detection come together; NaN is no overlap.
        """
        begin_D = torch.searchsorted(self._sorted_T, group_D)
        count_D = torch.searchsorted(self._sorted_T, group_D, right=True) - begin_D
        (place_N,) = torch.nonzero(count_D, as_tuple=True)
        begin_N, count_N = begin_D[place_N], count_D[place_N]
        _, sizes = torch.unique_consecutive((count_N.cumsum(0) - count_N) // PAIRS, return_counts=True)
        parts = (torch.split(tensor, sizes.tolist()) for tensor in (place_N, begin_N, count_N))
        for place, begin, count in zip(*parts, strict=True):
            shift_P = (begin - (count.cumsum(0) - count)).repeat_interleave(count)
            place_P = place.repeat_interleave(count)
            truth_P = self._order_T[shift_P + torch.arange(len(shift_P))]
            yield place_P, truth_P, boxes.iou(boxes_D4[place_P], self._boxes_T4[truth_P]).nan_to_num_(0.0)


def first_occurrences(number_N: Tensor, count: int) -> Tensor:
    """Which numbers from 0 to count - 1 stand there for the first time; -1 never does."""
    place_N = torch.arange(len(number_N))
    is_number_N = number_N >= 0
    first = torch.full((count + 1,), len(number_N))
    first.scatter_reduce_(0, number_N[is_number_N], place_N[is_number_N], "amin")
    return first[number_N] == place_N  # -1 reads the last, which is never written
