"""Delta and cost of [contrastive].

Legend: B images, T E rows and columns of a truth, A anchors, D elements of an embedding, C = A * D channels,
H W the grid, M embeddings (predictions that are matched to an object), N matches.
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

_TRACK_COLUMN = 5  # of a truth's row: the object's track id, negative for none
_MAX_PROBABILITY = 0.9999  # darknet's, where the pair itself is more than half of its sum
_NEVER_STOPS = 2**62  # beyond every count of negatives


@dataclass(frozen=True, slots=True)
class TrackedObjects:
    """Predictions matched to a truth with a track, in the order of darknet's memory: image, anchor, row, column.

    index: into B, A, H, W. time_M: the time step of the image. One object is one track and one class.
    """

    index: tuple[Tensor, ...]
    track_M: Tensor
    class_M: Tensor
    time_M: Tensor

    @staticmethod
    def read(head: AnchoredSpec, truth_BTE: Tensor, grid_2: Tensor, net: NetSpec) -> TrackedObjects:
        """Match the truth on the [yolo] head's grid (columns, rows); the last truth at a prediction wins."""
        truths = read_head_targets(truth_BTE, head.classes, head.map)
        # only the best anchor of a truth: those that iou_thresh adds are not used
        matches = find_matches(replace(head, iou_thresh=1.0), truths, head.box_coder(grid_2, net.width, net.height))
        track_N = truth_BTE[matches.image_M, matches.row_M, _TRACK_COLUMN].long()
        image_N, row_N, column_N, anchor_N = matches.index
        columns, rows = (int(size) for size in grid_2)
        offset_N = ((image_N * len(head.anchor_indices) + anchor_N) * rows + row_N) * columns + column_N
        tracked_M = matches.last_P[track_N[matches.last_P] >= 0]
        tracked_M = tracked_M[offset_N[tracked_M].argsort()]
        index = tuple(index_N[tracked_M] for index_N in (image_N, anchor_N, row_N, column_N))
        images_per_step = max(1, len(truth_BTE) // net.time_steps)
        return TrackedObjects(index, track_N[tracked_M], matches.class_M[tracked_M], index[0] // images_per_step)


def contrastive_loss(
    spec: ContrastiveSpec, head: AnchoredSpec, input_BCHW: Tensor, truth_BTE: Tensor, net: NetSpec
) -> Loss:
    """Delta and cost of a minibatch: a contrastive loss of cosine similarities.

    Reports: `count` of embeddings with both a positive and a negative, and `good`, those most similar to a positive.
    Source: AlexeyAB/darknet src/softmax_layer.c forward_contrastive_layer, src/blas.c grad_contrastive_loss_positive_f,
        grad_contrastive_loss_negative_f.
    Differs: embeddings with one track but several classes are several objects. An embedding of length 0 learns
        nothing; darknet exits.
    """
    batch, _, rows, columns = input_BCHW.shape
    objects = TrackedObjects.read(head, truth_BTE, torch.tensor((columns, rows), device=input_BCHW.device), net)
    z_BAHWD = input_BCHW.reshape(batch, len(head.anchor_indices), -1, rows, columns).permute(0, 1, 3, 4, 2)
    z_MD = z_BAHWD[objects.index]
    if not len(z_MD):
        delta_BCHW, zero = torch.zeros_like(input_BCHW), input_BCHW.new_zeros(())
        return Loss(delta_BCHW, delta_BCHW, zero, {"count": zero, "good": zero})
    length_M1 = z_MD.norm(dim=1, keepdim=True)
    unit_MD = torch.where(length_M1 > 0, z_MD / length_M1, 0.0)
    sim_MM = unit_MD @ unit_MD.T
    # pairs are compared within one class and one time step; positives are pairs of one object
    is_alike_MM = objects.class_M[:, None] == objects.class_M
    is_other_MM = ~torch.eye(len(z_MD), dtype=torch.bool, device=z_MD.device)
    is_pair_MM = is_alike_MM & (objects.time_M[:, None] == objects.time_M) & is_other_MM
    is_same_MM = is_alike_MM & (objects.track_M[:, None] == objects.track_M)
    prob_MM = _probabilities(sim_MM / spec.temperature, is_pair_MM)
    is_positive_MM = is_same_MM & is_other_MM
    negative_MM = _negative_counts(is_pair_MM, is_same_MM, is_alike_MM, max(1, spec.contrastive_neg_max)) * prob_MM
    push_MM = negative_MM - torch.where(is_positive_MM & is_pair_MM, 1 - prob_MM, 0.0)
    positives_M1 = is_positive_MM.sum(1, keepdim=True)
    # the gradient of a similarity is (u_j - sim_ij * u_i) / |z_i| with unit vectors u; darknet takes z in their place
    scale_M1 = spec.cls_normalizer / (positives_M1 * spec.temperature * length_M1)
    delta_MD = scale_M1 * ((push_MM * sim_MM).sum(1, keepdim=True) * z_MD - push_MM @ z_MD)
    delta_MD = torch.where((positives_M1 > 0) & (length_M1 > 0), delta_MD, 0.0).clamp(-spec.max_delta, spec.max_delta)

    delta_BAHWD = torch.zeros_like(z_BAHWD)
    delta_BAHWD[objects.index] = delta_MD
    delta_BCHW = delta_BAHWD.permute(0, 1, 4, 2, 3).reshape(input_BCHW.shape)
    best_positive_M, best_negative_M = (
        torch.where(is_pair_MM & is_kind_MM, sim_MM, -torch.inf).amax(1) for is_kind_MM in (is_same_MM, ~is_same_MM)
    )
    is_counted_M = best_positive_M.isfinite() & best_negative_M.isfinite()
    report = {"count": is_counted_M.sum(), "good": (is_counted_M & (best_negative_M < best_positive_M)).sum()}
    return Loss(delta_BCHW, delta_BCHW, delta_MD.square().sum(), report)


def _probabilities(similarity_MM: Tensor, is_pair_MM: Tensor) -> Tensor:
    """exp(similarity) of each pair over the sum of all other pairs with the same second embedding; at most .9999."""
    similarity_MM = torch.where(is_pair_MM, similarity_MM, -torch.inf)
    highest_1M = similarity_MM.amax(0, keepdim=True).clamp(min=-1e30)
    # darknet does not subtract the maximum, and overflows at low temperatures
    exp_MM = (similarity_MM - highest_1M).exp()
    rest_MM = exp_MM.sum(0, keepdim=True) - exp_MM
    return torch.where(rest_MM >= exp_MM, exp_MM / rest_MM.clamp(min=1e-30), _MAX_PROBABILITY)


def _negative_counts(is_pair_MM: Tensor, is_same_MM: Tensor, is_alike_MM: Tensor, maximum: int) -> Tensor:
    """Number of times each embedding is pushed away from each other one of its class.

    darknet has two nested loops with one counter: for every positive of an embedding (a round) it visits all negatives
    of its class in order, pushes, and leaves the loops after the first push at or beyond `maximum` visits. Negatives of
    another time step are counted, but do not push and do not end the loops. This is that loop in closed form.
    """
    is_candidate_MM = is_alike_MM & ~is_same_MM
    rank_MM = is_candidate_MM.cumsum(1)
    candidates_M1, rounds_M1 = is_candidate_MM.sum(1, keepdim=True), is_same_MM.sum(1, keepdim=True) - 1
    is_push_MM = is_candidate_MM & is_pair_MM & (rounds_M1 > 0)
    # in round n (from 0) the counter is n * candidates + rank when a candidate is visited
    step_M1 = candidates_M1.clamp(min=1)
    before_MM = ((maximum - rank_MM + step_M1 - 1) // step_M1).clamp(min=0).minimum(rounds_M1)
    at_or_after_MM = torch.where(is_push_MM & (before_MM < rounds_M1), before_MM * step_M1 + rank_MM, _NEVER_STOPS)
    is_last_MM = (at_or_after_MM == at_or_after_MM.amin(1, keepdim=True)) & (at_or_after_MM < _NEVER_STOPS)
    return torch.where(is_push_MM, before_MM + is_last_MM.long(), 0)
