"""Sampler of training data: everything random about a sample follows from the seed and its index."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest

from darkpy.config.net import NetSpec
from darkpy.data.augment.sampler import DarknetRandom, Sampler, SampleRngs
from darkpy.dialect import Dialect


def first(sampler: Sampler, index: int, source: int = 0) -> int:
    return next(sampler.candidates(index, source))


def rolls(rngs: SampleRngs) -> list[float]:
    return [rng.random() for rng in rngs[:4]]


def test_the_numbers_of_a_seed_stay_the_same_for_ever() -> None:
    sampler = Sampler(seed=42, count=1000)
    drawn = [list(islice(sampler.candidates(index), 3)) for index in (0, 1, 10**12)]
    assert drawn == [[375, 474, 27], [761, 744, 745], [645, 74, 976]]
    assert rolls(sampler.rngs(7)) == pytest.approx([0.226290115082, 0.95624485136, 0.235251734788, 0.414145786902])


def test_images_are_drawn_with_replacement_and_all_alike() -> None:
    sampler = Sampler(seed=1, count=50)
    drawn = Counter(first(sampler, index) for index in range(5000))
    assert set(drawn) == set(range(50))
    # chi squared with 49 degrees of freedom is below 90 in 99.97 of 100 cases
    assert sum((times - 100) ** 2 / 100 for times in drawn.values()) < 90
    assert any(first(sampler, index) == first(sampler, index + 1) for index in range(500))


def test_seeds_samples_and_sources_are_independent() -> None:
    streams = [Sampler(seed=seed, count=10**9) for seed in (0, 1, -1, 11)]
    drawn = [first(sampler, index, source) for sampler in streams for index in (0, 1, 11, 111) for source in range(4)]
    assert len(set(drawn)) == len(drawn)
    numbers = [number for sampler in streams for index in range(50) for number in rolls(sampler.rngs(index))]
    assert len(set(numbers)) == len(numbers)
    assert sum(numbers) / len(numbers) == pytest.approx(0.5, abs=0.04)


def test_pairs_share_image_geometry_and_color_but_not_the_rest() -> None:
    sampler = Sampler(seed=3, count=10**6, pairs=True)
    assert first(sampler, 6) == first(sampler, 7) != first(sampler, 8)
    shared = [one == other for one, other in zip(rolls(sampler.rngs(6)), rolls(sampler.rngs(7)), strict=True)]
    assert shared == [True, True, False, False]
    apart = Sampler(seed=3, count=10**6, pairs=True, own_geometry=True, own_color=True)
    assert not any(one == other for one, other in zip(rolls(apart.rngs(6)), rolls(apart.rngs(7)), strict=True))


def test_frames_follow_each_other_in_time_major_order_under_one_augmentation() -> None:
    sampler = Sampler(seed=5, count=1000, frames=4, minibatch=8, speed=3)
    for batch in range(20):
        shown = [first(sampler, batch * 8 + place) for place in range(8)]
        steps = {(shown[place + 2] - shown[place]) % 1000 for place in range(6)}
        assert len(steps) == 1
        assert steps <= {1, 2, 3}
        geometry, color, effects = zip(*(rolls(sampler.rngs(batch * 8 + place))[:3] for place in range(8)), strict=True)
        assert len(set(geometry)) == len(set(color)) == len(set(effects)) == 1
    assert first(sampler, 0) != first(sampler, 1)
    assert rolls(sampler.rngs(0))[0] != rolls(sampler.rngs(8))[0]


def test_the_sampler_follows_net() -> None:
    net = NetSpec(dialect=Dialect.ALEXEYAB, batch=32, subdivisions=4, time_steps=4, track=True, augment_speed=5)
    assert Sampler.for_detector(net, 9, 1) == Sampler(seed=1, count=9, frames=4, minibatch=32, speed=5)
    net = NetSpec(dialect=Dialect.ALEXEYAB, contrastive=True, contrastive_color=True)
    sampler = Sampler.for_detector(net, 9, 1)
    assert (sampler.pairs, sampler.own_geometry, sampler.own_color, sampler.frames) == (True, False, True, 1)
    sampler = Sampler.for_classifier(replace(net, track=True, time_steps=4), 9, 1)
    assert (sampler.pairs, sampler.own_geometry, sampler.own_color, sampler.frames) == (True, True, True, 1)


def test_scale_is_as_often_below_1_as_above_and_reaches_its_most() -> None:
    rng = DarknetRandom("scale")
    factors = [rng.rand_scale(1.5) for _ in range(4000)]
    above = [factor for factor in factors if factor > 1]
    assert len(above) / 4000 == pytest.approx(0.5, abs=0.03)
    assert min(factors) == pytest.approx(1 / 1.5, abs=0.01)
    assert max(factors) == pytest.approx(1.5, abs=0.01)
    assert sum(above) / len(above) == pytest.approx(1.25, abs=0.01)
    below = [1 / factor for factor in factors if factor < 1]
    assert sum(below) / len(below) == pytest.approx(1.25, abs=0.01)


def test_whole_numbers_include_both_ends_in_either_order() -> None:
    rng = DarknetRandom("whole")
    assert {rng.rand_int(3, 1) for _ in range(100)} == {1, 2, 3}
    assert rng.rand_int(2, 2) == 2
