"""[net] mean= and std=: every way into a network sees them, and a weight file does not hold them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import darkpy
from darkpy.inference.accelerate import accelerate
from darkpy.network import Network
from darkpy.training.trainer import Trainer

CFG = "[net]\nwidth=5\nheight=4\nchannels=3\nbatch=2\n{}\n[convolutional]\nfilters=2\nsize=3\npad=1\n[cost]\n"
KEYS = "mean=.485,.456,.406\nstd=.229,.224,.225\n"


def network(keys: str) -> Network:
    torch.manual_seed(1)
    return darkpy.load(CFG.format(keys))


def image() -> torch.Tensor:
    return torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(2))


def normalized() -> torch.Tensor:
    mean_C11, std_C11 = (
        torch.tensor(numbers)[:, None, None] for numbers in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    return (image() - mean_C11) / std_C11


def test_layers_read_the_input_less_its_mean_divided_by_its_deviation() -> None:
    with_keys, plain = network(KEYS), network("")
    torch.testing.assert_close(with_keys(image())[0], plain(normalized())[0])
    torch.testing.assert_close(with_keys.trace(image())[0], plain.trace(normalized())[0])
    torch.testing.assert_close(with_keys.for_inference()(image())[0], plain(normalized())[0])


def test_fastest_way_sees_the_same_numbers() -> None:
    torch.testing.assert_close(accelerate(network(KEYS))(image())[0], network("")(normalized())[0])


def test_training_sees_the_same_numbers() -> None:
    with_keys, plain = network(KEYS), network("")
    truth = torch.rand(2, 40)
    first = Trainer(with_keys).train_minibatch(image(), truth)
    second = Trainer(plain).train_minibatch(normalized(), truth)
    assert first.cost == pytest.approx(second.cost, rel=1e-5)
    for name, param in with_keys.named_parameters():
        torch.testing.assert_close(param, plain.get_parameter(name))


def test_one_number_is_for_all_channels_and_each_key_may_stand_alone() -> None:
    plain = network("")
    torch.testing.assert_close(network("mean=.5")(image())[0], plain(image() - 0.5)[0])
    torch.testing.assert_close(network("std=.25")(image())[0], plain(image() / 0.25)[0])


def test_weights_are_the_same_file_with_the_keys_and_without(tmp_path: Path) -> None:
    for name, keys in (("with", KEYS), ("without", "")):
        network(keys).save_weights(tmp_path / name)
    assert (tmp_path / "with").read_bytes() == (tmp_path / "without").read_bytes()
    assert network(KEYS).state_dict().keys() == network("").state_dict().keys()


def test_input_that_was_given_is_left_as_it_was() -> None:
    x_BCHW = image()
    network(KEYS)(x_BCHW)
    assert torch.equal(x_BCHW, image())


def test_vectors_are_normalized_too() -> None:
    made = darkpy.load("[net]\ninputs=4\nmean=3\nstd=2\n[activation]\n")
    assert made(torch.tensor([[1.0, 3, 5, 7]]))[0].flatten().tolist() == [-1, 0, 1, 2]


def test_network_says_that_no_darknet_computes_it() -> None:
    assert network(KEYS).plan.extensions == (
        "[net] <cfg>: mean=0.485,0.456,0.406",
        "[net] <cfg>: std=0.229,0.224,0.225",
    )
    assert network("").plan.extensions == ()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("mean=.5,.5\n", "mean= has 2 values for 3 channels"),
        ("mean=123.7,116.3,103.5\n", "mean=123.7,116.3,103.5 is out of range: images have values of 0 to 1"),
        ("std=58.4\n", "std=58.4 is out of range"),
        ("std=.2,0,.2\n", r"std= is a divisor and must be above 0"),
        ("std=-.2\n", r"std= is a divisor and must be above 0"),
        ("mean=a\n", "mean=a is not a number"),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused(keys: str, message: str) -> None:
    with pytest.raises(darkpy.ConfigError, match=message):
        darkpy.plan(CFG.format(keys))


def test_misspelled_key_has_a_suggestion() -> None:
    with pytest.warns(darkpy.DarkpyWarning, match="did you mean mean"):
        darkpy.plan(CFG.format("means=.5"))
