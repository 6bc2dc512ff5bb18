"""Class delta of [region].

Legend: B images, H W the grid, A anchors, N class targets (several may be of one prediction), K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from darkpy.layers.region.classes import checked_tree, class_tree
from darkpy.ops.matching import last_writer

if TYPE_CHECKING:
    from darkpy.layers.region import RegionSpec

_FOCAL_ALPHA = 0.5
_LOG_EPS = 1e-15  # keeps the logarithm of the focal loss finite


@dataclass(frozen=True, slots=True)
class ClassTargets:
    """Class targets in the order in which darknet writes them.

    index_N: flat index of the prediction in (B, H, W, A). weight_N: of the delta.
    """

    index_N: Tensor
    class_N: Tensor
    weight_N: Tensor

    @staticmethod
    def join(*parts: ClassTargets) -> ClassTargets:
        return ClassTargets(
            torch.cat([part.index_N for part in parts]),
            torch.cat([part.class_N for part in parts]),
            torch.cat([part.weight_N for part in parts]),
        )


def write_class_delta(spec: RegionSpec, delta_BHWAK: Tensor, prob_BHWAK: Tensor, targets: ClassTargets) -> Tensor:
    """Write the class delta of all targets; if several set the same class of a prediction, the last one wins.

    Returns: the sum of the probabilities of the true classes.
    Source: pjreddie/darknet and AlexeyAB/darknet src/region_layer.c delta_region_class.
    Differs: if several truths of pjreddie's logistic classes share a prediction, all their classes are true; darknet
        loses the earlier ones if the score of class 0 is exactly 0 or 1.
    """
    grid = prob_BHWAK.shape[:4]
    # torch.unravel_index would synchronize with a GPU
    indices, flat_N = [], targets.index_N
    for size in reversed(grid):
        indices.append(flat_N % size)
        flat_N = flat_N // size
    index = tuple(reversed(indices))
    prob_NK = prob_BHWAK[index]
    is_set_NK, is_true_NK, true_prob_N = _read_targets(spec, prob_NK, targets, grid.numel())
    weight_N = spec.class_scale * targets.weight_N
    if spec.focal_loss and spec.tree is None:
        focal_prob_N = true_prob_N + _LOG_EPS  # gamma 2, as in delta_yolo_class
        weight_N = weight_N * (
            -_FOCAL_ALPHA * (1 - focal_prob_N) * (2 * focal_prob_N * focal_prob_N.log() + focal_prob_N - 1)
        )
    order_N = torch.arange(len(prob_NK), device=prob_NK.device)
    last_N = last_writer(targets.index_N, grid.numel())
    # for each prediction (row of its last target) and class: the last target that sets the class
    writer_NK = torch.where(is_set_NK, order_N[:, None], -1)
    writer_NK = torch.full_like(writer_NK, -1).scatter_reduce(
        0, last_N[:, None].expand_as(writer_NK), writer_NK, "amax"
    )
    # duplicate indices below write in any order: all targets of a prediction write the same values
    writer_NK = writer_NK[last_N]
    source_NK = writer_NK.clamp(min=0)
    is_true_NK = is_true_NK.gather(0, source_NK)
    delta_NK = weight_N[source_NK] * (is_true_NK.to(prob_NK.dtype) - prob_NK)
    delta_BHWAK[index] = torch.where(writer_NK >= 0, delta_NK, 0.0)
    return true_prob_N.sum()


def _read_targets(
    spec: RegionSpec, prob_NK: Tensor, targets: ClassTargets, predictions: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the classes that each target sets, those that are true, and the probability of the target's class."""
    class_N1 = targets.class_N[:, None]
    if spec.tree is not None:
        tree = class_tree(checked_tree(spec.tree, spec.classes), prob_NK.device)
        return *tree.lineage(targets.class_N), tree.along_lineage(prob_NK[:, None], targets.class_N)[:, 0]
    is_true_NK = torch.zeros_like(prob_NK, dtype=torch.bool).scatter(1, class_N1, True)
    prob_N = prob_NK.gather(1, class_N1)[:, 0]
    if not spec.has_many_labels:
        return torch.ones_like(is_true_NK), is_true_NK, prob_N
    # the first target of a prediction sets all classes, later ones their own alone
    backwards_N = torch.arange(len(prob_NK) - 1, -1, -1, device=prob_NK.device)
    is_first_N = last_writer(targets.index_N.flip(0), predictions).flip(0) == backwards_N
    return is_true_NK | is_first_N[:, None], is_true_NK, torch.where(is_first_N, prob_N, 0.0)
