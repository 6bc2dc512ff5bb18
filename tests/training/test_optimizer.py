"""The update, against darknet's own recursion on its update buffers written out.

U holds minus the gradient, summed over the batch of B images, and momentum's share of the past:
U <- U - decay * B * w (weights only);  w <- w + rate / B * U;  U <- momentum * U.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from darkpy.build import make_plan
from darkpy.errors import DarkpyError
from darkpy.network import Network
from darkpy.training.optimizer import Optimizer

Arrays = dict[str, NDArray[Any]]
CONV = "[convolutional]\nfilters=2\nsize=3\n"
NORMED = CONV + "batch_normalize=1\n"
B, MOMENTUM, DECAY = 24, 0.8, 0.02  # 8 images, 3 time steps
NET = f"batch=8\nsubdivisions=2\ntime_steps=3\nmomentum={MOMENTUM}\ndecay={DECAY}\n"
RATES = (0.1, 0.1, 0.4, 0.01, 0.2, 0.2)


def network(*sections: str, net: str = NET, dialect: str = "alexeyab") -> Network:
    made = Network(make_plan(f"[net]\nwidth=8\nheight=8\nchannels=2\n{net}" + "".join(sections), dialect))
    made.initialize(torch.Generator().manual_seed(1))
    return made.double()


def arrays(made: Network) -> Arrays:
    return {name: parameter.detach().numpy().copy() for name, parameter in made.named_parameters()}


def gradients(made: Network, steps: int, scale: float = 5.0) -> Iterator[Arrays]:
    """What the backward passes of each update would leave, summed over the batch."""
    random = np.random.default_rng(1)
    for _ in range(steps):
        yield {name: random.normal(0, scale, parameter.shape) for name, parameter in made.named_parameters()}


def gather(made: Network, gradient: Arrays) -> None:
    for name, parameter in made.named_parameters():
        fresh = torch.from_numpy(gradient[name])
        parameter.grad = fresh if parameter.grad is None else parameter.grad + fresh


def updated(made: Network, steps: int = len(RATES)) -> Arrays:
    """Train by made-up gradients."""
    optimizer = Optimizer(made)
    for batch_num, (rate, gradient) in enumerate(zip(RATES, gradients(made, steps), strict=False), start=1):
        gather(made, gradient)
        optimizer.update(rate, batch_num)
    return arrays(made)


class Darknet:
    """darknet's buffers; `factors` are the layers' own learning_rate, `first` the first update of each that is due."""

    def __init__(self, made: Network, factors: dict[int, float], first: dict[int, int]) -> None:
        self.weights = arrays(made)
        self.buffers = {name: np.zeros_like(array) for name, array in self.weights.items()}
        self.factors, self.first = factors, first

    def update(self, rate: float, batch_num: int, gradient: Arrays) -> None:
        for name, buffer in self.buffers.items():
            layer = int(name.split(".")[1])
            buffer -= gradient[name]
            if batch_num < self.first.get(layer, 0):
                continue
            if name.endswith("weights"):
                buffer -= DECAY * B * self.weights[name]
            self.weights[name] += rate * self.factors.get(layer, 1) / B * buffer
            buffer *= MOMENTUM


def trained_by_darknet(
    made: Network, factors: dict[int, float] | None = None, first: dict[int, int] | None = None
) -> Arrays:
    darknet = Darknet(made, factors or {}, first or {})
    for batch_num, (rate, gradient) in enumerate(zip(RATES, gradients(made, len(RATES)), strict=True), start=1):
        darknet.update(rate, batch_num, gradient)
    return darknet.weights


def assert_same(found: Arrays, wanted: Arrays) -> None:
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-9, atol=1e-12, err_msg=name)


def test_update_is_darknets_over_changing_rates_with_each_layers_own_factor() -> None:
    made = network(NORMED, CONV + "learning_rate=.25\n", "[connected]\noutput=3\nlearning_rate=2\nbatch_normalize=1\n")
    wanted = trained_by_darknet(made, {1: 0.25, 2: 2.0})
    assert_same(updated(made), wanted)


def test_only_weights_decay() -> None:
    made = network(NORMED, "[connected]\noutput=3\n")
    before = arrays(made)
    optimizer = Optimizer(made)
    gather(made, {name: np.zeros_like(array) for name, array in before.items()})
    optimizer.update(0.5, 1)
    after = arrays(made)
    for name, array in before.items():
        shrinking = 1 - 0.5 * DECAY if name.endswith("weights") else 1
        np.testing.assert_allclose(after[name], shrinking * array, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    ("key", "net", "first"),
    [
        ("dont_update=3\n", "", 4),
        ("burnin_update=1\n", "burn_in=3\n", 3),
        ("burnin_update=1.5\n", "burn_in=3\n", 5),
        ("burnin_update=9\n", "", 0),
    ],
)
def test_gradients_of_an_update_put_off_pile_up_without_decay_or_momentum(key: str, net: str, first: int) -> None:
    made = network(NORMED, CONV + key, CONV, net=NET + net)
    wanted = trained_by_darknet(made, first={1: first})
    assert_same(updated(made), wanted)


def test_network_of_which_every_update_is_put_off_waits() -> None:
    made = network(CONV + "dont_update=9\n", net=NET + "grad_clip_value=1\ngrad_clip_norm=1\n")
    before = arrays(made)
    optimizer = Optimizer(made)
    (gradient,) = gradients(made, 1)
    for batch_num in (1, 2):
        gather(made, gradient)
        assert float(optimizer.update(0.1, batch_num)) == 0
    assert_same(arrays(made), before)
    kept = {name: parameter.grad for name, parameter in made.named_parameters()}
    for name, gathered in kept.items():
        assert gathered is not None
        np.testing.assert_allclose(gathered.numpy(), 2 * gradient[name])


def test_train_only_bn_freezes_all_layers_up_to_the_last_that_has_it() -> None:
    made = network(NORMED, NORMED + "train_only_bn=1\n", CONV)
    before = arrays(made)
    after = updated(made)
    for name, array in after.items():
        assert np.array_equal(array, before[name]) is not name.startswith("layers.2"), name
    assert all(parameter.grad is None for parameter in made.parameters())


def test_network_that_is_frozen_as_a_whole_takes_updates_that_change_nothing() -> None:
    made = network(NORMED + "train_only_bn=1\n")
    before = arrays(made)
    assert_same(updated(made), before)


def test_network_without_weights_has_nothing_to_learn() -> None:
    with pytest.raises(DarkpyError, match="has no weights to train"):
        Optimizer(network("[maxpool]\n"))


@pytest.mark.parametrize(
    "section",
    [
        NORMED,
        "[connected]\noutput=3\nbatch_normalize=1\n",
        "[local]\nfilters=2\n",
        "[batchnorm]\n",
        "[implicit]\nfilters=2\n",
        "[lstm]\noutput=3\nbatch_normalize=1\n",
        "[crnn]\noutput=2\nhidden=2\npad=1\nbatch_normalize=1\n",
        CONV + "[shortcut]\nfrom=-1\nweights_type=per_channel\nweights_normalization=relu\n",
        CONV + CONV.replace("[convolutional]", "[convolutional]\nshare_index=0").replace("size=3", "size=3\npad=1"),
    ],
)
@pytest.mark.parametrize("net", ["", "adam=1\n"])
def test_every_array_that_learns_is_updated_once(section: str, net: str) -> None:
    made = network(section, net=net)
    groups = Optimizer(made).torch.param_groups
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in made.parameters())


def test_shared_arrays_are_in_the_hands_of_the_layer_that_has_them() -> None:
    square = "[convolutional]\nfilters=2\nsize=3\npad=1\n"
    made = network(square + "learning_rate=.5\n", square + "share_index=0\nlearning_rate=3\n")
    wanted = trained_by_darknet(made, {0: 0.5})
    assert_same(updated(made), wanted)


# clips


def test_clip_bounds_weights_alone_and_only_when_they_are_updated() -> None:
    made = network(CONV + "clip=.01\n", CONV + "clip=.01\ndont_update=9\n", CONV)
    before = arrays(made)
    after = updated(made, 1)
    assert np.abs(after["layers.0.weights"]).max() == 0.01 < np.abs(after["layers.0.biases"]).max()
    assert np.array_equal(after["layers.1.weights"], before["layers.1.weights"])
    assert np.abs(after["layers.2.weights"]).max() > 0.1


def test_clip_of_pjreddies_net_bounds_convolutions() -> None:
    made = network(CONV, "[connected]\noutput=3\n", net=NET + "clip=.01\n", dialect="pjreddie")
    after = updated(made, 1)
    assert np.abs(after["layers.0.weights"]).max() == 0.01 < np.abs(after["layers.1.weights"]).max()


def plain_step(made: Network) -> tuple[Arrays, float]:
    """What one update of rate 1 without momentum and decay takes away, and the norm it tells."""
    before = arrays(made)
    (gradient,) = gradients(made, 1)
    gather(made, gradient)
    norm = float(Optimizer(made).update(1.0, 1))
    return {name: before[name] - array for name, array in arrays(made).items()}, norm


def mean_gradient(made: Network) -> Arrays:
    (gradient,) = gradients(made, 1)
    return {name: array / 4 for name, array in gradient.items()}


PLAIN = "batch=4\nmomentum=0\ndecay=0\n"


@pytest.mark.parametrize(("kind", "order"), [("", 2), ("grad_clip_type=1\n", 1), ("grad_clip_type=0\n", np.inf)])
@pytest.mark.parametrize("largest", [0, 0.5, 1e6])
def test_norm_of_all_mean_gradients_together_is_reported_and_bounded(kind: str, order: float, largest: float) -> None:
    made = network(NORMED, CONV, net=f"{PLAIN}grad_clip_norm={largest:f}\n{kind}")
    gradient = mean_gradient(made)
    wanted_norm = np.linalg.norm(np.concatenate([array.ravel() for array in gradient.values()]), order)
    step, norm = plain_step(made)
    assert norm == pytest.approx(wanted_norm)
    share = min(1, largest / (wanted_norm + 1e-6)) if largest else 1
    assert_same(step, {name: share * array for name, array in gradient.items()})
    assert (largest == 0.5) == (share < 1)


def test_value_clip_bounds_each_mean_gradient_after_the_norm() -> None:
    made = network(CONV, net=PLAIN + "grad_clip_value=.5\n")
    gradient = mean_gradient(made)
    assert max(np.abs(array).max() for array in gradient.values()) > 0.5
    assert_same(plain_step(made)[0], {name: array.clip(-0.5, 0.5) for name, array in gradient.items()})
    both = network(CONV, net=PLAIN + "grad_clip_norm=1\ngrad_clip_value=.5\n")
    norm = np.linalg.norm(np.concatenate([array.ravel() for array in gradient.values()]))
    bounded = {name: (array / (norm + 1e-6)).clip(-0.5, 0.5) for name, array in gradient.items()}
    assert_same(plain_step(both)[0], bounded)


def test_layers_that_are_not_updated_do_not_count_in_the_norm() -> None:
    made = network(CONV + "train_only_bn=1\n", CONV, CONV + "dont_update=2\n", net=PLAIN)
    counted = [array.ravel() for name, array in mean_gradient(made).items() if name.startswith("layers.1")]
    assert plain_step(made)[1] == pytest.approx(np.linalg.norm(np.concatenate(counted)))


def test_clip_acts_on_the_fresh_gradient_and_not_on_momentum() -> None:
    made = network("[convolutional]\n", net="momentum=.5\ndecay=0\ngrad_clip_value=1\n")
    optimizer = Optimizer(made)
    (before, *_) = (arrays(made)["layers.0.biases"],)
    for batch_num in (1, 2, 3):
        gather(made, {name: np.full_like(array, 9) for name, array in arrays(made).items()})
        optimizer.update(1.0, batch_num)
    np.testing.assert_allclose(before - arrays(made)["layers.0.biases"], 1 + 1.5 + 1.75)


@pytest.mark.parametrize("broken", [np.inf, np.nan])
def test_one_broken_gradient_leaves_the_others_alone(broken: float) -> None:
    made = network(CONV, CONV, net=PLAIN)
    (gradient,) = gradients(made, 1)
    gradient["layers.0.biases"][0] = broken
    gather(made, gradient)
    assert not np.isfinite(float(Optimizer(made).update(1.0, 1)))
    finite = np.concatenate([np.isfinite(array).ravel() for array in arrays(made).values()])
    assert (~finite).sum() == 1


# Adam


@pytest.mark.parametrize("keys", ["", "B1=.5\nB2=.9\neps=.3\n"])
@pytest.mark.parametrize(("dialect", "eps"), [("pjreddie", 1e-7), ("alexeyab", 1e-6)])
def test_adam_is_darknets_with_every_array_decayed(keys: str, dialect: str, eps: float) -> None:
    made = network(NORMED, CONV + "learning_rate=.5\n", net=NET + "adam=1\n" + keys, dialect=dialect)
    net = made.plan.net
    assert net.eps == (0.3 if keys else eps)
    wanted = arrays(made)
    first = {name: np.zeros_like(array) for name, array in wanted.items()}
    second = {name: np.zeros_like(array) for name, array in wanted.items()}
    for t, (rate, gradient) in enumerate(zip(RATES, gradients(made, len(RATES)), strict=True), start=1):
        for name, array in wanted.items():
            d = -gradient[name] - DECAY * B * array
            first[name] = net.B1 * first[name] + (1 - net.B1) * d
            second[name] = net.B2 * second[name] + (1 - net.B2) * d**2
            factor = rate * (0.5 if name.startswith("layers.1") else 1)
            mean, square = first[name] / (1 - net.B1**t), second[name] / (1 - net.B2**t)
            array += factor * mean / (np.sqrt(square) + net.eps)
    assert_same(updated(made), wanted)
