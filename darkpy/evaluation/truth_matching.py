"""Matching of detections with ground-truth objects by IoU.

D detections, T ground-truth objects, P pairs of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from darkpy.ops import boxes

MAX_PAIRS = 1 << 20
"""Pairs of boxes compared at a time, about; it bounds the memory."""


class GroupedGroundTruth:
    """Ground-truth boxes in numbered groups (an image, or a class of an image): detections match within their group.

    overlap: measure of a detection and an object.
    """

    def __init__(
        self, boxes_T4: Tensor, group_T: Tensor, overlap: Callable[[Tensor, Tensor], Tensor] = boxes.iou
    ) -> None:
        self.count, self._overlap = len(group_T), overlap
        self._boxes_T4 = boxes_T4
        self._sorted_T, self._order_T = group_T.sort(stable=True)

    def find(self, boxes_D4: Tensor, group_D: Tensor, iou_thresh: float) -> tuple[Tensor, Tensor]:
        """Find the object of its group that each detection overlaps most, if by more than iou_thresh.

        An object may be found more than once; of equal overlaps the first object counts.
        Returns: the object's index, or -1, and the IoU with it, or 0.
        Source:  AlexeyAB/darknet src/detector.c validate_detector_map
        """
        best_D = boxes_D4.new_zeros(len(boxes_D4))
        truth_D = torch.full_like(group_D, self.count)
        for detection_P, truth_P, iou_P in self.pairs(boxes_D4, group_D):
            iou_P = torch.where(iou_P > iou_thresh, iou_P, 0.0)
            best_D.scatter_reduce_(0, detection_P, iou_P, "amax")
            is_best_P = (iou_P > 0) & (iou_P == best_D[detection_P])
            truth_D.scatter_reduce_(0, detection_P[is_best_P], truth_P[is_best_P], "amin")
        return torch.where(best_D > 0, truth_D, -1), best_D

    def best_iou_per_truth(self, boxes_D4: Tensor, group_D: Tensor) -> Tensor:
        """Largest IoU of each object with a detection of its group, 0 where there is none."""
        best_T = self._boxes_T4.new_zeros(self.count)
        for _, truth_P, iou_P in self.pairs(boxes_D4, group_D):
            best_T.scatter_reduce_(0, truth_P, iou_P, "amax")
        return best_T

    def pairs(self, boxes_D4: Tensor, group_D: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield the indices of a detection and an object and their IoU, for all pairs within a group.

        All pairs of one detection come in one part, in the order of the detections; a NaN IoU is 0.
        """
        begin_D = torch.searchsorted(self._sorted_T, group_D)
        count_D = torch.searchsorted(self._sorted_T, group_D, right=True) - begin_D
        (detection_N,) = torch.nonzero(count_D, as_tuple=True)
        begin_N, count_N = begin_D[detection_N], count_D[detection_N]
        _, sizes = torch.unique_consecutive((count_N.cumsum(0) - count_N) // MAX_PAIRS, return_counts=True)
        parts = (torch.split(tensor, sizes.tolist()) for tensor in (detection_N, begin_N, count_N))
        for detection, begin, count in zip(*parts, strict=True):
            # positions in the sorted objects: begin, begin + 1, ..., begin + count - 1 for each detection
            shift_P = (begin - (count.cumsum(0) - count)).repeat_interleave(count)
            detection_P = detection.repeat_interleave(count)
            truth_P = self._order_T[shift_P + torch.arange(len(shift_P))]
            iou_P = self._overlap(boxes_D4[detection_P], self._boxes_T4[truth_P])
            yield detection_P, truth_P, iou_P.nan_to_num_(0.0)


def match_greedily(detection_P: Tensor, truth_P: Tensor, overlap_P: Tensor, score_D: Tensor) -> Tensor:
    """Match each detection, the highest score first, with the free object that it overlaps most.

    detection_P, truth_P, overlap_P: the pairs that may be matched. Of equal scores the first detection chooses first,
    of equal overlaps it takes the first object.
    Returns: the object of each detection, or -1.

    That loop is sequential. Its result is also the one stable matching in which objects prefer higher scores, so all
    detections propose at once, and again until no proposal is rejected.
    """
    truth_D = torch.full(score_D.shape, -1)
    truths, truth_P = torch.unique(truth_P, return_inverse=True)
    rank_D = torch.empty_like(truth_D)
    rank_D[score_D.argsort(descending=True, stable=True)] = torch.arange(len(rank_D))
    while len(truth_P):
        best_D = overlap_P.new_full(score_D.shape, -1.0).scatter_reduce_(0, detection_P, overlap_P, "amax")
        is_best_P = overlap_P == best_D[detection_P]
        proposed_D = torch.full_like(truth_D, len(truths))
        proposed_D.scatter_reduce_(0, detection_P[is_best_P], truth_P[is_best_P], "amin")
        winner_T = torch.full((len(truths) + 1,), len(rank_D)).scatter_reduce_(0, proposed_D, rank_D, "amin")
        is_rejected_P = (truth_P == proposed_D[detection_P]) & (rank_D[detection_P] != winner_T[truth_P])
        if not is_rejected_P.any():
            (matched_D,) = torch.nonzero(proposed_D < len(truths), as_tuple=True)
            truth_D[matched_D] = truths[proposed_D[matched_D]]
            break
        detection_P, truth_P, overlap_P = (values_P[~is_rejected_P] for values_P in (detection_P, truth_P, overlap_P))
    return truth_D


def first_occurrences(index_N: Tensor, count: int) -> Tensor:
    """Mask of the first occurrence of each of the indices 0 to count - 1; a number below 0 is never one."""
    position_N = torch.arange(len(index_N))
    is_index_N = index_N >= 0
    first = torch.full((count + 1,), len(index_N))
    first.scatter_reduce_(0, index_N[is_index_N], position_N[is_index_N], "amin")
    return first[index_N.clamp(min=-1)] == position_N  # -1 reads the last entry, which is never written


def position_in_group(group_N: Tensor) -> Tensor:
    """Number of earlier entries with the same value."""
    order_N = group_N.argsort(stable=True)
    sorted_N = group_N[order_N]
    index_N = torch.arange(len(group_N))
    position_N = torch.empty_like(index_N)
    position_N[order_N] = index_N - torch.searchsorted(sorted_N, sorted_N)
    return position_N
