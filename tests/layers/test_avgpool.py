"""[avgpool] beyond the goldens."""

from __future__ import annotations

import torch

from darkpy.build import make_plan
from darkpy.network import Network


def test_output_is_the_mean_of_each_channel_as_a_vector() -> None:
    network = Network(make_plan("[net]\nwidth=5\nheight=3\nchannels=4\n[avg]\n"))
    x_BCHW = torch.rand(2, 4, 3, 5)
    (actual,) = network(x_BCHW)
    assert actual.shape == (2, *network.plan.nodes[0].shape) == (2, 4, 1, 1)
    torch.testing.assert_close(actual.flatten(1), x_BCHW.flatten(2).sum(2) / 15)
