"""Group norm, layer norm and PReLU in [convolutional], [deconvolutional] and [connected], by their formulas."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import darkpy
from darkpy.build import make_plan
from darkpy.network import Network
from darkpy.training.trainer import Trainer

Array = NDArray[Any]
NET = "[net]\nwidth=5\nheight=6\nchannels=4\nconstrain=0\n"
KINDS = {
    "convolutional": "[convolutional]\nfilters=6\nsize=3\n",
    "deconvolutional": "[deconvolutional]\nfilters=6\nsize=3\nstride=2\n",
    "connected": "[connected]\noutput=6\n",
}
of_every_kind = pytest.mark.parametrize("section", KINDS.values(), ids=KINDS)


@pytest.fixture(autouse=True)
def darknet_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a call of the network one of a training step, which changes gradients."""
    monkeypatch.setattr("darkpy.network.unchanged_gradients", contextlib.nullcontext)


def network(*sections: str, net: str = NET) -> Network:
    """In float64, with random values in every array."""
    made = Network(make_plan(net + "".join(sections), "pjreddie"))
    made.initialize()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for array in made.state_dict().values():
            array.uniform_(-1, 1, generator=generator)
    return made.double()


def image(*, requires_grad: bool = False) -> torch.Tensor:
    x_BCHW = torch.randn(3, 4, 6, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return x_BCHW.requires_grad_(requires_grad)


def array(made: Network, name: str) -> Array:
    return made.layers[0].get_parameter(name).detach().numpy()[:, None, None]


@of_every_kind
@pytest.mark.parametrize(
    ("key", "groups"), [("group_normalize=2\n", 2), ("group_normalize=3\n", 3), ("layer_normalize=1\n", 1)]
)
@pytest.mark.parametrize("training", [False, True])
def test_each_group_of_filters_of_an_image_is_normalized_scaled_and_shifted(
    section: str, key: str, groups: int, training: bool
) -> None:
    if section == KINDS["connected"] and groups == 3:
        key, groups = "group_normalize=1\n", 1
    made = network(section, key, "activation=linear\n").train(training)
    plain = network(section, "activation=linear\n")
    plain.layers[0].get_parameter("weights").data = made.layers[0].get_parameter("weights").data
    plain.layers[0].get_parameter("biases").data = torch.zeros_like(made.layers[0].get_parameter("biases").data)
    y_BFHW = plain(image())[0].detach().numpy()
    grouped = y_BFHW.reshape(len(y_BFHW), groups, -1)
    deviation = np.sqrt(grouped.var(2, keepdims=True) + 1e-5)
    normed = ((grouped - grouped.mean(2, keepdims=True)) / deviation).reshape(y_BFHW.shape)
    expected = normed * array(made, "scales") + array(made, "biases")
    np.testing.assert_allclose(made(image())[0].detach().numpy(), expected, rtol=1e-9, atol=1e-12)


@of_every_kind
@pytest.mark.parametrize("keys", ["group_normalize=2\n", "layer_normalize=1\nactivation=prelu\n"])
def test_gradients_are_those_of_the_formula(section: str, keys: str) -> None:
    made = network(section, keys).train()
    layer = made.layers[0]
    names = [name for name, _ in layer.named_parameters()]
    arrays = [param.detach().requires_grad_() for param in layer.parameters()]

    def run(x_BCHW: torch.Tensor, *params: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = torch.func.functional_call(layer, dict(zip(names, params, strict=True)), (x_BCHW,))
        return output

    assert "scales" in names
    assert torch.autograd.gradcheck(run, [image(requires_grad=True)[:2], *arrays])


@of_every_kind
def test_prelu_is_leaky_with_a_slope_of_each_channel(section: str) -> None:
    made = network(section, "activation=prelu\n")
    linear = network(section, "activation=linear\n")
    linear.layers[0].load_state_dict({name: made.layers[0].get_parameter(name) for name in ("biases", "weights")})
    y_BFHW = linear(image())[0].detach().numpy()
    expected = np.where(y_BFHW > 0, y_BFHW, array(made, "slopes") * y_BFHW)
    np.testing.assert_allclose(made(image())[0].detach().numpy(), expected, rtol=1e-9, atol=1e-12)
    assert (y_BFHW < 0).any()


@of_every_kind
def test_new_prelu_slopes_are_a_quarter_and_stand_last(section: str) -> None:
    made = darkpy.load(NET + section + "activation=prelu\n", dialect="pjreddie")
    assert made.plan.nodes[0].arrays[-1].name == "slopes"
    assert made.layers[0].get_parameter("slopes").tolist() == [0.25] * 6


def test_norms_scales_stand_where_batch_norms_stand() -> None:
    names = {
        kind: [
            array_spec.name for array_spec in make_plan(NET + text + "group_normalize=2\n", "pjreddie").nodes[0].arrays
        ]
        for kind, text in KINDS.items()
    }
    assert names["convolutional"] == names["deconvolutional"] == ["biases", "scales", "weights"]
    assert names["connected"] == ["biases", "weights", "scales"]


def test_slopes_and_scales_learn_and_do_not_decay() -> None:
    text = "[net]\nwidth=5\nheight=6\nchannels=4\nbatch=3\ndecay=.5\nmomentum=0\nlearning_rate=.1\n"
    text += KINDS["convolutional"] + "group_normalize=2\nactivation=prelu\n[cost]\n"
    made = darkpy.load(text)
    before = {name: param.detach().clone() for name, param in made.named_parameters()}
    trainer = Trainer(made)
    # a delta of 0: only weight decay changes the arrays
    trainer.train_minibatch(image().float(), made.trace(image().float())[0].detach().flatten(1))
    moved = {name.rpartition(".")[2] for name, param in made.named_parameters() if not torch.equal(param, before[name])}
    assert moved == {"weights"}
    trainer.train_minibatch(image().float(), torch.randn(3, made.plan.nodes[0].shape.outputs))
    moved = {name.rpartition(".")[2] for name, param in made.named_parameters() if not torch.equal(param, before[name])}
    assert moved == {"weights", "biases", "scales", "slopes"}


def test_delta_is_constrained_before_prelu_and_the_norm() -> None:
    text = KINDS["convolutional"] + "group_normalize=2\nactivation=prelu\n"
    bound, free = network(text + "constrain=1\n"), network(text)
    gradient_BFHW = torch.randn(3, 6, 4, 3, dtype=torch.float64) * 3
    x_BCHW, same_BCHW = image(requires_grad=True), image(requires_grad=True)
    torch.autograd.backward(bound(x_BCHW)[0], gradient_BFHW)
    torch.autograd.backward(free(same_BCHW)[0], gradient_BFHW.clamp(-1, 1))
    assert x_BCHW.grad is not None and same_BCHW.grad is not None
    torch.testing.assert_close(x_BCHW.grad, same_BCHW.grad)


def test_shared_convolution_shares_scales_and_slopes() -> None:
    square = "[convolutional]\nfilters=4\nsize=3\npad=1\ngroup_normalize=2\nactivation=prelu\n"
    made = Network(make_plan(NET + square + square + "share_index=0\n", "alexeyab"))
    made.initialize(torch.Generator().manual_seed(1))
    x_BCHW = torch.randn(2, 4, 6, 5)
    once, twice = made.trace(x_BCHW)
    torch.testing.assert_close(twice, made.layers[0](once))
    folded = made.for_inference().trace(x_BCHW)
    torch.testing.assert_close(folded[1], twice, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("keys", ["group_normalize=2\n", "layer_normalize=1\n", "batch_normalize=1\n"])
def test_mixed_precision_takes_every_norm_and_prelu(keys: str) -> None:
    text = "[net]\nwidth=5\nheight=6\nchannels=4\nbatch=3\nmean=.5\nstd=.2\n"
    text += KINDS["convolutional"] + keys + "activation=prelu\n[connected]\noutput=3\nactivation=prelu\n[softmax]\n"
    step = Trainer(darkpy.load(text), precision="bf16").train_minibatch(torch.rand(3, 4, 6, 5), torch.eye(3))
    assert step.norm is not None and torch.isfinite(step.norm)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("batch_normalize=1\ngroup_normalize=2\n", "batch_normalize and group_normalize both normalize"),
        ("group_normalize=2\nlayer_normalize=1\n", "group_normalize and layer_normalize both normalize"),
        ("group_normalize=4\n", "6 filters cannot be split into group_normalize=4"),
        ("group_normalize=-1\n", "group_normalize=-1 is below 0"),
    ],
)
def test_norms_that_cannot_be_are_refused(keys: str, message: str) -> None:
    with pytest.raises(darkpy.ConfigError, match=message):
        darkpy.plan(NET + KINDS["convolutional"] + keys)


def test_a_group_of_one_value_is_refused() -> None:
    with pytest.raises(darkpy.ConfigError, match="leaves one value in each group"):
        darkpy.plan(NET + KINDS["connected"] + "group_normalize=6\n")


@pytest.mark.parametrize(("key", "near"), [("group_normalise=2\n", "group_normalize"), ("layernorm=1\n", "layer_norm")])
def test_misspelled_key_warning_suggests_the_right_one(key: str, near: str) -> None:
    with pytest.warns(darkpy.DarkpyWarning, match=f"did you mean .*{near}"):
        darkpy.plan(NET + KINDS["convolutional"] + key)


def test_prelu_is_for_layers_that_keep_its_slopes() -> None:
    with pytest.raises(darkpy.ConfigError, match="activation=prelu is not known"):
        darkpy.plan(NET + "[convolutional]\nfilters=4\n[shortcut]\nfrom=-1\nactivation=prelu\n")


@pytest.mark.parametrize("dialect", ["pjreddie", "alexeyab"])
def test_own_keys_tell_of_no_dialect(dialect: str) -> None:
    dialect_key = {"pjreddie": "", "alexeyab": "letter_box=1\n"}[dialect]
    keys = "group_normalize=2\nactivation=prelu\n"
    assert str(darkpy.plan(NET + dialect_key + KINDS["convolutional"] + keys).dialect) == dialect
