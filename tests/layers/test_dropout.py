"""[dropout]: dropped elements in training and inference."""

from __future__ import annotations

import pytest
import torch

from darkpy.build import make_plan
from darkpy.errors import ConfigError
from darkpy.network import Network

NET = "[net]\nwidth=50\nheight=40\nchannels=3\n[activation]\n[dropout]\n"


@pytest.mark.parametrize(("dialect", "probability"), [("pjreddie", 0.5), ("alexeyab", 0.2)])
def test_dialects_drop_another_share_by_default(dialect: str, probability: float) -> None:
    torch.manual_seed(1)
    network = Network(make_plan(NET, dialect)).train()
    before, after = network.trace(torch.ones(4, 3, 40, 50))
    assert bool((before == 1).all()), "the layer before keeps its numbers"
    dropped = (after == 0).float().mean().item()
    assert abs(dropped - probability) < 0.01
    torch.testing.assert_close(after[after != 0], torch.full_like(after[after != 0], 1 / (1 - probability)))


def test_inference_changes_nothing() -> None:
    x_BCHW = torch.randn(1, 3, 40, 50)
    assert torch.equal(Network(make_plan(NET))(x_BCHW)[0], x_BCHW)


def test_delta_is_dropped_and_scaled_as_the_numbers_were() -> None:
    x_BCHW = torch.ones(2, 3, 40, 50, requires_grad=True)
    (y,) = Network(make_plan(NET + "probability=.25\n")).train()(x_BCHW)
    y.sum().backward()
    assert x_BCHW.grad is not None
    assert torch.equal(x_BCHW.grad, y.detach())


@pytest.mark.parametrize("probability", ["1", "1.5", "-.1"])
def test_impossible_probabilities_are_refused(probability: str) -> None:
    with pytest.raises(ConfigError, match="probability="):
        make_plan(f"{NET}probability={probability}\n")


def test_dropblock_is_alexeyabs() -> None:
    keys = "dropblock=1\ndropblock_size_abs=7\ndropblock_size_rel=.1\n"
    assert not make_plan(NET + keys, "alexeyab").warnings
    assert len(make_plan(NET + keys, "pjreddie").warnings) == 3
