"""[crnn] beyond the goldens: keys of each dialect, sizes that a state must keep, and the backward pass through time.

Legend: S sequences, C channels, F filters, H W rows and columns.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import darkpy
from darkpy.build import make_plan
from darkpy.network import Network

GOLDEN = Path(__file__).parents[1] / "golden" / "crnn-training.npz"
IMAGE = "[net]\nwidth=6\nheight=5\nchannels=4\n[crnn]\n"
Arrays = dict[str, np.ndarray[Any, Any]]
RATE, MOMENTUM, DECAY, BATCH, STEPS = 0.05, 0.9, 0.0005, 6, 3


def delta_at_input(weights: Tensor, delta: Tensor) -> Tensor:
    return functional.conv_transpose2d(delta, weights, padding=weights.shape[2] // 2)


def delta_at_weights(x: Tensor, weights: Tensor, delta: Tensor) -> Tensor:
    sums = functional.conv2d(x.transpose(0, 1), delta.transpose(0, 1), padding=weights.shape[2] // 2)
    return sums.transpose(0, 1)


class Part:
    """One of the three convolutions with batch norm and leaky: its steps, and darknet's backward pass.

    has_faults: normalize back by the last step's statistics, as darknet does.
    """

    def __init__(self, network: Network, name: str, *, has_faults: bool) -> None:
        self.has_faults = has_faults
        self.names = [f"layers.0.{name}.{array}" for array in ("weights", "scales", "biases")]
        self.weights, self.scales, self.biases = (network.get_parameter(name).detach() for name in self.names)
        self.updates = {name: torch.zeros_like(network.get_parameter(name)) for name in self.names}
        self.steps: list[tuple[Tensor, ...]] = []

    def forward(self, x_SCHW: Tensor) -> Tensor:
        z_SFHW = functional.conv2d(x_SCHW, self.weights, padding=1)
        mean = z_SFHW.mean((0, 2, 3), keepdim=True)
        deviation = (z_SFHW.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
        norm_SFHW = (z_SFHW - mean) / deviation
        y_SFHW = functional.leaky_relu(norm_SFHW * self.scales[:, None, None] + self.biases[:, None, None], 0.1)
        self.steps.append((x_SCHW, z_SFHW, norm_SFHW, y_SFHW, mean, deviation))
        return y_SFHW

    def backward(self, step: int, delta_SFHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return the delta before batch norm and that at the input."""
        x_SCHW, z_SFHW, norm_SFHW, y_SFHW, mean, deviation = self.steps[step]
        if self.has_faults:
            mean, deviation = self.steps[-1][4:]
        weights, scales, biases = self.names
        delta = delta_SFHW * torch.where(y_SFHW > 0, 1.0, 0.1)
        self.updates[biases] += delta.sum((0, 2, 3))
        self.updates[scales] += (delta * norm_SFHW).sum((0, 2, 3))
        delta = delta * self.scales[:, None, None] / deviation
        centered, count = (z_SFHW - mean) / deviation, z_SFHW[:, 0].numel()
        along = (delta * centered).sum((0, 2, 3), keepdim=True) / count
        delta = delta - delta.sum((0, 2, 3), keepdim=True) / count - centered * along
        self.updates[weights] += delta_at_weights(x_SCHW, self.weights, delta)
        return delta, delta_at_input(self.weights, delta)


def updates_by_hand(network: Network, x_BCHW: Tensor, delta_BCHW: Tensor, *, has_faults: bool) -> dict[str, Tensor]:
    """Updates of each array by darknet's backward pass, with or without the two bugs of its CPU code."""
    names = ("input_layer", "self_layer", "output_layer")
    fresh, own, out = (Part(network, name, has_faults=has_faults) for name in names)
    s_SFHW, outputs = torch.zeros(2, 4, 8, 8), []
    for x_SCHW in x_BCHW.chunk(STEPS):
        s_SFHW = fresh.forward(x_SCHW) + own.forward(s_SFHW)
        outputs.append(out.forward(s_SFHW))
    y_BCHW, weights = torch.cat(outputs), network.get_parameter("layers.1.weights").detach()
    deltas = delta_at_input(weights, delta_BCHW).chunk(STEPS)
    carried = torch.zeros_like(s_SFHW)
    for step in reversed(range(STEPS)):
        delta = carried + out.backward(step, deltas[step])[1]
        changed, carried = own.backward(step, delta)
        fresh.backward(step, changed if has_faults else delta)
    last = delta_at_weights(y_BCHW, weights, delta_BCHW)
    ends = {"layers.1.biases": delta_BCHW.sum((0, 2, 3)), "layers.1.weights": last}
    return fresh.updates | own.updates | out.updates | ends


@pytest.fixture
def golden() -> Arrays:
    return dict(np.load(GOLDEN))


@pytest.fixture
def network(golden: Arrays, tmp_path: Path) -> Network:
    weights = tmp_path / "init.weights"
    weights.write_bytes(golden["weights"].tobytes())
    cfg = golden["cfg"].tobytes().decode().replace("[net]", "[net]\nconstrain=0")
    return darkpy.load(cfg, weights, dialect="alexeyab").train()


def minibatch(golden: Arrays, index: int) -> tuple[Tensor, Tensor]:
    x, truth = (torch.from_numpy(golden[name][index]).reshape(BATCH, 3, 8, 8) for name in ("x", "truth"))
    return x, truth


def test_autograd_is_darknets_backward_pass_without_its_faults(golden: Arrays, network: Network) -> None:
    x_BCHW, truth_BCHW = minibatch(golden, 0)
    y_BCHW = network.trace(x_BCHW)[1]
    delta_BCHW = (truth_BCHW - y_BCHW).detach()
    torch.autograd.backward(y_BCHW, -delta_BCHW)
    expected = updates_by_hand(network, x_BCHW, delta_BCHW, has_faults=False)
    for name, array in network.named_parameters():
        assert array.grad is not None
        torch.testing.assert_close(-array.grad, expected[name], rtol=1e-4, atol=1e-4)


def test_darknets_three_updates_are_those_of_its_backward_pass_with_its_faults(
    golden: Arrays, network: Network, tmp_path: Path
) -> None:
    momenta = {name: torch.zeros_like(array) for name, array in network.named_parameters()}
    for index in range(3):
        x_BCHW, truth_BCHW = minibatch(golden, index)
        with torch.no_grad():
            delta_BCHW = truth_BCHW - network.trace(x_BCHW)[1]
            assert delta_BCHW.square().sum().item() == pytest.approx(golden["cost"][index], rel=1e-5)
            updates = updates_by_hand(network, x_BCHW, delta_BCHW, has_faults=True)
            for name, array in network.named_parameters():
                decay = DECAY * BATCH * array if name.endswith("weights") else 0
                momenta[name] = MOMENTUM * momenta[name] + updates[name] - decay
                array.add_(momenta[name], alpha=RATE / BATCH)
    network.save_weights(tmp_path / "after.weights")
    actual, expected = (
        np.frombuffer(data[20:], "<f4")
        for data in ((tmp_path / "after.weights").read_bytes(), golden["after"].tobytes())
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_pjreddies_convolutions_are_three_by_three() -> None:
    (node,) = make_plan(IMAGE + "output_filters=7\nhidden_filters=3\n", "pjreddie").nodes
    assert node.shape == (7, 5, 6)
    weights = [array_spec.shape for array_spec in node.arrays if array_spec.name.endswith("weights")]
    assert weights == [(3, 4, 3, 3), (3, 3, 3, 3), (7, 3, 3, 3)]
    assert node.spec.operations(node.inputs) == 2 * 9 * (3 * 4 + 3 * 3 + 7 * 3) * 5 * 6


def test_alexeyabs_keys_shape_every_convolution() -> None:
    (node,) = make_plan(IMAGE + "output=6\nhidden=2\nsize=5\ngroups=2\npadding=2\n", "alexeyab").nodes
    weights = [array_spec.shape for array_spec in node.arrays if array_spec.name.endswith("weights")]
    assert weights == [(2, 2, 5, 5), (2, 1, 5, 5), (6, 1, 5, 5)]


@pytest.mark.parametrize("keys", ["", "stride=2\npad=1", "size=2\npad=1"])
def test_convolutions_that_change_the_size_are_refused(keys: str) -> None:
    with pytest.raises(darkpy.ConfigError, match=r"make \d x \d out of 6 x 5.*keep its size\n.*hint: set pad=1"):
        make_plan(IMAGE + f"output=2\nhidden=2\n{keys}\n", "alexeyab")


def test_each_dialect_draws_the_weights_as_in_its_convolutions() -> None:
    for dialect, keys in (
        ("pjreddie", "output_filters=8\nhidden_filters=8"),
        ("alexeyab", "output=8\nhidden=8\npad=1"),
    ):
        (node,) = make_plan(IMAGE + keys, dialect).nodes
        drawn = {array_spec.init.is_normal for array_spec in node.arrays if array_spec.name.endswith("weights")}
        assert drawn == {dialect == "pjreddie"}
