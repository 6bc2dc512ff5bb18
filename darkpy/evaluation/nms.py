"""Non-maximum suppression: keep the best of the boxes that overlap each other.

Greedy, as darknet's: the best score of a group stays and removes every lower one it overlaps, then the best of what is
left, and so on. A group is one class of one image, or one image if objectness decides.

That loop is sequential within a group, and a Python loop over boxes is slow. So all groups of a batch advance
together, in rounds: the F best waiting boxes of every group (its front) are compared with each other in one tensor
operation, those that stay are compared with everything behind them, and the survivors wait for the next round. The
result is that of the sequential loop, because a box is only ever removed by a box that stays.

M candidates; N scored boxes, sorted by group and score; G groups, F boxes in the front of each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from darkpy.ops import boxes
from darkpy.ops.boxes import Detections

Overlap = Callable[[Tensor, Tensor], Tensor]

MAX_PAIRS = 1 << 17
"""Pairs of boxes compared at a time; it bounds the memory."""
MAX_FRONT = 64
"""Boxes of a group in front at most; it bounds the passes in which a front is settled."""


def suppress(
    detections: Detections, thresh: float, kind: str = "default", beta: float = boxes.DIOU_EXPONENT
) -> Detections:
    """In each class of each image, zero the prob of a box that a better box of the class overlaps.

    kind, beta: nms_kind= and beta_nms= of the head; cornersnms and unknown words are the plain IoU of default.
    Returns: the same boxes in the same order. Equal scores rank in that order.
    Source:  pjreddie/darknet src/box.c do_nms_sort; AlexeyAB/darknet src/box.c diounms_sort, whose greedynms does not
             read beta_nms
    """
    overlap: Overlap = boxes.iou
    if kind == "greedynms":
        overlap = boxes.diou
    elif kind == "diounms":
        overlap = partial(boxes.diou, beta=beta)
    prob_MK = detections.prob_MK
    box_N, class_N = torch.nonzero((prob_MK != 0) & (detections.objectness_M != 0)[:, None], as_tuple=True)
    group_N = detections.image_M[box_N] * prob_MK.shape[1] + class_N
    keep_N = _keep(detections.boxes_M4[box_N], prob_MK[box_N, class_N], group_N, overlap, thresh)
    prob_MK = prob_MK.clone()
    prob_MK[box_N[~keep_N], class_N[~keep_N]] = 0
    return replace(detections, prob_MK=prob_MK)


def suppress_by_objectness(detections: Detections, thresh: float) -> Detections:
    """In each image, zero objectness and all prob of a box that a box of more objectness overlaps.

    Returns: the same boxes in the same order. Equal scores rank in that order.
    Source:  pjreddie/darknet src/box.c do_nms_obj
    """
    (box_N,) = torch.nonzero(detections.objectness_M, as_tuple=True)
    objectness_N = detections.objectness_M[box_N]
    keep_N = _keep(detections.boxes_M4[box_N], objectness_N, detections.image_M[box_N], boxes.iou, thresh)
    suppressed_N = box_N[~keep_N]
    return replace(
        detections,
        objectness_M=detections.objectness_M.index_fill(0, suppressed_N, 0),
        prob_MK=detections.prob_MK.index_fill(0, suppressed_N, 0),
    )


def _keep(boxes_N4: Tensor, score_N: Tensor, group_N: Tensor, overlap: Overlap, thresh: float) -> Tensor:
    """Mask of the boxes that no better box of their group removes, in the order given."""
    by_score = score_N.argsort(descending=True, stable=True)
    waiting = by_score[group_N[by_score].argsort(stable=True)]
    keep_N = torch.zeros_like(group_N, dtype=torch.bool)
    while len(waiting):
        _, row, sizes = torch.unique_consecutive(group_N[waiting], return_inverse=True, return_counts=True)
        rank = torch.arange(len(waiting), device=row.device) - (sizes.cumsum(0) - sizes)[row]
        groups, largest = len(sizes), int(sizes.max())
        # groups * front ** 2 pairs are compared
        front = max(1, min(largest, math.isqrt(MAX_PAIRS // groups), MAX_FRONT))

        is_front = rank < front
        index_GF = waiting.new_full((groups, front), -1)
        index_GF[row[is_front], rank[is_front]] = waiting[is_front]
        # an unused entry is a box of NaN: it overlaps nothing
        front_GF4 = boxes_N4[index_GF].masked_fill((index_GF < 0)[..., None], torch.nan)
        keep_GF = _keep_in_front(front_GF4, overlap, thresh) & (index_GF >= 0)
        keep_N[index_GF[keep_GF]] = True

        # compare the boxes behind only with those that stay, moved to the begin of each row, NaN behind them
        order_GF = keep_GF.int().argsort(dim=1, descending=True, stable=True)[:, : int(keep_GF.sum(dim=1).max())]
        front_GF4 = front_GF4.gather(1, order_GF[..., None].expand(-1, -1, 4))
        front_GF4 = front_GF4.masked_fill(~keep_GF.gather(1, order_GF)[..., None], torch.nan)
        behind, row = waiting[~is_front], row[~is_front]
        waiting = behind[~_overlapped(boxes_N4[behind], front_GF4, row, overlap, thresh)]
    return keep_N


def _keep_in_front(front_GF4: Tensor, overlap: Overlap, thresh: float) -> Tensor:
    """Suppress greedily inside each front, best first.

    Each pass recomputes from the boxes believed to stay which boxes they remove. After r passes the first r boxes of
    every front are final, so the passes end; they are as many as the longest chain of boxes that remove each other in
    turn, which is short.
    """
    rank_F = torch.arange(front_GF4.shape[1], device=front_GF4.device)
    # not triu, which starts all of torch's threads for the smallest matrix
    removes_GFF = (overlap(front_GF4[:, :, None], front_GF4[:, None]) > thresh) & (rank_F[:, None] < rank_F)
    keep_GF = torch.ones_like(removes_GFF[:, 0])
    while True:
        next_GF = ~(removes_GFF & keep_GF[:, :, None]).any(dim=1)
        if torch.equal(next_GF, keep_GF):
            return keep_GF
        keep_GF = next_GF


def _overlapped(boxes_N4: Tensor, front_GF4: Tensor, row_N: Tensor, overlap: Overlap, thresh: float) -> Tensor:
    """Mask of the boxes that a box in the front of their group (row) overlaps."""
    chunk = max(1, MAX_PAIRS // front_GF4.shape[1])
    front_4GF = front_GF4.movedim(-1, 0).contiguous()  # so that the arithmetic runs along memory
    masks = []
    for part_N4, row in zip(torch.split(boxes_N4, chunk), torch.split(row_N, chunk), strict=True):
        front_NF4 = front_4GF.index_select(1, row).movedim(0, -1)
        masks.append((overlap(front_NF4, part_N4[:, None]) > thresh).any(dim=1))
    return torch.cat(masks)
