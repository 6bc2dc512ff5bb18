"""[empty] and [silence]."""

from __future__ import annotations

import pytest
import torch

from darkpy.build import make_plan
from darkpy.dialect import Dialect
from darkpy.network import Network


@pytest.mark.parametrize("name", ["empty", "silence"])
def test_output_is_that_of_the_layer_before(name: str) -> None:
    network = Network(make_plan(f"[net]\nwidth=3\nheight=2\nchannels=5\n[{name}]\n"))
    x_BCHW = torch.randn(2, 5, 2, 3)
    assert torch.equal(network(x_BCHW)[0], x_BCHW)
    assert network.plan.dialect is Dialect.ALEXEYAB
