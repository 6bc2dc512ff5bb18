"""[scale_channels] beyond the goldens."""

from __future__ import annotations

import pytest
import torch

from darkpy.build import make_plan
from darkpy.errors import ConfigError
from darkpy.network import Network

NET = "[net]\nwidth=5\nheight=4\nchannels=3\n[activation]\n"
GATE = "[avgpool]\n[scale_channels]\nfrom=-2\n"
CELLS = "[convolutional]\nfilters=1\nactivation=linear\n[scale_channels]\nfrom=0\nscale_wh=1\n"


def network_of(sections: str) -> Network:
    network = Network(make_plan(NET + sections, "alexeyab"))
    network.initialize(torch.Generator().manual_seed(1))
    return network


def test_each_channel_is_scaled_by_its_factor() -> None:
    x_BCHW = torch.randn(2, 3, 4, 5)
    (actual,) = network_of(GATE)(x_BCHW)
    torch.testing.assert_close(actual, x_BCHW * x_BCHW.mean((2, 3))[:, :, None, None])


def test_scale_wh_scales_each_cell_of_all_channels() -> None:
    network = network_of(CELLS)
    x_BCHW = torch.randn(2, 3, 4, 5)
    _, gate_B1HW, actual = network.trace(x_BCHW)
    assert gate_B1HW.shape == (2, 1, 4, 5)
    torch.testing.assert_close(actual, x_BCHW * gate_B1HW)


def test_swish_is_computed() -> None:
    x_BCHW = torch.randn(2, 3, 4, 5)
    scaled, swished = (network_of(GATE + keys)(x_BCHW)[0] for keys in ("", "activation=swish\n"))
    torch.testing.assert_close(swished, scaled * torch.sigmoid(scaled))


def test_gates_gradient_is_the_sum_over_what_it_scales() -> None:
    gate = torch.randn(2, 3, 1, 1, requires_grad=True)
    x_BCHW = torch.randn(2, 3, 4, 5)
    network_of(GATE).layers[2](gate, x_BCHW).sum().backward()
    assert gate.grad is not None
    torch.testing.assert_close(gate.grad, x_BCHW.sum((2, 3), keepdim=True))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ("[scale_channels]\nfrom=-2\n", "refers to layer -1, which is not before it"),
        ("[activation]\n[scale_channels]\nfrom=0\n", "scales 5 x 4 x 3 with a gate of 5 x 4 x 3"),
        ("[activation]\n[scale_channels]\nfrom=0\nscale_wh=1\n", "scale_wh=1 needs 5 x 4 x 1"),
        ("[avgpool]\n[scale_channels]\n", "has no from="),
    ],
)
def test_a_gate_of_another_size_is_refused(sections: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        network_of(sections)
