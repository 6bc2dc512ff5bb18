"""Truths in the layouts of darknet's loss layers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from darkpy.config.tree import read_tree
from darkpy.data.loading.targets import UNKNOWN_CLASS, fill_boxes, fill_cells, fill_classes, fill_tree


def test_boxes_come_first_then_zeros() -> None:
    boxes_N5 = torch.tensor([[0.1, 0.2, 0.3, 0.4, 5], [0.5, 0.6, 0.7, 0.8, 9]])
    truth_TE = fill_boxes(boxes_N5, 4, 5)
    assert torch.equal(truth_TE[:2], boxes_N5)
    assert torch.equal(truth_TE[2:], torch.zeros(2, 5))
    # AlexeyAB's sixth number stays 0 where no track is known; what is too many is left out
    assert fill_boxes(boxes_N5, 1, 6).tolist() == [[*boxes_N5[0].tolist(), 0]]
    assert torch.equal(fill_boxes(torch.zeros(0, 6), 3, 6), torch.zeros(3, 6))


def test_in_each_cell_the_first_box_wins() -> None:
    boxes_N5 = torch.tensor(
        [[0.6, 0.1, 0.2, 0.3, 2], [0.9, 0.4, 0.5, 0.5, 0], [0.25, 0.75, 0.1, 0.1, 1], [1.0, 1.0, 0.01, 0.01, 0]]
    )
    truth_SE = fill_cells(boxes_N5, 2, 3)
    expected = [
        [0] * 8,
        [1, 0, 0, 1, 0.2, 0.2, 0.2, 0.3],
        [1, 0, 1, 0, 0.5, 0.5, 0.1, 0.1],
        # a center on the far edge is in the last cell
        [1, 1, 0, 0, 1, 1, 0.01, 0.01],
    ]
    torch.testing.assert_close(truth_SE, torch.tensor(expected))
    assert torch.equal(fill_cells(torch.zeros(0, 5), 7, 20), torch.zeros(49, 25))


def test_classes_are_ones_and_may_be_smoothed() -> None:
    assert fill_classes([2], 4).tolist() == [0, 0, 1, 0]
    assert fill_classes([0, 3], 4).tolist() == [1, 0, 0, 1]
    assert fill_classes([], 2).tolist() == [0, 0]
    assert fill_classes([1], 5, 0.1).tolist() == pytest.approx([0.025, 0.9, 0.025, 0.025, 0.025])
    assert fill_classes([0], 1, 0.1).tolist() == pytest.approx([0.9])


def test_in_a_tree_ancestors_are_true_and_unlabeled_groups_unknown(tmp_path: Path) -> None:
    (tmp_path / "x.tree").write_text("animal -1\nplant -1\ncat 0\ndog 0\noak 1\nfir 1\npoodle 3\nhusky 3\n")
    tree = read_tree(tmp_path / "x.tree")
    nothing = [UNKNOWN_CLASS, UNKNOWN_CLASS]
    assert fill_tree([7], tree).tolist() == [1, 0, 0, 1, *nothing, 0, 1]
    assert fill_tree([4], tree).tolist() == [0, 1, *nothing, 1, 0, *nothing]
    assert fill_tree([], tree).tolist() == [UNKNOWN_CLASS] * 8
