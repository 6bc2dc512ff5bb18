"""`ema_alpha`: when the averages begin, what they are, when they take the weights' place."""

from __future__ import annotations

import pytest
import torch

import darkpy
from darkpy.network import Network
from darkpy.training.ema import WeightEma

CFG = """[net]
width=2
height=2
channels=1
max_batches={max_batches}
ema_alpha={alpha}

[convolutional]
filters=1
size=1
activation=linear

[cost]
"""


def made(alpha: float, max_batches: int) -> tuple[Network, WeightEma]:
    network = darkpy.load(CFG.format(alpha=alpha, max_batches=max_batches), dialect="alexeyab")
    return network, WeightEma(network)


def set_weight(network: Network, value: float) -> None:
    with torch.no_grad():
        network.get_parameter("layers.0.weights").fill_(value)


def test_averages_begin_with_the_weights_of_half_time_and_follow_slowly() -> None:
    network, averages = made(0.75, 4000)
    for batch_num, value in ((1999, 5.0), (2000, 8.0), (2001, 4.0)):
        set_weight(network, value)
        averages.follow(batch_num)
        if batch_num == 1999:
            assert not averages.arrays
    assert averages.arrays["layers.0.weights"].item() == pytest.approx(0.75 * 8 + 0.25 * 4)


def test_a_thousand_updates_before_the_end_they_take_the_weights_place() -> None:
    network, averages = made(0.5, 4000)
    for batch_num, value in ((2998, 8.0), (2999, 4.0), (3000, 100.0)):
        set_weight(network, value)
        averages.follow(batch_num)
    assert network.get_parameter("layers.0.weights").item() == 6
    assert not averages.arrays


def test_network_holds_them_for_a_while_only() -> None:
    network, averages = made(0.5, 4000)
    for batch_num, value in ((2000, 8.0), (2001, 4.0)):
        set_weight(network, value)
        averages.follow(batch_num)
    with averages.in_place():
        assert network.get_parameter("layers.0.weights").item() == 6
    assert network.get_parameter("layers.0.weights").item() == 4


def test_without_the_key_nothing_is_averaged() -> None:
    _, averages = made(0, 4000)
    averages.follow(3000)
    assert not averages.arrays
