"""Random sizes of the input in each dialect's range, from the seed and the number of updates alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from darkpy.config.net import NetSpec
from darkpy.data.augment.sampler import classifier_size, detector_minibatch, detector_size
from darkpy.dialect import Dialect

PJREDDIE = NetSpec(dialect=Dialect.PJREDDIE, width=416, height=416, max_batches=100_000, random=True)
ALEXEYAB = NetSpec(dialect=Dialect.ALEXEYAB, width=416, height=416, max_batches=100_000)


def detector_sizes(net: NetSpec, random: float, seed: int = 1) -> set[tuple[int, int]]:
    return {detector_size(net, random, batch_num, seed) for batch_num in range(10, 8000, 10)}


@pytest.mark.parametrize("net", [PJREDDIE, ALEXEYAB])
def test_without_random_the_size_is_that_of_net(net: NetSpec) -> None:
    assert detector_sizes(net, 0) == {(416, 416)}


@pytest.mark.parametrize("net", [PJREDDIE, ALEXEYAB])
def test_a_size_stays_for_ten_updates_and_belongs_to_the_seed(net: NetSpec) -> None:
    sizes = [detector_size(net, 1, batch_num, 5) for batch_num in range(100, 300)]
    assert all(len(set(sizes[start : start + 10])) == 1 for start in range(0, 200, 10))
    assert len(set(sizes)) > 5
    assert sizes != [detector_size(net, 1, batch_num, 6) for batch_num in range(100, 300)]


def test_pjreddies_are_square_and_end_with_the_largest() -> None:
    assert detector_sizes(PJREDDIE, 1) == {(side, side) for side in range(320, 609, 32)}
    assert {detector_size(PJREDDIE, 1, batch_num, 1) for batch_num in range(99_810, 100_000)} == {(608, 608)}


def test_alexeyabs_are_a_factor_of_1_4_apart_and_a_step_more() -> None:
    assert detector_sizes(ALEXEYAB, 1) == {(side, side) for side in range(320, 609, 32)}
    for batch_num in (0, 9, 99_910, 99_999):
        assert detector_size(ALEXEYAB, 1, batch_num, 1) == (608, 608)


def test_alexeyabs_keep_the_sides_and_use_the_value_and_the_step() -> None:
    net = NetSpec(dialect=Dialect.ALEXEYAB, width=608, height=304, max_batches=100_000, resize_step=16)
    sizes = detector_sizes(net, 1.2)
    assert max(sizes) == (int(1.2 * 608 / 16 + 1.5) * 16, int(1.2 * 304 / 16 + 1.5) * 16)
    assert all(w % 16 == h % 16 == 0 and abs(w - 2 * h) <= 32 for w, h in sizes)
    # below 1 no side grows by the extra step
    assert {h for w, h in sizes if w < 608} <= set(range(240, 305, 16))


def test_classifiers_change_every_forty_updates() -> None:
    sizes = [classifier_size(PJREDDIE, batch_num, 1) for batch_num in range(8000)]
    assert all(len(set(sizes[start : start + 40])) == 1 for start in range(0, 8000, 40))
    assert set(sizes) == {(side, side) for side in range(128, 449, 32)}
    assert classifier_size(ALEXEYAB, 7, 1) == (416, 416)


DYNAMIC = replace(ALEXEYAB, batch=64, subdivisions=8, dynamic_minibatch=True)


@pytest.mark.parametrize(
    ("size", "images"),
    [
        ((608, 608), 8),  # the largest one
        ((576, 576), 8),  # 8.9: a fifth less would be fewer than [net] asks for
        ((416, 416), 13),  # 17 of them, a fifth less
        ((320, 320), 22),  # 28
    ],
)
def test_dynamic_minibatch_fills_the_memory_of_the_largest_size(size: tuple[int, int], images: int) -> None:
    assert detector_minibatch(DYNAMIC, 1, 8, *size) == images


def test_minibatch_is_nets_without_the_key_or_without_random() -> None:
    assert detector_minibatch(DYNAMIC, 0, 8, 320, 320) == 8
    assert detector_minibatch(replace(DYNAMIC, dynamic_minibatch=False), 1, 8, 320, 320) == 8
