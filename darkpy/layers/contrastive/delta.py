"""What a [contrastive] learns from a minibatch.

Legend: B images, T E rows of a truth and their numbers, A anchors, D numbers of an embedding, C = A * D channels,
H W the grid, M places with an embedding that stands for an object.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from darkpy.config.net import NetSpec
from darkpy.layers.anchored_delta import find_matches
from darkpy.layers.anchors import AnchoredSpec
from darkpy.layers.head import read_head_targets
from darkpy.layers.loss import Loss

if TYPE_CHECKING:
    from darkpy.layers.contrastive import ContrastiveSpec

_TRACK = 5  # where a row of the truth says which object it is
_NEARLY_ONE = 0.9999
_NEVER = 2**62


@dataclass(frozen=True, slots=True)
class Objects:
    """Places that answer for a truth, in the order of darknet's memory: image, anchor, row, column.

    place: indices into B, A, H, W. time_M: the time step of the image. An object has one track and one class.
    """

    place: tuple[Tensor, ...]
    track_M: Tensor
    class_M: Tensor
    time_M: Tensor

    @staticmethod
    def read(head: AnchoredSpec, truth_BTE: Tensor, grid_2: Tensor, net: NetSpec) -> Objects:
        """Those of the [yolo] `head` on a grid of (columns, rows); a place that several want is the last one's."""
        truths = read_head_targets(truth_BTE, head.classes, head.map)
        # what iou_thresh adds has no part in this
        matches = find_matches(replace(head, iou_thresh=1.0), truths, head.box_coder(grid_2, net.width, net.height))
        track_N = truth_BTE[matches.image_M, matches.row_M, _TRACK].long()
        image_N, row_N, column_N, anchor_N = matches.place
        columns, rows = (int(size) for size in grid_2)
        place_N = ((image_N * len(head.anchor_indices) + anchor_N) * rows + row_N) * columns + column_N
        wanted_M = matches.last_P[track_N[matches.last_P] >= 0]
        wanted_M = wanted_M[place_N[wanted_M].argsort()]
        place = tuple(index_N[wanted_M] for index_N in (image_N, anchor_N, row_N, column_N))
        images_at_once = max(1, len(truth_BTE) // net.time_steps)
        return Objects(place, track_N[wanted_M], matches.class_M[wanted_M], place[0] // images_at_once)


def contrastive_loss(
    spec: ContrastiveSpec, head: AnchoredSpec, input_BCHW: Tensor, truth_BTE: Tensor, net: NetSpec
) -> Loss:
    """Delta and cost of a minibatch.

    Reports: `count` of objects that have both others of their kind, and `good`, those that are most like one of these.
    Source: AlexeyAB/darknet src/softmax_layer.c forward_contrastive_layer, src/blas.c grad_contrastive_loss_positive_f.
    Differs: places with one track but of several classes are several objects. An embedding of length 0 learns nothing,
        where darknet ends the program.
    """
    batch, _, rows, columns = input_BCHW.shape
    objects = Objects.read(head, truth_BTE, torch.tensor((columns, rows), device=input_BCHW.device), net)
    z_BAHWD = input_BCHW.reshape(batch, len(head.anchor_indices), -1, rows, columns).permute(0, 1, 3, 4, 2)
    z_MD = z_BAHWD[objects.place]
    if not len(z_MD):
        nothing_BCHW, nothing = torch.zeros_like(input_BCHW), input_BCHW.new_zeros(())
        return Loss(nothing_BCHW, nothing_BCHW, nothing, {"count": nothing, "good": nothing})
    length_M1 = z_MD.norm(dim=1, keepdim=True)
    unit_MD = torch.where(length_M1 > 0, z_MD / length_M1, 0.0)
    sim_MM = unit_MD @ unit_MD.T
    is_pair_MM, is_same_MM = _relations(objects)
    prob_MM = _probabilities(sim_MM / spec.temperature, is_pair_MM)
    more_MM = is_same_MM & ~torch.eye(len(z_MD), dtype=torch.bool, device=z_MD.device)
    away_MM = _negatives(is_pair_MM, is_same_MM, objects.class_M, max(1, spec.contrastive_neg_max)) * prob_MM
    push_MM = away_MM - torch.where(more_MM & is_pair_MM, 1 - prob_MM, 0.0)
    others_M1 = more_MM.sum(1, keepdim=True)
    scale_M1 = spec.cls_normalizer / (others_M1 * spec.temperature * length_M1)
    delta_MD = scale_M1 * ((push_MM * sim_MM).sum(1, keepdim=True) * z_MD - push_MM @ z_MD)
    delta_MD = torch.where((others_M1 > 0) & (length_M1 > 0), delta_MD, 0.0).clamp(-spec.max_delta, spec.max_delta)

    delta_BAHWD = torch.zeros_like(z_BAHWD)
    delta_BAHWD[objects.place] = delta_MD
    delta_BCHW = delta_BAHWD.permute(0, 1, 4, 2, 3).reshape(input_BCHW.shape)
    return Loss(delta_BCHW, delta_BCHW, delta_MD.square().sum(), _report(sim_MM, is_pair_MM, is_same_MM))


def _relations(objects: Objects) -> tuple[Tensor, Tensor]:
    """Which two places are compared, those of one class and one time, and which are one object."""
    is_alike_MM = objects.class_M[:, None] == objects.class_M
    is_other_MM = ~torch.eye(len(is_alike_MM), dtype=torch.bool, device=is_alike_MM.device)
    is_pair_MM = is_alike_MM & (objects.time_M[:, None] == objects.time_M) & is_other_MM
    return is_pair_MM, is_alike_MM & (objects.track_M[:, None] == objects.track_M)


def _probabilities(similarity_MM: Tensor, is_pair_MM: Tensor) -> Tensor:
    """exp(similarity) of each pair over the sum of all other pairs with its second place; .9999 at most."""
    similarity_MM = torch.where(is_pair_MM, similarity_MM, -torch.inf)
    highest_1M = similarity_MM.amax(0, keepdim=True).clamp(min=-1e30)
    exp_MM = (similarity_MM - highest_1M).exp()  # darknet's overflows at low temperatures
    rest_MM = exp_MM.sum(0, keepdim=True) - exp_MM
    return torch.where(rest_MM >= exp_MM, exp_MM / rest_MM.clamp(min=1e-30), _NEARLY_ONE)


def _negatives(is_pair_MM: Tensor, is_same_MM: Tensor, class_M: Tensor, most: int) -> Tensor:
    """How often each place is pushed away from each other one of its class.

    Once for every other place of its object it goes through those that are not its object, and stops at the first one
    that is at or beyond the count `most`; those of another time count, but do not push.
    """
    is_candidate_MM = (class_M[:, None] == class_M) & ~is_same_MM
    rank_MM = is_candidate_MM.cumsum(1)
    candidates_M1, rounds_M1 = is_candidate_MM.sum(1, keepdim=True), is_same_MM.sum(1, keepdim=True) - 1
    is_push_MM = is_candidate_MM & is_pair_MM & (rounds_M1 > 0)
    # the count at which a candidate of rank r is met in round n, from 0, is n * candidates + r
    step_M1 = candidates_M1.clamp(min=1)
    before_MM = ((most - rank_MM + step_M1 - 1) // step_M1).clamp(min=0).minimum(rounds_M1)
    at_or_after_MM = torch.where(is_push_MM & (before_MM < rounds_M1), before_MM * step_M1 + rank_MM, _NEVER)
    is_last_MM = (at_or_after_MM == at_or_after_MM.amin(1, keepdim=True)) & (at_or_after_MM < _NEVER)
    return torch.where(is_push_MM, before_MM + is_last_MM.long(), 0)


def _report(sim_MM: Tensor, is_pair_MM: Tensor, is_same_MM: Tensor) -> dict[str, Tensor]:
    best_same_M, best_other_M = (
        torch.where(is_pair_MM & is_wanted_MM, sim_MM, -torch.inf).amax(1) for is_wanted_MM in (is_same_MM, ~is_same_MM)
    )
    is_comparable_M = best_same_M.isfinite() & best_other_M.isfinite()
    return {"count": is_comparable_M.sum(), "good": (is_comparable_M & (best_other_M < best_same_M)).sum()}
