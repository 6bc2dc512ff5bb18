"""bn_freeze: the parts of batch norm that are frozen in training, by [net] or a section."""

from __future__ import annotations

import pytest
import torch

import darkpy
from darkpy.network import Network
from darkpy.training.trainer import Trainer

NET = "[net]\nwidth=6\nheight=6\nchannels=3\nbatch=4\nlearning_rate=.1\nmomentum=0\ndecay=.1\n{}\n"
CONV = "[convolutional]\nfilters=3\nsize=3\npad=1\nbatch_normalize=1\nactivation=leaky\n{}\n"
LAYERS = {
    "convolutional": CONV,
    "connected": "[connected]\noutput=3\nbatch_normalize=1\n{}\n",
    "batchnorm": "[batchnorm]\n{}\n",
    "gru": "[gru]\noutput=3\nbatch_normalize=1\n{}\n",
}
AFFINE, STATS, WEIGHTS = {"scales", "biases"}, {"rolling_mean", "rolling_variance"}, {"weights"}
MOVING = {
    "none": AFFINE | STATS | WEIGHTS,
    "affine": STATS | WEIGHTS,
    "stats": AFFINE | WEIGHTS,
    "all": WEIGHTS,
}


def moved(text: str, dialect: str = "alexeyab") -> set[str]:
    """Arrays of the first layer that two updates change."""
    torch.manual_seed(0)
    network = darkpy.load(text + "[cost]\n", dialect=dialect)
    before = {name: array.clone() for name, array in network.state_dict().items()}
    trainer = Trainer(network)
    outputs = network.plan.nodes[-1].shape.outputs
    for _ in range(2):
        trainer.train_minibatch(torch.rand(4, 3, 6, 6), torch.rand(4, outputs))
    return {
        name.rpartition(".")[2]
        for name, array in network.state_dict().items()
        if name.startswith("layers.0.") and not torch.equal(array, before[name])
    }


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("word", MOVING)
@pytest.mark.parametrize("where", ["net", "section"])
@pytest.mark.parametrize("adam", ["", "adam=1\n"])
def test_frozen_arrays_do_not_change_and_all_others_learn(layer: str, word: str, where: str, adam: str) -> None:
    key = f"bn_freeze={word}"
    text = NET.format(adam + (key if where == "net" else "")) + layer.format(key if where == "section" else "")
    own = {name for name in MOVING[word] if "[batchnorm]" not in layer or name != "weights"}
    assert moved(text) == own


def test_section_goes_before_the_net() -> None:
    assert moved(NET.format("bn_freeze=all") + CONV.format("bn_freeze=none")) == MOVING["none"]
    assert moved(NET.format("bn_freeze=affine") + CONV.format("bn_freeze=stats")) == MOVING["stats"]


def prepared(word: str, keys: str = "") -> Network:
    """A network whose rolling statistics differ from those of any minibatch."""
    torch.manual_seed(0)
    network = darkpy.load(NET.format(f"bn_freeze={word}") + CONV.format(keys)).double()
    layer = network.layers[0]
    layer.get_buffer("rolling_mean").copy_(torch.tensor([0.3, -0.2, 0.1]))
    layer.get_buffer("rolling_variance").copy_(torch.tensor([2.0, 0.5, 1.5]))
    return network


@pytest.mark.parametrize("word", ["none", "affine", "stats", "all"])
def test_only_all_normalizes_a_training_by_the_rolling_statistics(word: str) -> None:
    network = prepared(word)
    x_BCHW = torch.rand(4, 3, 6, 6, dtype=torch.float64)
    inferred, (trained,) = network(x_BCHW)[0], network.train()(x_BCHW)
    assert torch.equal(trained, inferred) is (word == "all")


def test_both_ways_of_the_articles_are_torchs() -> None:
    """PyTorch's equivalents: requires_grad=False of scale and shift; momentum=0 and track_running_stats=False."""
    x_BCHW = torch.randn(4, 3, 6, 6, dtype=torch.float64) * 2 + 1
    for word in ("affine", "stats"):
        layer = prepared(word).train().layers[0]
        norm = torch.nn.BatchNorm2d(3, momentum=0.01).double()
        norm.running_mean, norm.running_var = (layer.get_buffer(name).clone() for name in sorted(STATS))
        if word == "affine":
            norm.weight.requires_grad_(False)
            norm.bias.requires_grad_(False)
        else:
            norm.momentum, norm.track_running_stats = 0, False
        conv = torch.nn.functional.conv2d(x_BCHW, layer.get_parameter("weights"), padding=1)
        expected = torch.nn.functional.leaky_relu(norm(conv), 0.1)
        torch.testing.assert_close(layer(x_BCHW), expected)
        torch.testing.assert_close(layer.get_buffer("rolling_mean"), norm.running_mean)
        torch.testing.assert_close(layer.get_buffer("rolling_variance"), norm.running_var)
        assert layer.get_parameter("scales").requires_grad is norm.weight.requires_grad


@pytest.mark.parametrize("word", ["affine", "stats", "all"])
def test_gradient_is_that_of_what_is_computed(word: str) -> None:
    layer = prepared(word, "constrain=0").train().layers[0]
    x_BCHW = torch.rand(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, [x_BCHW], nondet_tol=0)


def test_frozen_arrays_keep_what_a_file_gives_them(tmp_path: object) -> None:
    path = f"{tmp_path}/some.weights"
    prepared("none").float().save_weights(path)
    network = darkpy.load(NET.format("bn_freeze=all") + CONV.format(""), path)
    assert not network.layers[0].get_parameter("scales").requires_grad
    assert network.layers[0].get_parameter("weights").requires_grad


def test_one_image_can_be_trained_on_where_the_rolling_statistics_normalize() -> None:
    text = NET.format("bn_freeze=all").replace("batch=4", "batch=1") + "[avgpool]\n[batchnorm]\n[cost]\n"
    Trainer(darkpy.load(text)).train_minibatch(torch.rand(1, 3, 6, 6), torch.rand(1, 3))


def test_unknown_value_error_suggests_the_nearest() -> None:
    with pytest.raises(darkpy.ConfigError, match=r"bn_freeze=stat is not known\n  hint: did you mean stats"):
        darkpy.plan(NET.format("bn_freeze=stat") + CONV.format(""))
