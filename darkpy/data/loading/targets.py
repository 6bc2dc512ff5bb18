"""What a loss layer is trained against, in the layouts that darknet's loss layers read.

Letters: N boxes, T rows of a truth, E numbers of a row, S cells of a grid, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from darkpy.config.tree import Tree

UNKNOWN = -1234.0
"""darknet's SECRET_NUM: of this group of a class tree nothing is known, and nothing is learnt."""


def fill_boxes(boxes_N: Tensor, most: int, entries: int) -> Tensor:
    """The truth of [yolo], [Gaussian_yolo] and [region]: x, y, w, h, class, and for AlexeyAB the object's track.

    Shapes:  (most, entries); rows of zeros follow the boxes.
    Source:  pjreddie/darknet and AlexeyAB/darknet src/data.c fill_truth_detection
    """
    truth_TE = torch.zeros(most, entries)
    boxes_N = boxes_N[:most, :entries]
    truth_TE[: boxes_N.shape[0], : boxes_N.shape[1]] = boxes_N
    return truth_TE


def fill_cells(boxes_N: Tensor, side: int, classes: int) -> Tensor:
    """The truth of [detection]: in each cell 1, the class, x and y within the cell, w, h of the first box there.

    Shapes:  (side * side, 1 + classes + 4), row by row.
    Source:  pjreddie/darknet src/data.c fill_truth_region
    """
    truth_SE = torch.zeros(side * side, 1 + classes + 4)
    column_row_N2 = (boxes_N[:, :2] * side).long().clamp_(max=side - 1)
    cells, first = np.unique((column_row_N2 @ torch.tensor((1, side))).numpy(), return_index=True)
    box_N, cell_N = boxes_N[first], torch.from_numpy(cells)
    truth_SE[cell_N, 0] = 1
    truth_SE[cell_N, 1 + box_N[:, 4].long()] = 1
    truth_SE[cell_N, -4:-2] = box_N[:, :2] * side - column_row_N2[first]
    truth_SE[cell_N, -2:] = box_N[:, 2:4]
    return truth_SE


def fill_classes(found: Sequence[int], classes: int, smooth: float = 0.0) -> Tensor:
    """The truth of a classifier: 1 for each class found, 0 for the others; `smooth` moves some of it to those.

    Shapes:  (classes,).
    Source:  AlexeyAB/darknet src/data.c fill_truth_smooth
    """
    truth_K = torch.full((classes,), smooth / max(1, classes - 1))
    truth_K[list(found)] = 1 - smooth
    return truth_K


def fill_tree(found: Sequence[int], tree: Tree) -> Tensor:
    """The truth of a classifier with a tree: 1 for the classes found and all above them, 0 for the others of their
    groups, UNKNOWN in the groups that hold none of them.

    Shapes:  (classes,).
    Source:  pjreddie/darknet src/data.c fill_hierarchy
    """
    known: set[int] = set()
    for number in found:
        while number >= 0:
            known.add(number)
            number = tree.parent[number]
    groups = torch.tensor(sorted({tree.group[number] for number in known}), dtype=torch.long)
    truth_K = torch.where(torch.isin(torch.tensor(tree.group), groups), 0.0, UNKNOWN)
    truth_K[sorted(known)] = 1
    return truth_K
