"""Class scores of a [region] with a class tree (YOLO9000).

Legend: M candidates, N truths, K classes, G groups of siblings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from darkpy.config.tree import Tree, read_tree
from darkpy.errors import ShapeError
from darkpy.ops.hierarchy import Hierarchy

_LIKELY_CLASS_PROBABILITY = 0.5  # hard-coded in AlexeyAB's get_region_boxes


def checked_tree(path: Path, classes: int) -> Tree:
    """Read a tree file. Raises: ShapeError when its number of classes is not the head's."""
    tree = read_tree(path)
    if tree.classes != classes:
        raise ShapeError(f"{path} has {tree.classes} classes, but classes={classes}")
    return tree


@dataclass(frozen=True, eq=False, slots=True)
class ClassTree:
    """A class tree on a device; the head's scores are probabilities of a class given its parent."""

    hierarchy: Hierarchy
    group_K: torch.Tensor
    child_K: torch.Tensor
    parent_G: torch.Tensor

    def absolute(self, class_MK: torch.Tensor) -> torch.Tensor:
        """Absolute class probabilities: products along the path from the root."""
        return self.hierarchy.absolute(class_MK, 1)

    def lineage(self, class_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Masks of the classes a truth determines (groups of it and of its ancestors), and of the true ones."""
        is_known_NK = torch.zeros(len(class_N), len(self.group_K), dtype=torch.bool, device=class_N.device)
        is_true_NK = is_known_NK.clone()
        for exists_N1, class_N1 in self._upwards(class_N):
            is_known_NK |= exists_N1 & (self.group_K == self.group_K[class_N1])
            is_true_NK |= exists_N1 & (torch.arange(len(self.group_K), device=class_N.device) == class_N1)
        return is_known_NK, is_true_NK

    def along_lineage(self, prob_NMK: torch.Tensor, class_N: torch.Tensor) -> torch.Tensor:
        """Absolute probability of each truth's class, at M candidates of its own.

        Source: pjreddie/darknet src/tree.c get_hierarchy_probability.
        """
        prob_NM = torch.ones_like(prob_NMK[..., 0])
        for exists_N1, class_N1 in self._upwards(class_N):
            class_NM1 = class_N1[:, None].expand(*prob_NM.shape, 1)
            prob_NM = torch.where(exists_N1, prob_NM * prob_NMK.gather(2, class_NM1)[..., 0], prob_NM)
        return prob_NM

    def _upwards(self, class_N: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Walk from classes to the root, level by level (17 in YOLO9000's tree): is there a class, and which."""
        class_N1 = class_N[:, None]
        while (class_N1 >= 0).any():
            yield class_N1 >= 0, class_N1.clamp(min=0)
            class_N1 = torch.where(class_N1 >= 0, self.parent_G[self.group_K[class_N1.clamp(min=0)]], -1)

    def descend(self, prob_MK: torch.Tensor, thresh: float) -> torch.Tensor:
        """Descend from the most probable root to the most probable children while their product exceeds `thresh`.

        As in darknet, the product is of absolute probabilities, which hold their parents' already, so that it
        stops early.
        Source: pjreddie/darknet src/tree.c hierarchy_top_prediction.
        """
        best_MG, class_MG = self._best_of_groups(prob_MK.nan_to_num())
        group_M1 = torch.zeros_like(class_MG[:, :1])
        product_M1 = torch.ones_like(best_MG[:, :1])
        result_M1 = torch.full_like(group_M1, -1)
        while (result_M1 < 0).any():
            class_M1 = class_MG.gather(1, group_M1)
            product_M1 = product_M1 * best_MG.gather(1, group_M1)
            is_likely_M1 = product_M1 > thresh
            child_M1 = self.child_K[class_M1]
            ends_M1 = torch.where(is_likely_M1 | (group_M1 == 0), class_M1, self.parent_G[group_M1])
            result_M1 = torch.where((result_M1 < 0) & (~is_likely_M1 | (child_M1 < 0)), ends_M1, result_M1)
            group_M1 = torch.where(result_M1 < 0, child_M1, group_M1)
        return result_M1[:, 0]

    def _best_of_groups(self, prob_MK: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Highest probability in each group, and the first class that has it."""
        candidates, classes = prob_MK.shape
        group_MK = self.group_K.expand(candidates, classes)
        best_MG = prob_MK.new_zeros(candidates, len(self.parent_G)).scatter_reduce(1, group_MK, prob_MK, "amax")
        index_K = torch.arange(classes, device=prob_MK.device)
        index_MK = torch.where(prob_MK == best_MG.gather(1, group_MK), index_K, classes - 1)
        first_MG = group_MK.new_full(best_MG.shape, classes - 1).scatter_reduce(1, group_MK, index_MK, "amin")
        return best_MG, first_MG


@lru_cache(maxsize=4)
def class_tree(tree: Tree, device: torch.device) -> ClassTree:
    """The tree on a device, cached: a frozen spec cannot hold it, and every batch needs it."""
    parent_G = [tree.parent[first] for first in tree.group_offset]
    return ClassTree(
        Hierarchy(tree.parent, tree.group_size).to(device),
        *(torch.tensor(indices, device=device) for indices in (tree.group, tree.child, parent_G)),
    )


def last_likely_class(prob_MK: torch.Tensor) -> torch.Tensor:
    """Keep the last class above one half of each candidate, and set the others to 0.

    Source: AlexeyAB/darknet src/region_layer.c get_region_boxes.
    """
    rank_K = torch.arange(1, prob_MK.shape[1] + 1, device=prob_MK.device)
    rank_MK = rank_K * (prob_MK > _LIKELY_CLASS_PROBABILITY)
    is_last_MK = (rank_MK > 0) & (rank_MK == rank_MK.amax(1, keepdim=True))
    return torch.where(is_last_MK, prob_MK, 0.0)
