"""[conv_lstm] beyond the goldens: bottleneck, clamping of the cell, gradients through time, file order."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import darkpy
from darkpy.build import make_plan
from darkpy.network import Network

NET = "[net]\nwidth=6\nheight=5\nchannels=4\ntime_steps=3\n[conv_lstm]\nsize=3\npad=1\n"
SQUASHES: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "hardtan": functional.hardtanh}


def initialized(keys: str) -> Network:
    network = Network(make_plan(f"{NET}{keys}\n"))
    network.initialize(torch.Generator().manual_seed(1))
    return network


def convolve(network: Network, part: str, x: Tensor) -> Tensor:
    return functional.conv2d(x, network.get_parameter(f"layers.0.{part}.weights"), padding=1)


def frames() -> Tensor:
    return torch.randn(6, 4, 5, 6, generator=torch.Generator().manual_seed(2))


def parts(keys: str) -> list[str]:
    (node,) = make_plan(f"{NET}{keys}\n").nodes
    return [
        array_spec.name.removesuffix(".weights") for array_spec in node.arrays if array_spec.name.endswith("weights")
    ]


def test_the_file_holds_cell_then_past_then_input() -> None:
    assert parts("output=4") == ["wf", "wi", "wg", "wo", "uf", "ui", "ug", "uo"]
    assert parts("output=4\npeephole=1")[:4] == ["vf", "vi", "vo", "wf"]
    assert parts("output=4\nbottleneck=1") == ["wf", "uf", "ui", "ug", "uo"]


@pytest.mark.parametrize("shortcut", [False, True])
@pytest.mark.parametrize("activation", ["tanh", "hardtan"])
def test_a_bottleneck_merges_state_and_input_for_all_gates(activation: str, shortcut: bool) -> None:
    network = initialized(f"output=4\nbottleneck=1\nlstm_activation={activation}\nshortcut={int(shortcut)}")
    squash = SQUASHES[activation]
    h = c = torch.zeros(2, 4, 5, 6)
    expected = []
    for x in frames().chunk(3):
        u = squash(convolve(network, "wf", torch.cat((h, x), 1)))
        f, i, o = (torch.sigmoid(convolve(network, part, u)) for part in ("uf", "ui", "uo"))
        c = f * c + i * squash(convolve(network, "ug", u))
        h = o * squash(c)
        y = h.clone()
        if shortcut:
            y[:, :2] += u[:, :2]
        expected.append(y)
    torch.testing.assert_close(network(frames())[0], torch.cat(expected))


def test_a_bottleneck_needs_as_many_channels_in_as_out() -> None:
    with pytest.raises(darkpy.ConfigError, match=r"output=3, but reads 4\n.*set output=4"):
        make_plan(f"{NET}output=3\nbottleneck=1\n")


def test_each_activation_acts_before_the_gate_sums() -> None:
    network = initialized("output=4\nactivation=leaky")
    x = frames()[:2]
    made = {part: functional.leaky_relu(convolve(network, part, x), 0.1) for part in ("ui", "ug", "uo")}
    c = torch.sigmoid(made["ui"]) * torch.tanh(made["ug"])
    expected = torch.sigmoid(made["uo"]) * torch.tanh(c)
    torch.testing.assert_close(network(frames())[0][:2], expected)


def test_the_cell_is_bounded_after_the_output_was_taken() -> None:
    free, bound = initialized("output=4\nstate_constrain=0"), initialized("output=4\nstate_constrain=1")
    with torch.no_grad():
        for network in (free, bound):
            for part, bias in (("ui", 20.0), ("uf", 20.0), ("ug", 20.0), ("uo", 20.0)):
                network.get_parameter(f"layers.0.{part}.biases").fill_(bias)
        free_y, bound_y = free(frames() / 100)[0], bound(frames() / 100)[0]
    ones = torch.ones(2, 4, 5, 6)
    for step, cell in enumerate((1.0, 2.0, 3.0)):
        torch.testing.assert_close(free_y[2 * step : 2 * step + 2], torch.tanh(cell * ones))
    for step, cell in enumerate((1.0, 2.0, 2.0)):
        torch.testing.assert_close(bound_y[2 * step : 2 * step + 2], torch.tanh(cell * ones))


def test_time_normalizer_scales_what_goes_back_and_nothing_else() -> None:
    outputs, gradients = [], []
    for factor in (1.0, 0.5, 0.0):
        network, x = initialized(f"output=4\ntime_normalizer={factor}").train(), frames().requires_grad_()
        y = network(x)[0]
        y[2:4].sum().backward()
        outputs.append(y)
        assert x.grad is not None
        gradients.append(x.grad[:2])
    assert torch.equal(outputs[0], outputs[1])
    # the gradient that reaches the step before through the cell is the same in all three
    torch.testing.assert_close(gradients[1] - gradients[2], (gradients[0] - gradients[2]) / 2)
    assert not torch.equal(gradients[0], gradients[2])


def test_operations_count_the_gates() -> None:
    (node,) = make_plan(f"{NET}output=3\npeephole=1\n").nodes
    convolutions = 2 * 9 * 3 * (7 * 3 + 4 * 4)  # seven read 3 channels, four the input's 4
    assert node.spec.operations(node.inputs) == 30 * (convolutions + 12 * 3)
