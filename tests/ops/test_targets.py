"""Target boxes: ends of lists, rejected rows, and the last writer of a position."""

from __future__ import annotations

import math

import pytest
import torch

from darkpy.ops.matching import is_listed, last_writer, read_target_boxes

BOX = [0.5, 0.25, 0.2, 0.3, 2.0]
END = [0.0] * 5


def truth(*images: list[list[float]], most: int = 6) -> torch.Tensor:
    return torch.tensor([rows + [END] * (most - len(rows)) for rows in images])


def test_a_list_ends_at_the_first_x_of_zero_and_what_follows_is_not_read() -> None:
    found = read_target_boxes(truth([BOX, END, BOX], [], [BOX, BOX]), 3)
    assert found.image_N.tolist() == [0, 2, 2]
    assert found.row_N.tolist() == [0, 0, 1]
    assert found.class_N.tolist() == [2, 2, 2]
    assert int(found.rejected) == 0
    assert is_listed(truth([BOX, END, BOX])).tolist() == [[True, False, False, False, False, False]]


NO_BOX = {
    0: (math.nan, 1.1, -0.1, 999999.0),
    1: (math.nan, math.inf, -0.1),
    2: (0.0, math.nan),
    3: (-0.2, math.inf),
    4: (3.0, -1.0, math.nan),
}


@pytest.mark.parametrize(("entry", "value"), [(entry, value) for entry, bad in NO_BOX.items() for value in bad])
def test_a_row_that_is_no_box_is_left_out_and_counted_and_its_list_goes_on(entry: int, value: float) -> None:
    bad = list(BOX)
    bad[entry] = value
    found = read_target_boxes(truth([bad, BOX]), 3)
    assert found.row_N.tolist() == [1]
    assert int(found.rejected) == 1
    assert found.frac_BT4[0].tolist() == [[0.0] * 4, pytest.approx(BOX[:4])]


def test_the_class_may_stand_behind_more_coordinates() -> None:
    row = torch.tensor([[[0.5, 0.5, 0.1, 0.1, 0.7, 0.8, 1.0]]])
    assert read_target_boxes(row, 3, class_entry=6).class_N.tolist() == [1]


def test_a_center_on_the_far_edge_lies_in_the_last_cell() -> None:
    edge = [1.0, 1.0, 0.1, 0.1, 0.0]
    column_N, row_N = read_target_boxes(truth([BOX, edge]), 3).cells(13, 7)
    assert (column_N.tolist(), row_N.tolist()) == ([6, 12], [1, 6])


def test_the_last_writer_to_a_place_is_heard() -> None:
    assert last_writer(torch.tensor([3, 1, 3, 0, 1, 3]), 5).tolist() == [5, 4, 5, 3, 4, 5]
    assert last_writer(torch.tensor([], dtype=torch.long), 5).tolist() == []
