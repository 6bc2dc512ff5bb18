"""Pooling windows: how many fit, and how far they reach beyond the input."""

from __future__ import annotations

from itertools import product

import pytest

from darkpy.errors import ShapeError
from darkpy.ops.pooling import PoolingWindow
from darkpy.shapes import Shape

WINDOWS = [
    (PoolingWindow(size, padding, (down, across)), Shape(2, h, w))
    for size, padding, down, across, (h, w) in product(
        (1, 2, 3, 5), (0, 1, 2, 4, 7), (1, 2, 6), (1, 3), ((1, 8), (7, 5), (6, 6))
    )
    if min(h, w) + padding >= size
]


def test_sides_count_the_windows_that_lie_within_the_padded_input() -> None:
    for window, x in WINDOWS:
        for side, length, stride in zip(window.output_sides(x), (x.h, x.w), window.strides, strict=True):
            starts = range(0, length + window.padding - window.size + 1, stride)
            assert side == len(starts), (window, x)


def test_borders_are_where_the_outermost_windows_begin_and_end() -> None:
    for window, x in WINDOWS:
        before, below, right = window.borders(x)
        assert before == window.padding // 2
        for side, length, stride, beyond in zip(
            window.output_sides(x), (x.h, x.w), window.strides, (below, right), strict=True
        ):
            cells = {n * stride - window.padding // 2 + offset for n in range(side) for offset in range(window.size)}
            assert beyond == max(0, max(cells) - (length - 1)), (window, x)


@pytest.mark.parametrize(("size", "before", "after"), [(2, 0, 1), (3, 1, 1), (4, 1, 2), (5, 2, 2)])
def test_odd_cell_of_the_padding_lies_below_and_on_the_right(size: int, before: int, after: int) -> None:
    assert PoolingWindow(size, size - 1, (1, 1)).borders(Shape(1, 9, 9)) == (before, after, after)


def test_windows_that_end_early_reach_beyond_on_no_side() -> None:
    assert PoolingWindow(2, 1, (2, 2)).borders(Shape(1, 8, 6)) == (0, 0, 0)
    assert PoolingWindow(1, 0, (5, 5)).borders(Shape(1, 8, 6)) == (0, 0, 0)


def test_window_larger_than_the_padded_input_is_refused() -> None:
    assert PoolingWindow(6, 2, (1, 1)).output_sides(Shape(1, 4, 9)) == (1, 6)
    with pytest.raises(ShapeError, match="size=7 is larger than the input, 9 x 4 x 1 with padding=2"):
        PoolingWindow(7, 2, (1, 1)).output_sides(Shape(1, 4, 9))
