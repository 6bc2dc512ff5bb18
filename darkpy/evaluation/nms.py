"""Non-maximum suppression: of the boxes that show the same thing, the best one stays.

Greedy, as darknet's: the best score of a group stays and removes every lower one it overlaps, then the best of what is
left, and so on. A group is one class in one image, or one image where objectness decides. All groups of a batch go
forward together: in each round the F best that still wait in every group are compared with each other, those that stay
are compared with everything behind them, and the survivors wait for the next round.

M candidates; N scored boxes, sorted by group and score; G groups, F places in the front of each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from darkpy.ops import boxes
from darkpy.ops.detections import Detections

Overlap = Callable[[Tensor, Tensor], Tensor]

PAIRS = 1 << 17
"""How many pairs of boxes are compared at a time; it bounds the memory."""
FRONT = 64
"""How many boxes of a group go in front at most; it bounds the passes in which they are settled."""


def suppress(
    detections: Detections, thresh: float, kind: str = "default", beta: float = boxes.DIOU_EXPONENT
) -> Detections:
    """In each class of each image, the prob of a box becomes 0 when a better box of the class overlaps it.

    Returns: the same boxes in the same order. Equal scores rank in that order.
    Source:  pjreddie/darknet src/box.c do_nms_sort; AlexeyAB/darknet src/box.c diounms_sort
    """
    prob_MK = detections.prob_MK
    scored_MK = (prob_MK != 0) & (detections.objectness_M != 0)[:, None]
    place_N, class_N = torch.nonzero(scored_MK, as_tuple=True)
    group_N = detections.image_M[place_N] * prob_MK.shape[1] + class_N
    stays_N = _stays(detections.boxes_M4[place_N], prob_MK[place_N, class_N], group_N, _overlap(kind, beta), thresh)
    left_MK = prob_MK.clone()
    left_MK[place_N[~stays_N], class_N[~stays_N]] = 0
    return replace(detections, prob_MK=left_MK)


def suppress_by_objectness(detections: Detections, thresh: float) -> Detections:
    """In each image, objectness and all prob of a box become 0 when a box of more objectness overlaps it.

    Returns: the same boxes in the same order. Equal scores rank in that order.
    Source:  pjreddie/darknet src/box.c do_nms_obj
    """
    (place_N,) = torch.nonzero(detections.objectness_M, as_tuple=True)
    objectness_N = detections.objectness_M[place_N]
    stays_N = _stays(detections.boxes_M4[place_N], objectness_N, detections.image_M[place_N], boxes.iou, thresh)
    gone_N = place_N[~stays_N]
    return replace(
        detections,
        objectness_M=detections.objectness_M.index_fill(0, gone_N, 0),
        prob_MK=detections.prob_MK.index_fill(0, gone_N, 0),
    )


def _overlap(kind: str, beta: float) -> Overlap:
    """What is compared with thresh; cornersnms and unknown words are the plain IoU of default.

    Source:  AlexeyAB/darknet src/box.c diounms_sort; its greedynms does not read beta_nms.
    """
    if kind == "greedynms":
        return boxes.diou
    if kind == "diounms":
        return partial(boxes.diou, beta=beta)
    return boxes.iou


def _stays(boxes_N4: Tensor, score_N: Tensor, group_N: Tensor, overlap: Overlap, thresh: float) -> Tensor:
    """Which boxes no better box of their group removes, in the order given."""
    by_score = score_N.argsort(descending=True, stable=True)
    waiting = by_score[group_N[by_score].argsort(stable=True)]
    stays_N = torch.zeros_like(group_N, dtype=torch.bool)
    while len(waiting):
        _, slot, sizes = torch.unique_consecutive(group_N[waiting], return_inverse=True, return_counts=True)
        rank = torch.arange(len(waiting), device=slot.device) - (sizes.cumsum(0) - sizes)[slot]
        groups, largest = len(sizes), int(sizes.max())
        front = max(1, min(largest, math.isqrt(PAIRS // groups), FRONT))

        is_front = rank < front
        index_GF = waiting.new_full((groups, front), -1)
        index_GF[slot[is_front], rank[is_front]] = waiting[is_front]
        # An empty place is a box of NaN: it overlaps nothing.
        front_GF4 = boxes_N4[index_GF].masked_fill((index_GF < 0)[..., None], torch.nan)
        stays_GF = _stays_in_front(front_GF4, overlap, thresh) & (index_GF >= 0)
        stays_N[index_GF[stays_GF]] = True

        behind, slot = waiting[~is_front], slot[~is_front]
        front_GF4 = _packed(front_GF4, stays_GF)
        waiting = behind[~_overlapped(boxes_N4[behind], front_GF4, slot, overlap, thresh)]
    return stays_N


def _stays_in_front(front_GF4: Tensor, overlap: Overlap, thresh: float) -> Tensor:
    """Greedy suppression inside each front, best first.

    After r passes the first r places of every front are final, so the passes end; they are as many as the longest
    chain of boxes that remove each other in turn, which is short.
    """
    removes_GFF = (overlap(front_GF4[:, :, None], front_GF4[:, None]) > thresh).triu(1)
    stays_GF = torch.ones_like(removes_GFF[:, 0])
    while True:
        left_GF = ~(removes_GFF & stays_GF[:, :, None]).any(dim=1)
        if torch.equal(left_GF, stays_GF):
            return stays_GF
        stays_GF = left_GF


def _packed(front_GF4: Tensor, stays_GF: Tensor) -> Tensor:
    """Only those that stay, at the beginning of each row, NaN behind them."""
    longest = int(stays_GF.sum(dim=1).max())
    order_GF = stays_GF.int().argsort(dim=1, descending=True, stable=True)[:, :longest]
    packed_GF4 = front_GF4.gather(1, order_GF[..., None].expand(-1, -1, 4))
    return packed_GF4.masked_fill(~stays_GF.gather(1, order_GF)[..., None], torch.nan)


def _overlapped(boxes_N4: Tensor, front_GF4: Tensor, slot_N: Tensor, overlap: Overlap, thresh: float) -> Tensor:
    """Which boxes one of the front of their group overlaps."""
    rows = max(1, PAIRS // front_GF4.shape[1])
    front_4GF = front_GF4.movedim(-1, 0).contiguous()  # so that the arithmetic runs along memory
    found = []
    for part_N4, slot in zip(torch.split(boxes_N4, rows), torch.split(slot_N, rows), strict=True):
        front_NF4 = front_4GF.index_select(1, slot).movedim(0, -1)
        found.append((overlap(front_NF4, part_N4[:, None]) > thresh).any(dim=1))
    return torch.cat(found)
