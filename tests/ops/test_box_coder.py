"""Numbers of a head and the boxes they mean, there and back."""

from __future__ import annotations

import pytest
import torch

from darkpy.ops.boxes import BoxCoder

GRID, NET = torch.tensor((5, 3)), torch.tensor((160, 96))
ANCHOR = torch.tensor((20.0, 30.0), dtype=torch.float64)
CODERS = [BoxCoder(GRID, NET, shift, squared) for shift in (0.0, 0.5, -0.5) for squared in (False, True)]


def test_a_box_is_its_place_in_the_cell_and_powers_of_its_anchor() -> None:
    numbers = torch.tensor((0.25, 0.5, 0.0, 1.0))
    found = BoxCoder(GRID, NET).decode(numbers, torch.tensor((2, 1)), ANCHOR)
    torch.testing.assert_close(found, torch.tensor((2.25 / 5, 1.5 / 3, 20 / 160, 30 * 2.718281828 / 96)).double())


def test_new_coords_are_squares_of_twice_the_number() -> None:
    numbers = torch.tensor((0.25, 0.5, 0.5, 1.0))
    found = BoxCoder(GRID, NET, squared_size=True).decode(numbers, torch.tensor((2, 1)), ANCHOR)
    torch.testing.assert_close(found[2:], torch.tensor((20 / 160, 4 * 30 / 96)).double())


@pytest.mark.parametrize("coder", CODERS)
def test_numbers_and_boxes_are_two_forms_of_one_thing(coder: BoxCoder) -> None:
    numbers = torch.rand(7, 4, dtype=torch.float64)
    cell = torch.stack((torch.randint(5, (7,)), torch.randint(3, (7,))), dim=1)
    torch.testing.assert_close(coder.encode(coder.decode(numbers, cell, ANCHOR), cell, ANCHOR), numbers)


@pytest.mark.parametrize(("to_center", "cell"), [(0.0, [2, 1]), (0.5, [1, 0]), (-0.5, [3, 2])])
def test_the_cell_holds_the_center_or_a_corner(to_center: float, cell: list[int]) -> None:
    assert BoxCoder(GRID, NET, to_center).cells(torch.tensor((0.5, 0.5, 0.4, 0.6))).tolist() == cell


@pytest.mark.parametrize(
    ("box", "to_center", "cell"),
    [((1.0, 1.0, 0.1, 0.1), 0.0, [4, 2]), ((0.1, 0.1, 0.9, 0.9), 0.5, [0, 0]), ((0.9, 0.9, 0.9, 0.9), -0.5, [4, 2])],
)
def test_points_on_and_beyond_the_edge_are_in_the_last_cell(
    box: tuple[float, ...], to_center: float, cell: list[int]
) -> None:
    assert BoxCoder(GRID, NET, to_center).cells(torch.tensor(box)).tolist() == cell
