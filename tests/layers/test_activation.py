"""[activation] beyond the goldens."""

from __future__ import annotations

import pytest
import torch

from darkpy.build import make_plan
from darkpy.errors import ConfigError
from darkpy.network import Network

NET = "[net]\nwidth=3\nheight=2\nchannels=5\n[activation]\n[activation]\n"


def test_default_is_linear_and_mish_is_computed() -> None:
    x_BCHW = torch.randn(2, 5, 2, 3)
    linear, mish = Network(make_plan(NET + "activation=mish\n", "alexeyab")).trace(x_BCHW)
    assert torch.equal(linear, x_BCHW)
    torch.testing.assert_close(mish, torch.nn.functional.mish(x_BCHW))


@pytest.mark.parametrize("name", ["relu", "leaky", "logistic", "mish"])
def test_the_layer_before_is_not_changed(name: str) -> None:
    x_BCHW = torch.randn(2, 5, 2, 3)
    kept = x_BCHW.clone()
    before, _ = Network(make_plan(f"{NET}activation={name}\n", "alexeyab")).trace(x_BCHW)
    assert torch.equal(before, kept)


def test_a_word_of_the_other_dialect_is_refused() -> None:
    with pytest.raises(ConfigError, match="use --dialect alexeyab"):
        make_plan(NET + "activation=mish\n", "pjreddie")
