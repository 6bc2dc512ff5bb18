"""Targets of a loss, in the layouts that darknet's loss layers read; `truth` is darknet's word for them.

Letters: N boxes, T rows of a target, E numbers of a row, S cells of a grid, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from darkpy.config.tree import Tree

UNKNOWN_CLASS = -1234.0
"""darknet's SECRET_NUM: the class belongs to a group of the tree that this image does not label; it has no loss."""


def fill_boxes(boxes_N: Tensor, max_boxes: int, entries: int) -> Tensor:
    """Make the target of [yolo], [Gaussian_yolo] and [region]: x, y, w, h, class, and AlexeyAB's track.

    Shapes:  (max_boxes, entries); rows of zeros follow the boxes.
    Source:  pjreddie/darknet and AlexeyAB/darknet src/data.c fill_truth_detection
    """
    truth_TE = torch.zeros(max_boxes, entries)
    boxes_N = boxes_N[:max_boxes, :entries]
    truth_TE[: boxes_N.shape[0], : boxes_N.shape[1]] = boxes_N
    return truth_TE


def fill_cells(boxes_N: Tensor, side: int, classes: int) -> Tensor:
    """Make the target of [detection]: in each cell 1, the class, x and y within the cell, w, h of its first box.

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


def fill_classes(class_ids: Sequence[int], classes: int, smooth: float = 0.0) -> Tensor:
    """Make the target of a classifier: 1 for each class of the image, else 0; `smooth` spreads a part over the others.

    Shapes:  (classes,).
    Source:  AlexeyAB/darknet src/data.c fill_truth_smooth
    """
    truth_K = torch.full((classes,), smooth / max(1, classes - 1))
    truth_K[list(class_ids)] = 1 - smooth
    return truth_K


def fill_tree(class_ids: Sequence[int], tree: Tree) -> Tensor:
    """Make the target of a classifier with a class tree.

    1 for the classes of the image and their ancestors, 0 for the other classes of their groups, UNKNOWN_CLASS in the
    groups that contain none of them.

    Shapes:  (classes,).
    Source:  pjreddie/darknet src/data.c fill_hierarchy
    """
    known: set[int] = set()
    for class_id in class_ids:
        while class_id >= 0:
            known.add(class_id)
            class_id = tree.parent[class_id]
    groups = torch.tensor(sorted({tree.group[class_id] for class_id in known}), dtype=torch.long)
    truth_K = torch.where(torch.isin(torch.tensor(tree.group), groups), 0.0, UNKNOWN_CLASS)
    truth_K[sorted(known)] = 1
    return truth_K
