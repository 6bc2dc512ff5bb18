"""The learning rate, policy by policy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

import darkpy
from darkpy.build import make_plan
from darkpy.config.net import NetSpec
from darkpy.errors import ConfigError, DarkpyError
from darkpy.training.optimizer import current_rate


def rates(numbers: Sequence[int], random: float = 0.5, **keys: Any) -> list[float]:
    net = NetSpec(dialect=darkpy.Dialect.ALEXEYAB, **{"learning_rate": 0.1, **keys})
    return [current_rate(net, number, lambda: random) for number in numbers]


def test_constant_is_the_default() -> None:
    assert rates([1, 1000]) == [0.1, 0.1]


def test_burn_in_grows_by_its_power_and_ends_at_its_number() -> None:
    found = rates([1, 50, 99, 100, 101], burn_in=100)
    assert found == pytest.approx([0.1 * 0.01**4, 0.1 * 0.5**4, 0.1 * 0.99**4, 0.1, 0.1])
    assert rates([50], burn_in=100, power=1.0) == pytest.approx([0.05])


def test_burn_in_goes_before_every_policy() -> None:
    keys: dict[str, Any] = {"burn_in": 10, "power": 2.0}
    for policy in (
        {"policy": "step", "step": 1, "scale": 0.1},
        {"policy": "steps", "steps": (1,), "scales": (0.1,)},
        {"policy": "exp", "gamma": 0.5},
        {"policy": "sgdr", "max_batches": 10},
    ):
        assert rates([5], **keys, **policy) == pytest.approx([0.025])


def test_step_scales_once_in_every_so_many_updates() -> None:
    found = rates([1, 9, 10, 19, 20], policy="step", step=10, scale=0.5)
    assert found == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025])


def test_steps_multiply_and_count_from_the_number_they_name() -> None:
    found = rates([1, 99, 100, 199, 200, 999], policy="steps", steps=(100, 200), scales=(0.5, 0.1))
    assert found == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.005, 0.005])


def test_steps_end_at_the_first_that_is_still_to_come() -> None:
    assert rates([150], policy="steps", steps=(200, 100), scales=(0.5, 0.1)) == [0.1]


def test_negative_step_is_behind_us_from_the_start() -> None:
    """`steps=-1,100,...` of the cfgs of yolov2-tiny-voc and its like."""
    found = rates([0, 1, 100], policy="steps", steps=(-1, 100), scales=(0.1, 10.0))
    assert found == pytest.approx([0.01, 0.01, 0.1])


def test_scales_beyond_the_steps_are_not_used() -> None:
    assert rates([10], policy="steps", steps=(5,), scales=(0.5, 0.5)) == [0.05]


@pytest.mark.parametrize("keys", ["steps=1,2\nscales=.1\n", "steps=1\n", "scales=.1\n"])
def test_step_without_its_scale_is_a_fault_of_the_cfg(keys: str) -> None:
    with pytest.raises(ConfigError, match=r"policy=steps has \d steps and \d scales"):
        make_plan(f"[net]\nwidth=2\nheight=2\nchannels=1\npolicy=steps\n{keys}[maxpool]\n")


def test_exp_decays_with_every_update() -> None:
    assert rates([1, 7], policy="exp", gamma=0.9) == pytest.approx([0.09, 0.1 * 0.9**7])


def test_poly_ends_at_zero_and_stays_there() -> None:
    found = rates([1, 50, 100, 150], policy="poly", max_batches=100)
    assert found == pytest.approx([0.1 * 0.99**4, 0.1 * 0.5**4, 0, 0])
    assert rates([150], policy="poly", max_batches=100, power=0.5) == [0]


def test_random_is_drawn_afresh() -> None:
    drawn = iter((0.5, 0.25))
    net = NetSpec(learning_rate=0.1, policy="random", power=2.0)
    assert [current_rate(net, 1, lambda: next(drawn)) for _ in range(2)] == pytest.approx([0.025, 0.00625])


def test_sigmoid_falls_around_its_step() -> None:
    found = rates([1, 90, 100, 110], policy="sigmoid", gamma=0.1, step=100)
    assert found == pytest.approx([0.1 / (1 + math.exp(0.1 * (n - 100))) for n in (1, 90, 100, 110)])
    assert found[2] == 0.05


@pytest.mark.parametrize(("gamma", "n", "rate"), [(1.0, 100_000, 0.0), (-1.0, 100_000, 0.1), (1.0, 1, 0.1)])
def test_sigmoid_far_from_its_step_does_not_overflow(gamma: float, n: int, rate: float) -> None:
    assert rates([n], policy="sigmoid", gamma=gamma, step=2000) == [rate]


def test_sgdr_falls_as_a_cosine_and_starts_anew_with_a_longer_cycle() -> None:
    low, cycle = 0.02, 10

    def on_the_way(share: float) -> float:
        return low + (0.1 - low) * (1 + math.cos(math.pi * share)) / 2

    found = rates([1, 5, 10, 11, 30, 31, 70], policy="sgdr", sgdr_cycle=cycle, learning_rate_min=low)
    wanted = [on_the_way(share) for share in (0.1, 0.5, 1, 1 / 20, 1, 1 / 40, 1)]
    assert found == pytest.approx(wanted)


def test_sgdr_without_a_cycle_lasts_to_the_end() -> None:
    found = rates([500, 1000], policy="sgdr", max_batches=1000)
    assert found == pytest.approx([1e-5 + (0.1 - 1e-5) / 2, 1e-5])


@pytest.mark.parametrize("mult", [1, 0, -3])
def test_sgdr_with_equal_cycles_comes_to_an_end(mult: int) -> None:
    first, tenth = rates([3, 93], policy="sgdr", sgdr_cycle=10, sgdr_mult=mult)
    assert first == pytest.approx(tenth)


@pytest.mark.parametrize(
    ("keys", "n"),
    [
        ({"policy": "poly"}, 1),
        ({"policy": "step", "step": 0}, 1),
        ({"policy": "exp", "gamma": 10.0}, 100_000),
        ({"policy": "step", "scale": 10.0}, 100_000),
        ({"burn_in": 10, "power": -1.0}, 0),
    ],
    ids=str,
)
def test_keys_that_give_no_number_are_an_error_with_a_hint(keys: dict[str, Any], n: int) -> None:
    with pytest.raises(DarkpyError, match=f"policy={keys.get('policy', 'constant')} gives no learning rate") as caught:
        rates([n], **keys)
    assert "max_batches in [net]" in str(caught.value.hint)
