"""Scales and curves: where numbers lie, and that no peak is lost."""

from __future__ import annotations

import math

import pytest

from darkpy.diagnostics.report.plot import Scale, envelope, format_tick, scale_for


def test_ends_lie_at_their_pixels_and_all_else_between() -> None:
    scale = Scale(0, 10, 100, 0)
    assert (scale(0), scale(10), scale(5), scale(99), scale(-1)) == (100, 0, 50, 0, 100)
    assert Scale(1, 100, 0, 2, logarithmic=True)(10) == pytest.approx(1)
    assert Scale(3, 3, 0, 10)(3) == 5


def test_ticks_are_round_numbers_between_both_ends() -> None:
    assert Scale(0, 10, 0, 1).ticks() == [0, 2, 4, 6, 8, 10]
    assert Scale(0.0013, 0.0061, 0, 1).ticks() == pytest.approx([0.002, 0.003, 0.004, 0.005, 0.006])
    assert Scale(1e-4, 1, 0, 1, logarithmic=True).ticks() == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1])
    assert Scale(1.4, 55, 0, 1, logarithmic=True).ticks() == pytest.approx([2, 5, 10, 20, 50])
    assert Scale(0.9, 120, 0, 1, logarithmic=True).ticks() == pytest.approx([1, 3, 10, 30, 100])
    assert Scale(5e-324, 1.7e308, 0, 1, logarithmic=True).ticks()
    assert len(Scale(1e-30, 1e30, 0, 1, logarithmic=True).ticks()) <= 6


def test_numbers_far_apart_are_shown_by_logarithms() -> None:
    assert scale_for([1, 1000], 0, 1).logarithmic
    assert not scale_for([1, 20], 0, 1).logarithmic
    assert not scale_for([0, 1000], 0, 1).logarithmic
    assert scale_for([math.nan, math.inf], 0, 1) == Scale(0, 1, 0, 1)
    assert scale_for([5, 7], 0, 1, from_zero=True).low == 0


def test_a_long_curve_keeps_its_peaks_and_breaks_where_there_is_no_number() -> None:
    points = [(n, 1.0) for n in range(1000)]
    points[500] = (500, 9.0)
    (piece,) = envelope(points, 50)
    assert (500, 9.0) in piece
    assert len(piece) <= 100
    points[700] = (700, math.nan)
    assert len(envelope(points, 50)) == 2
    assert envelope([(1, math.nan)], 50) == []


def test_numbers_are_written_as_short_as_they_can_be_read() -> None:
    assert [format_tick(value) for value in (0, 0.5, 12345.6, 1000, 1e-7, 2e9, 3e12, 0.002)] == [
        *("0", "0.5", "12346", "1000", "1e-7", "2e9", "3e12", "0.002")
    ]
