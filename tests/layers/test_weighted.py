"""Backward pass of [convolutional], [deconvolutional] and [connected], and folding of batch norm."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch

from darkpy.build import make_plan
from darkpy.layers.weighted import WeightedLayer
from darkpy.network import Network

ONE = "[convolutional]\nactivation=linear\n"  # one filter of 1 x 1: y = weight * x
KINDS = {
    "convolutional": "[convolutional]\nfilters=6\nsize=3\ngroups=2\nactivation=leaky\n",
    "deconvolutional": "[deconvolutional]\nfilters=6\nsize=3\nstride=2\nactivation=leaky\n",
    "connected": "[connected]\noutput=6\nactivation=leaky\n",
}
NORMED = [kind + "batch_normalize=1\n" for kind in KINDS.values()]
of_every_kind = pytest.mark.parametrize("section", KINDS.values(), ids=KINDS)


@pytest.fixture(autouse=True)
def darknet_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a call of the network one of a training step, which changes gradients."""
    monkeypatch.setattr("darkpy.network.unchanged_gradients", contextlib.nullcontext)


def network(*sections: str, net: str = "", channels: int = 4, dialect: str = "pjreddie") -> Network:
    """A network with random values in every array, positive for variances."""
    text = f"[net]\nwidth=5\nheight=6\nchannels={channels}\n{net}\n" + "".join(sections)
    made = Network(make_plan(text, dialect))
    made.initialize()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, array in made.state_dict().items():
            array.uniform_(0.2 if "variance" in name else -1, 1, generator=generator)
    return made


def scaled(*weights: float, net: str = "", keys: tuple[str, ...] = ()) -> Network:
    """Layers of one filter and one weight each; a key that is a section goes in between."""
    made = network(*(ONE + key for key in keys), net=net, channels=1)
    for layer, weight in zip(
        (layer for layer in made.layers if isinstance(layer, WeightedLayer)), weights, strict=True
    ):
        layer.weights.detach().fill_(weight)
        layer.biases.detach().fill_(0)
    return made


def pushed_back(made: Network, gradient: torch.Tensor | float, x_BCHW: torch.Tensor | None = None) -> torch.Tensor:
    """Gradient at the network's input for a gradient of 1 at its output."""
    x_BCHW = torch.ones(1, *made.plan.input_shape) if x_BCHW is None else x_BCHW.clone()
    x_BCHW.requires_grad_(True)
    (y_BCHW,) = made(x_BCHW)
    torch.autograd.backward(y_BCHW, torch.zeros_like(y_BCHW) + gradient)
    assert x_BCHW.grad is not None
    return x_BCHW.grad


def numbers(tensor: torch.Tensor) -> set[float]:
    return set(tensor.flatten().tolist())


# the delta constraint


@of_every_kind
def test_delta_of_every_kind_is_clamped_before_its_activation(section: str) -> None:
    made, free = network(section), network(section, net="constrain=0")
    generator = torch.Generator().manual_seed(2)
    x_BCHW = torch.rand(3, 4, 6, 5, generator=generator)
    gradient_BFHW = torch.rand(3, *made.plan.nodes[0].shape, generator=generator) * 6 - 3
    actual = pushed_back(made, gradient_BFHW, x_BCHW)
    assert torch.equal(actual, pushed_back(free, gradient_BFHW.clamp(-1, 1), x_BCHW))
    assert not torch.allclose(actual, pushed_back(free, gradient_BFHW, x_BCHW))
    free.zero_grad()
    pushed_back(free, gradient_BFHW.clamp(-1, 1), x_BCHW)
    for name, parameter in made.named_parameters():
        torch.testing.assert_close(parameter.grad, free.get_parameter(name).grad, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize(
    ("net", "key", "arrives"),
    [
        ("", "", 1.0),
        ("constrain=2.5", "", 2.5),
        ("constrain=0", "", 9.0),
        ("", "constrain=4\n", 4.0),
        ("", "constrain=0\n", 9.0),
        ("constrain=0", "constrain=3\n", 3.0),
        ("constrain=20", "", 9.0),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_bound_is_the_sections_or_else_the_nets_and_zero_is_none(net: str, key: str, arrives: float, sign: int) -> None:
    assert numbers(pushed_back(scaled(1, net=net, keys=(key,)), 9.0 * sign)) == {arrives * sign}


@pytest.mark.parametrize(
    ("section", "bounds"),  # by dialect: pjreddie's, AlexeyAB's, AlexeyAB's with try_fix_nan=1
    [
        ("[convolutional]", (1, 0, 1)),
        ("[deconvolutional]", (1, None, None)),
        ("[connected]", (1, 1, 1)),
        ("[rnn]", (1, 1, 1)),
        ("[gru]", (1, 1, 1)),
        ("[lstm]", (1, 1, 1)),
        ("[crnn]\nsize=3\npad=1", (1, 0, 1)),
        ("[conv_lstm]\nsize=3\npad=1", (None, 0, 1)),
        ("[convolutional]\nconstrain=0", (0, 0, 0)),
        ("[convolutional]\nconstrain=2", (2, 2, 2)),
        ("[lstm]\nconstrain=0", (0, 0, 0)),
        ("[crnn]\nsize=3\npad=1\nconstrain=2", (2, 2, 2)),
    ],
)
def test_bound_of_deltas_follows_the_dialect_and_the_kind_of_layer(
    section: str, bounds: tuple[float | None, ...]
) -> None:
    cases = (("pjreddie", ""), ("alexeyab", ""), ("alexeyab", "try_fix_nan=1"))
    for (dialect, net), bound in zip(cases, bounds, strict=True):
        if bound is None:  # the dialect has no such section
            continue
        made = network(section + "\n", net=net, dialect=dialect)
        (node,) = made.plan.nodes
        assert node.spec.delta_bound(node.inputs, made.plan.net) == bound
        weighted = [module for module in made.modules() if isinstance(module, WeightedLayer)]
        assert weighted and {module.bound for module in weighted} == {bound}
        if "constrain" not in section:
            for word, expected in (("constrain=0", 0), ("constrain=3", 3)):
                other = network(section + "\n", net=f"{net}\n{word}", dialect=dialect)
                assert {layer.bound for layer in other.modules() if isinstance(layer, WeightedLayer)} == {expected}


def test_only_connected_layers_clamp_their_deltas_in_alexeyabs_dialect() -> None:
    for section, arrives in (("[convolutional]\n", 9.0), ("[connected]\noutput=1\n", 1.0)):
        made = network(section + "activation=linear\n", net="width=1\nheight=1", channels=1, dialect="alexeyab")
        layer = made.layers[0]
        assert isinstance(layer, WeightedLayer)
        layer.weights.detach().fill_(1)
        assert numbers(pushed_back(made, 9.0)) == {arrives}


def test_sum_of_what_all_readers_hand_back_is_clamped_and_not_each_part() -> None:
    both = "[shortcut]\nfrom=0\nactivation=linear\nalpha=5\nbeta=-4.5\n"
    made = scaled(1, 1, keys=("", f"constrain=0\n{both}"))
    assert numbers(pushed_back(made, 1.0)) == {0.5}
    made = scaled(1, 1, keys=("", f"constrain=0\n{both.replace('-4.5', '4.5')}"))
    assert numbers(pushed_back(made, 1.0)) == {1.0}


def test_clamped_delta_of_one_layer_does_not_reach_the_other_readers_of_a_sum() -> None:
    """An in-place clamp would change the tensor that the shortcut passes to both."""
    shortcut = "[shortcut]\nfrom=0\nactivation=linear\n"
    bounded_last = scaled(2, 3, net="constrain=0", keys=("", f"constrain=1\n{shortcut}"))
    assert numbers(pushed_back(bounded_last, 10.0)) == {2 * (10 + 3 * 1)}
    bounded_first = scaled(2, 3, net="constrain=0", keys=("constrain=1\n", shortcut))
    assert numbers(pushed_back(bounded_first, 10.0)) == {2 * 1}


def test_gradient_that_was_handed_in_is_left_as_it_was() -> None:
    made = scaled(1, keys=("smooth=.1\n",))
    x_BCHW = torch.rand(1, 1, 6, 5, requires_grad=True)
    gradient_BFHW = torch.full((1, 1, 6, 5), 7.0)
    torch.autograd.backward(made(x_BCHW)[0], gradient_BFHW)
    assert numbers(gradient_BFHW) == {7.0}


@of_every_kind
def test_constraint_and_smoothing_leave_the_output_as_it_is(section: str) -> None:
    x_BCHW = torch.rand(2, 4, 6, 5)
    (plain,) = network(section, net="constrain=0")(x_BCHW)
    assert torch.equal(network(section + "constrain=.01\nsmooth=.3\n")(x_BCHW)[0], plain)
    with torch.no_grad():
        assert torch.equal(network(section + "constrain=.01\nsmooth=.3\n")(x_BCHW)[0], plain)


def test_delta_is_smoothed_then_constrained_then_meets_the_activation() -> None:
    weight, rate, bound = 2.0, 0.05, 0.6
    made = network(
        f"[convolutional]\nactivation=leaky\nsmooth={rate}\nconstrain={bound}\n", channels=1, dialect="pjreddie"
    )
    layer = made.layers[0]
    assert isinstance(layer, WeightedLayer)
    layer.weights.detach().fill_(weight)
    layer.biases.detach().fill_(0)
    generator = np.random.default_rng(3)
    x, delta = generator.uniform(-1, 1, (6, 5)), generator.uniform(-1, 1, (6, 5))
    y = np.where(x > 0, weight * x, 0.1 * weight * x)
    expected = np.zeros_like(delta)
    for row in range(6):
        for column in range(5):
            window = y[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3]
            smoothed = delta[row, column] + rate * (window - y[row, column]).sum()
            slope = 1 if y[row, column] > 0 else 0.1
            expected[row, column] = weight * slope * min(bound, max(-bound, smoothed))
    actual = -pushed_back(made, -torch.from_numpy(delta).float(), torch.from_numpy(x).float()[None, None])
    np.testing.assert_allclose(actual[0, 0].numpy(), expected, rtol=1e-5, atol=1e-6)
    assert (np.abs(expected) < 0.99 * weight * bound).any() and np.isclose(np.abs(expected), weight * bound).any()


# batch norm folding


@pytest.mark.parametrize("section", NORMED, ids=KINDS)
def test_folded_layer_departs_by_rounding_alone(section: str) -> None:
    made = network(section)
    x_BCHW = torch.rand(3, 4, 6, 5)
    expected = made(x_BCHW)[0].detach()
    layer = made.layers[0]
    assert isinstance(layer, WeightedLayer)
    names = {name for name, _ in (*layer.named_parameters(), *layer.named_buffers())}
    assert names == {"biases", "scales", "rolling_mean", "rolling_variance", "weights"}
    (actual,) = made.for_inference()(x_BCHW)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    assert {name for name, _ in (*layer.named_parameters(), *layer.named_buffers())} == {"biases", "weights"}


@pytest.mark.parametrize("section", NORMED, ids=KINDS)
def test_folded_arrays_keep_their_type(section: str) -> None:
    made = network(section).double()
    x_BCHW = torch.rand(3, 4, 6, 5, dtype=torch.float64)
    expected = made(x_BCHW)[0].detach()
    (actual,) = made.for_inference()(x_BCHW)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_folding_twice_changes_nothing() -> None:
    made = network(NORMED[0]).for_inference()
    once = {name: array.clone() for name, array in made.state_dict().items()}
    again = made.for_inference().state_dict()
    assert once.keys() == again.keys() and all(torch.equal(array, again[name]) for name, array in once.items())


def test_shared_convolution_is_folded_once_for_all() -> None:
    section = "[convolutional]\nfilters=4\nsize=3\npad=1\nbatch_normalize=1\nactivation=leaky\n"
    made = network(section, section + "share_index=0\ndilation=2\n", dialect="alexeyab")
    x_BCHW = torch.rand(3, 4, 6, 5)
    expected = made(x_BCHW)[0].detach()
    torch.testing.assert_close(made.for_inference()(x_BCHW)[0], expected, rtol=1e-5, atol=1e-5)
    assert sorted(made.state_dict()) == ["layers.0.biases", "layers.0.weights"]
