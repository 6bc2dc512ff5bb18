"""[local] beyond the goldens: borders, initial values, and values of pjreddie's C program."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

import darkpy
from darkpy.build import make_plan
from darkpy.network import Network

OVERRUN = Path(__file__).parents[1] / "golden" / "local-overrun.npz"


def cfg(local: str, side: int = 7) -> str:
    return f"[net]\nwidth={side}\nheight={side - 1}\nchannels=2\n[local]\nfilters=3\nactivation=linear\n{local}\n"


@pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning")
def test_pjreddies_numbers_are_these_on_the_weights_that_its_columns_overwrote(tmp_path: Path) -> None:
    # its C code allocates a quarter of the memory for the columns, which overwrite the weights of the first positions
    golden = np.load(OVERRUN)
    weights = tmp_path / "net.weights"
    weights.write_bytes(golden["weights"].tobytes())
    network = darkpy.load(golden["cfg"].tobytes().decode(), weights, dialect="pjreddie")
    x_BCHW = torch.from_numpy(golden["x"]).reshape(2, *network.plan.input_shape)
    array = network.get_parameter("layers.0.weights")
    whole = array.detach().clone()
    for image, expected in zip(x_BCHW, golden["test0"], strict=True):
        columns = functional.unfold(image[None], 3, padding=1).flatten()
        with torch.no_grad():
            array.copy_(whole)
            array.view(-1)[: len(columns) - 492] = columns[492:]
            actual = network.trace(image[None])[0][0]
        np.testing.assert_allclose(actual.numpy(), expected.reshape(actual.shape), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("local", ["size=3\nstride=2\npad=1", "size=5\npad=2", "size=2\nstride=2", "size=3"])
def test_the_same_weights_everywhere_make_it_a_convolution(local: str) -> None:
    network = Network(make_plan(cfg(local)))
    network.initialize(torch.Generator().manual_seed(1))
    keys = dict(line.split("=") for line in local.split("\n"))
    size, stride, pad = (int(keys.get(name, default)) for name, default in (("size", 1), ("stride", 1), ("pad", 0)))
    weights = network.get_parameter("layers.0.weights")
    with torch.no_grad():
        weights.copy_(weights[:1].expand_as(weights))
    x = torch.rand(2, 2, 6, 7)
    kernel = weights[0].reshape(3, 2, size, size)
    expected = functional.conv2d(x, kernel, stride=stride, padding=pad)
    assert tuple(network.plan.nodes[0].shape) == tuple(expected.shape[1:])
    torch.testing.assert_close(network(x)[0], expected)


@pytest.mark.parametrize(
    ("local", "message"),
    [
        ("size=5\npad=1", r"size=5 pad=1 gives 5 x 4 positions, .* 7 x 6\n.*size=3 pad=1"),
        ("size=1\npad=1", r"size=1 pad=1 gives 9 x 8 positions"),
        ("size=9", r"size=9 is larger than the input, 7 x 6 x 2 with pad=0"),
    ],
)
def test_a_border_that_does_not_fit_the_size_is_refused(local: str, message: str) -> None:
    with pytest.raises(darkpy.ConfigError, match=message):
        make_plan(cfg(local))


def test_a_new_layer_has_weights_at_the_first_position_only() -> None:
    network = Network(make_plan(cfg("size=3\npad=1", side=40)))
    network.initialize(torch.Generator().manual_seed(1))
    weights, bound = network.get_parameter("layers.0.weights"), math.sqrt(2 / 18)
    assert weights.shape == (40 * 39, 3, 18)
    assert weights[0].all()
    assert weights[0].abs().max() <= bound
    assert not weights[1:].any()


def test_each_output_has_a_bias_of_its_own() -> None:
    network = Network(make_plan(cfg("size=3")))
    network.initialize()
    biases = network.get_parameter("layers.0.biases")
    with torch.no_grad():
        biases.copy_(torch.arange(biases.numel()).reshape(biases.shape))
    assert torch.equal(network(torch.zeros(1, 2, 6, 7))[0][0], biases)


def test_operations_count_every_position() -> None:
    (node,) = make_plan(cfg("size=3")).nodes
    assert node.spec.operations(node.inputs) == 2 * (5 * 4 * 3) * (2 * 3 * 3)
