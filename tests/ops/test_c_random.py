"""Random numbers of the C library."""

from __future__ import annotations

import pytest

from darkpy.ops.c_random import CRandom

NUMBERS = {  # of glibc 2.36: the first three, and the one after 1000 more
    0: (1804289383, 846930886, 1681692777),
    1: (1804289383, 846930886, 1681692777),
    7: (1045618677, 1863967299, 1272579899),
    1700000000: (280491303, 626398474, 65378190),
    2147483648: (1336741213, 1210407648, 1447044896),
    4294967295: (254925627, 1205188300, 366127624),
}


@pytest.mark.parametrize("seed", NUMBERS)
def test_numbers_are_those_of_glibc(seed: int) -> None:
    random = CRandom(seed)
    assert tuple(random.rand() for _ in range(3)) == NUMBERS[seed]


def test_the_sequence_goes_on_as_in_glibc() -> None:
    random = CRandom(7)
    for _ in range(1006):
        random.rand()
    assert random.rand() == 126659832


@pytest.mark.parametrize("count", [0, 1, 2, 30, 31, 1000])
def test_skipped_numbers_are_those_that_would_have_been_drawn(count: int) -> None:
    skipping, drawing = CRandom(5), CRandom(5)
    skipping.skip(count)
    for _ in range(count):
        drawing.rand()
    assert [skipping.rand() for _ in range(40)] == [drawing.rand() for _ in range(40)]


def test_uniform_numbers_are_single_precision() -> None:
    assert CRandom(0).uniform() == pytest.approx(1804289383 / 2147483647, abs=1e-7)
