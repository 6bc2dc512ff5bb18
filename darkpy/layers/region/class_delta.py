"""What a [region] learns of classes.

Legend: B images, H W the grid, A anchors, N times that a place is told a class, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from darkpy.layers.region.classes import checked_tree, class_tree
from darkpy.ops.targets import last_writer

if TYPE_CHECKING:
    from darkpy.layers.region import RegionSpec

_FOCAL_ALPHA = 0.5
_TINY = 1e-15


@dataclass(frozen=True, slots=True)
class Told:
    """Which places are told which class, in order, and with what weight."""

    place_N: Tensor
    class_N: Tensor
    weight_N: Tensor

    @staticmethod
    def join(*parts: Told) -> Told:
        return Told(
            torch.cat([part.place_N for part in parts]),
            torch.cat([part.class_N for part in parts]),
            torch.cat([part.weight_N for part in parts]),
        )


def pull_classes(spec: RegionSpec, pull_BHWAK: Tensor, prob_BHWAK: Tensor, told: Told) -> Tensor:
    """Write into `pull_BHWAK` what the places are told; of a class that is spoken of twice the last word counts.

    Returns: the probabilities of the true classes, summed.
    Source: pjreddie/darknet and AlexeyAB/darknet src/region_layer.c delta_region_class.
    Differs: where several truths of pjreddie's logistic classes share a place, all of theirs are true; darknet forgets
        the earlier ones if the score of class 0 is exactly 0 or 1.
    """
    grid = prob_BHWAK.shape[:4]
    place = _unravelled(told.place_N, grid)
    prob_NK = prob_BHWAK[place]
    is_told_NK, is_true_NK, said_N = _words(spec, prob_NK, told, grid.numel())
    weight_N = spec.class_scale * told.weight_N
    if spec.focal_loss and spec.tree is None:
        weight_N = weight_N * _focal(said_N)
    number_N = torch.arange(len(prob_NK), device=prob_NK.device)
    last_N = last_writer(told.place_N, grid.numel())
    teller_NK = torch.where(is_told_NK, number_N[:, None], -1)
    teller_NK = torch.full_like(teller_NK, -1).scatter_reduce(
        0, last_N[:, None].expand_as(teller_NK), teller_NK, "amax"
    )
    # all that tell a place something write the same there, which the last one of them has gathered
    teller_NK = teller_NK[last_N]
    heard_NK = teller_NK.clamp(min=0)
    is_true_NK = is_true_NK.gather(0, heard_NK)
    wanted_NK = weight_N[heard_NK] * (is_true_NK.to(prob_NK.dtype) - prob_NK)
    pull_BHWAK[place] = torch.where(teller_NK >= 0, wanted_NK, 0.0)
    return said_N.sum()


def _words(spec: RegionSpec, prob_NK: Tensor, told: Told, places: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of which classes something is said, which are true, and how probable the true one is."""
    class_N1 = told.class_N[:, None]
    if spec.tree is not None:
        tree = class_tree(checked_tree(spec.tree, spec.classes), prob_NK.device)
        return *tree.lineage(told.class_N), tree.along_lineage(prob_NK[:, None], told.class_N)[:, 0]
    is_true_NK = torch.zeros_like(prob_NK, dtype=torch.bool).scatter(1, class_N1, True)
    said_N = prob_NK.gather(1, class_N1)[:, 0]
    if not spec.has_many_labels:
        return torch.ones_like(is_true_NK), is_true_NK, said_N
    # the first truth at a place speaks of all classes, the others of theirs alone
    backwards_N = torch.arange(len(prob_NK) - 1, -1, -1, device=prob_NK.device)
    is_first_N = last_writer(told.place_N.flip(0), places).flip(0) == backwards_N
    return is_true_NK | is_first_N[:, None], is_true_NK, torch.where(is_first_N, said_N, 0.0)


def _focal(prob_N: Tensor) -> Tensor:
    """The factor of the focal loss, gamma 2, by the probability of the true class."""
    prob_N = prob_N + _TINY
    return -_FOCAL_ALPHA * (1 - prob_N) * (2 * prob_N * prob_N.log() + prob_N - 1)


def _unravelled(place_N: Tensor, grid: Sequence[int]) -> tuple[Tensor, ...]:
    """As torch.unravel_index, which would have a GPU waited for."""
    indices = []
    for size in reversed(grid):
        indices.append(place_N % size)
        place_N = place_N // size
    return tuple(reversed(indices))
