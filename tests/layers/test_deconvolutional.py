"""[deconvolutional], against its definition: no darknet can load its weights."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import darkpy
from darkpy.build import make_plan
from darkpy.errors import ConfigError
from darkpy.layers.deconvolutional import Deconvolutional
from darkpy.network import Network

NET = "[net]\nwidth=4\nheight=3\nchannels=2\n"
CFG = f"{NET}[deconvolutional]\nfilters=3\nsize=3\nstride=2\npad=1\nactivation=linear\n"
NORMALIZED = CFG + "batch_normalize=1\n"


def file_of(folder: Path, *arrays: NDArray[Any]) -> Path:
    path = folder / "some.weights"
    path.write_bytes(struct.pack("<3iQ", 0, 2, 0, 7) + b"".join(array.astype("<f4").tobytes() for array in arrays))
    return path


def spread(x_CHW: NDArray[Any], weights_CFKK: NDArray[Any], stride: int, border: int) -> NDArray[Any]:
    """Each input times its window of weights, summed where windows overlap."""
    channels, h, w = x_CHW.shape
    _, filters, size, _ = weights_CFKK.shape
    whole = np.zeros((filters, (h - 1) * stride + size, (w - 1) * stride + size))
    for c in range(channels):
        for j in range(h):
            for i in range(w):
                window = whole[:, j * stride : j * stride + size, i * stride : i * stride + size]
                window += x_CHW[c, j, i] * weights_CFKK[c]
    return whole[:, border : whole.shape[1] - border, border : whole.shape[2] - border]


def test_file_holds_biases_then_weights_by_input_channel(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    biases, weights = random.normal(size=3), random.normal(size=(2, 3, 3, 3))
    network = darkpy.load(CFG, file_of(tmp_path, biases, weights))
    x_BCHW = torch.randn(2, 2, 3, 4)
    (actual,) = network(x_BCHW)
    assert actual.shape == (2, *network.plan.nodes[0].shape) == (2, 3, 5, 7)
    expected = np.stack([spread(x_CHW, weights, 2, 1) for x_CHW in x_BCHW.double().numpy()]) + biases[:, None, None]
    np.testing.assert_allclose(actual.detach().numpy(), expected, rtol=1e-5, atol=1e-5)


def test_batch_norm_is_between_biases_and_weights(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    biases, scales, mean, variance = (random.uniform(0.5, 2, 3) for _ in range(4))
    weights = random.normal(size=(2, 3, 3, 3))
    path = file_of(tmp_path, biases, scales, mean, variance, weights)
    network = darkpy.load(NORMALIZED, path)
    x_BCHW = torch.randn(2, 2, 3, 4)
    raw = np.stack([spread(x_CHW, weights, 2, 1) for x_CHW in x_BCHW.double().numpy()])
    factor = scales / np.sqrt(variance + 1e-5)
    expected = raw * factor[:, None, None] + (biases - mean * factor)[:, None, None]
    np.testing.assert_allclose(network(x_BCHW)[0].detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    copy = tmp_path / "copy.weights"
    network.save_weights(copy)
    assert copy.read_bytes()[20:] == path.read_bytes()[20:]
    folded = darkpy.load(NORMALIZED, path).for_inference()
    assert [name for name, _ in folded.named_buffers()] == []
    np.testing.assert_allclose(folded(x_BCHW)[0].numpy(), expected, rtol=1e-4, atol=1e-5)


def test_training_normalizes_each_filter_over_the_minibatch() -> None:
    network = darkpy.load(NORMALIZED).train()
    (y_BFHW,) = network(torch.randn(4, 2, 3, 4))
    torch.testing.assert_close(y_BFHW.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    y_BFHW.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_new_weights_grow_with_the_area() -> None:
    text = "[net]\nwidth=4\nheight=4\nchannels=100\n[deconvolutional]\nfilters=100\nsize=4\nstride=2\npadding=1\n"
    network = Network(make_plan(text))
    assert network.plan.nodes[0].shape == (100, 8, 8)
    network.initialize(torch.Generator().manual_seed(1))
    layer = network.layers[0]
    assert isinstance(layer, Deconvolutional)
    assert abs(layer.weights.std().item() - 0.08) < 0.001
    assert not layer.biases.any()


def test_operations_count_every_weight_for_every_number_read() -> None:
    (node,) = make_plan(CFG).nodes
    assert node.bflops * 1e9 == pytest.approx(2 * 3 * 3 * 3 * (2 * 3 * 4))


def test_padding_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"makes 0 x -1 cells of 4 x 3 x 2.*size=1 - 2 \* padding=2"):
        make_plan(f"{NET}[deconv]\npadding=2\n", "pjreddie")
