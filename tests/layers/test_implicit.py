"""[implicit]: its file, its initial values, its gradient."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import torch

import darkpy

CFG = "[net]\nwidth=3\nheight=2\nchannels=5\n[implicit]\nfilters=4\natoms=3\n"


def test_output_is_the_file_for_every_image(tmp_path: Path) -> None:
    path = tmp_path / "some.weights"
    numbers = np.arange(12, dtype="<f4")
    path.write_bytes(struct.pack("<3iQ", 0, 2, 5, 7) + numbers.tobytes())
    network = darkpy.load(CFG, path)
    (actual,) = network(torch.rand(2, 5, 2, 3))
    assert actual.shape == (2, *network.plan.nodes[0].shape) == (2, 4, 3, 1)
    np.testing.assert_array_equal(actual.detach().numpy().reshape(2, 12), [numbers, numbers])
    actual.sum().backward()
    (weights,) = network.parameters()
    assert weights.grad is not None
    assert torch.equal(weights.grad, torch.full((4, 3, 1), 2.0))


def test_a_new_layer_is_uniform_around_mean() -> None:
    network = darkpy.load("[net]\nwidth=3\nheight=2\nchannels=5\n[implicit]\nfilters=9999\nmean=1\nstd=.1\n")
    (weights,) = network.parameters()
    assert 0.9 <= weights.min() < 0.901 and 1.099 < weights.max() <= 1.1
    assert abs(weights.mean().item() - 1) < 0.002


def test_defaults_are_128_filters_around_0() -> None:
    network = darkpy.load("[net]\nwidth=3\nheight=2\nchannels=5\n[implicit]\n", dialect="alexeyab")
    (weights,) = network.parameters()
    assert weights.shape == (128, 1, 1)
    assert 0.1 < weights.abs().max() <= 0.2
