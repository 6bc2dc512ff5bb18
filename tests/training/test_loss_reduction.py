"""loss_reduction: where a training divides by the batch."""

from __future__ import annotations

import pytest
import torch

import darkpy
from darkpy.network import Network
from darkpy.training.trainer import Trainer

CFG = """[net]
width=4
height=4
channels=2
batch=6
subdivisions=2
learning_rate={rate}
momentum=.9
decay=.01
{keys}
[convolutional]
filters=3
size=3
pad=1
activation=leaky
[connected]
output=5
activation=linear
[cost]
"""


def trained(keys: str, *, rate: float = 0.01, scale: float = 1.0, updates: int = 3) -> tuple[Network, list[float]]:
    """A network after some updates, and the norms of their gradients."""
    torch.manual_seed(3)
    network = darkpy.load(CFG.format(keys=keys, rate=rate))
    trainer, norms = Trainer(network), []
    numbers = torch.Generator().manual_seed(4)
    for _ in range(2 * updates):
        step = trainer.train_minibatch(
            torch.rand(3, 2, 4, 4, generator=numbers), scale * torch.rand(3, 5, generator=numbers)
        )
        norms += [] if step.norm is None else [float(step.norm)]
    return network, norms


def assert_same(first: Network, second: Network, *, rtol: float = 1e-5) -> None:
    for name, param in first.named_parameters():
        torch.testing.assert_close(param, second.get_parameter(name), rtol=rtol, atol=1e-6)


def test_mean_is_darknets_step_where_no_delta_is_clamped() -> None:
    (first, norms), (second, others) = trained("constrain=0"), trained("constrain=0\nloss_reduction=mean")
    assert_same(first, second)
    assert norms == pytest.approx(others, rel=1e-4)


def test_bound_of_the_delta_constraint_is_of_a_sum_in_darknet_and_of_a_mean_with_mean() -> None:
    """Deltas of up to 50 are clamped to 1, or divided by 6 first and then clamped: the same as a bound of 6."""
    mean = trained("loss_reduction=mean", scale=50)[0]
    assert_same(mean, trained("constrain=6", scale=50)[0], rtol=1e-4)
    assert not torch.allclose(
        mean.layers[1].get_parameter("biases"), trained("", scale=50)[0].layers[1].get_parameter("biases")
    )


def test_sum_is_a_step_of_batch_times_the_rate() -> None:
    free = "constrain=0\n"
    (first, norms), (second, others) = (
        trained(f"{free}loss_reduction=sum", updates=1),
        trained(free, rate=0.06, updates=1),
    )
    assert norms[0] == pytest.approx(6 * others[0], rel=1e-4)
    before = trained(free, updates=0)[0]
    for name, param in first.named_parameters():
        decayed_less = 0.05 * 0.01 * before.get_parameter(name) if name.endswith("weights") else 0  # it is not summed
        torch.testing.assert_close(param, second.get_parameter(name) + decayed_less, rtol=1e-5, atol=1e-6)


def test_clip_bounds_what_the_update_takes() -> None:
    network, norms = trained("loss_reduction=sum\ngrad_clip_norm=.5", updates=1)
    before, _ = trained("loss_reduction=sum", updates=0)
    assert norms[0] > 0.5
    moved = torch.cat(
        [(a - b).detach().flatten() for a, b in zip(network.parameters(), before.parameters(), strict=True)]
    )
    assert 0.9 * 0.005 < float(moved.norm()) < 1.1 * 0.005


def test_eps_of_adam_is_of_sums_in_darknet_and_torchs_own_with_mean() -> None:
    adam = "adam=1\nconstrain=0\n"
    assert_same(trained(f"{adam}eps=.6")[0], trained(f"{adam}eps=.1\nloss_reduction=mean")[0], rtol=1e-4)
    assert Trainer(darkpy.load(CFG.format(keys=f"{adam}eps=.6", rate=1))).optimizer.torch.param_groups[0][
        "eps"
    ] == pytest.approx(0.1)
    key = f"{adam}eps=.6\nloss_reduction=mean"
    assert Trainer(darkpy.load(CFG.format(keys=key, rate=1))).optimizer.torch.param_groups[0]["eps"] == 0.6


def test_reported_cost_is_the_same_everywhere() -> None:
    costs = []
    for word in ("darknet", "mean", "sum"):
        torch.manual_seed(3)
        network = darkpy.load(CFG.format(keys=f"loss_reduction={word}", rate=0.01))
        costs.append(Trainer(network).train_minibatch(torch.full((3, 2, 4, 4), 0.5), torch.ones(3, 5)).cost)
    assert costs[0] == costs[1] == costs[2]


def test_unknown_word_is_refused() -> None:
    with pytest.raises(darkpy.ConfigError, match="loss_reduction=average is not known"):
        darkpy.plan(CFG.format(keys="loss_reduction=average", rate=1))
