"""[connected] beyond the goldens: order in the file, initial values, old files, folding."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import torch

import darkpy
from darkpy.build import make_plan
from darkpy.layers.connected import Connected
from darkpy.network import Network

CFG = "[net]\nwidth=3\nheight=2\nchannels=2\n[connected]\noutput=5\nactivation=linear\nbatch_normalize=1\n"
PLAIN = CFG.replace("batch_normalize=1\n", "")


def initialized(cfg: str) -> Network:
    network = Network(make_plan(cfg))
    network.initialize(torch.Generator().manual_seed(1))
    return network


def first(network: Network) -> Connected:
    layer = network.layers[0]
    assert isinstance(layer, Connected)
    return layer


def test_a_vector_of_outputs_is_one_by_one_by_output() -> None:
    network = initialized(CFG)
    assert network(torch.rand(4, 2, 2, 3))[0].shape == (4, *network.plan.nodes[0].shape) == (4, 5, 1, 1)


def test_inputs_are_read_channel_row_column_whatever_the_memory_layout() -> None:
    network = initialized(PLAIN)
    x = torch.rand(4, 2, 2, 3)
    expected = torch.from_numpy(x.numpy().reshape(4, 12) @ first(network).weights.detach().numpy().T)
    for laid_out in (x, x.to(memory_format=torch.channels_last)):
        torch.testing.assert_close(network(laid_out)[0].flatten(1), expected)


def test_batch_norm_is_behind_the_weights_in_the_file() -> None:
    (node,) = make_plan(CFG).nodes
    names = [array_spec.name for array_spec in node.arrays]
    assert names == ["biases", "weights", "scales", "rolling_mean", "rolling_variance"]
    assert [array_spec.count for array_spec in node.arrays] == [5, 60, 5, 5, 5]


def test_operations_count_a_product_and_a_sum_for_each_weight() -> None:
    (node,) = make_plan(CFG).nodes
    assert node.spec.operations(node.inputs) == 2 * 12 * 5


def test_a_new_layer_has_uniform_weights_within_he_bounds() -> None:
    layer = first(initialized("[net]\ninputs=50\n[connected]\noutput=400\n"))
    bound = math.sqrt(2 / 50)
    assert 0.99 * bound < layer.weights.abs().max() <= bound
    assert abs(layer.weights.std() - bound / math.sqrt(3)) < 0.01 * bound
    assert not layer.biases.any()


def test_the_oldest_files_hold_the_weights_transposed(tmp_path: Path) -> None:
    biases, weights = np.arange(5, dtype="<f4"), np.random.default_rng(1).random((5, 12), dtype=np.float32)
    now, old = tmp_path / "now.weights", tmp_path / "old.weights"
    now.write_bytes(struct.pack("<3iQ", 0, 2, 0, 7) + biases.tobytes() + weights.tobytes())
    old.write_bytes(struct.pack("<3iI", 1001, 0, 0, 7) + biases.tobytes() + weights.T.tobytes())
    for path in (now, old):
        layer = first(darkpy.load(PLAIN, path))
        np.testing.assert_array_equal(layer.weights.detach().numpy(), weights)


def test_folded_batch_norm_gives_the_same_output() -> None:
    network = initialized(CFG)
    layer = first(network)
    for array in (layer.scales, layer.biases, layer.rolling_mean, layer.rolling_variance):
        array.detach().uniform_(0.5, 2)
    x = torch.rand(4, 2, 2, 3)
    expected = network(x)[0]
    torch.testing.assert_close(network.for_inference()(x)[0], expected, rtol=1e-5, atol=1e-6)
    assert [name for name, _ in layer.named_parameters()] == ["biases", "weights"]


def test_training_moves_the_rolling_statistics_by_a_hundredth() -> None:
    network = initialized(CFG).train()
    x = torch.rand(8, 2, 2, 3)
    network(x)
    raw = x.flatten(1) @ first(network).weights.T
    torch.testing.assert_close(first(network).rolling_mean, 0.01 * raw.mean(0))
    torch.testing.assert_close(first(network).rolling_variance, 0.01 * raw.var(0))
