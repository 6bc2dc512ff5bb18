"""[rnn] beyond the goldens: AlexeyAB's keys, the shortcut, old files."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

import darkpy
from darkpy.build import make_plan
from darkpy.network import Network

CFG = "[net]\ninputs=6\ntime_steps=3\n[rnn]\noutput=4\nhidden=5\nactivation=tanh\n"
SECOND = {0: torch.tanh, 1: torch.sigmoid, 2: lambda x: 2 * torch.sigmoid(x) - 1}


def walk(network: Network, x_TSN: torch.Tensor, self_activation: int, shortcut: bool) -> torch.Tensor:
    def part(name: str, x: torch.Tensor) -> torch.Tensor:
        weights, biases = (network.get_parameter(f"layers.0.{name}_layer.{array}") for array in ("weights", "biases"))
        return x @ weights.T + biases

    outputs, s = [], torch.zeros(x_TSN.shape[1], 5)
    for x in x_TSN:
        fresh = torch.tanh(part("input", x)) + SECOND[self_activation](part("self", s))
        s = fresh + s if shortcut else fresh
        outputs.append(torch.tanh(part("output", s)))
    return torch.stack(outputs)


@pytest.mark.parametrize("shortcut", [False, True])
@pytest.mark.parametrize("logistic", [0, 1, 2])
def test_alexeyabs_state_has_its_own_size_and_activation(logistic: int, shortcut: bool) -> None:
    cfg = f"{CFG}logistic={logistic}\nshortcut={int(shortcut)}\n"
    network = Network(make_plan(cfg, "alexeyab"))
    network.initialize(torch.Generator().manual_seed(1))
    x = torch.randn(3, 2, 6)
    expected = walk(network, x, logistic, shortcut)
    torch.testing.assert_close(network(x.flatten(0, 1))[0].reshape(expected.shape), expected)


def test_pjreddies_state_is_as_large_as_the_output() -> None:
    plan = make_plan(CFG, "pjreddie")
    assert [array_spec.shape for array_spec in plan.nodes[0].arrays if array_spec.name.endswith("weights")] == [
        (4, 6),
        (4, 4),
        (4, 4),
    ]
    assert any("hidden" in fault.message for fault in plan.warnings)


def test_operations_are_those_of_the_parts() -> None:
    (node,) = make_plan(CFG, "alexeyab").nodes
    assert node.spec.operations(node.inputs) == 2 * (6 * 5 + 5 * 5 + 5 * 4)


def test_the_oldest_files_hold_every_part_transposed(tmp_path: Path) -> None:
    shapes = {"input": (5, 6), "self": (5, 5), "output": (4, 5)}
    arrays = {name: np.random.default_rng(1).random(shape, dtype=np.float32) for name, shape in shapes.items()}
    body = b"".join(bytes(4 * array.shape[0]) + array.T.tobytes() for array in arrays.values())
    path = tmp_path / "old.weights"
    path.write_bytes(struct.pack("<3iI", 0, 1001, 0, 0) + body)
    network = darkpy.load(CFG, path, dialect="alexeyab")
    for name, array in arrays.items():
        np.testing.assert_array_equal(network.get_parameter(f"layers.0.{name}_layer.weights").detach().numpy(), array)
    network.save_weights(tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes() == path.read_bytes()
