"""Which layers learn: stopbackward and onlyforward of both forks."""

from __future__ import annotations

import pytest
import torch

import darkpy
from darkpy.network import Network
from darkpy.training.trainer import Trainer

CONV = "[convolutional]\nfilters=3\nsize=3\npad=1\nbatch_normalize=1\nactivation=leaky\n{}\n"
NET = "[net]\nwidth=6\nheight=6\nchannels=3\nbatch=2\nlearning_rate=.1\n{}\n"


def changed(dialect: str, key: str, *, updates: int = 1, freeze: int = 0) -> tuple[set[int], Network]:
    """The layers whose arrays move when the second of three convolutions has a key."""
    text = NET.format("") + CONV.format("") + CONV.format(key) + CONV.format("") + "[cost]\n"
    torch.manual_seed(0)
    network = darkpy.load(text, dialect=dialect)
    before = {name: array.detach().clone() for name, array in network.named_parameters()}
    network.freeze(freeze)
    trainer = Trainer(network)
    for _ in range(updates):
        trainer.train_minibatch(torch.rand(2, 3, 6, 6), torch.rand(2, 108))
    moved = {name for name, array in network.named_parameters() if not torch.equal(array, before[name])}
    return {int(name.split(".")[1]) for name in moved}, network


@pytest.mark.parametrize("dialect", ["pjreddie", "alexeyab"])
def test_every_layer_learns_without_a_key(dialect: str) -> None:
    assert changed(dialect, "")[0] == {0, 1, 2}


@pytest.mark.parametrize("dialect", ["pjreddie", "alexeyab"])
def test_stopbackward_keeps_its_layer_and_all_before_it(dialect: str) -> None:
    assert changed(dialect, "stopbackward=1")[0] == {2}


def test_a_number_of_updates_ends_the_stop_for_alexeyab_only() -> None:
    assert changed("alexeyab", "stopbackward=3", updates=2)[0] == {2}
    assert changed("alexeyab", "stopbackward=3", updates=3)[0] == {0, 1, 2}
    assert changed("pjreddie", "stopbackward=3", updates=3)[0] == {2}


def test_frozen_batch_norm_goes_by_its_rolling_statistics_for_alexeyab_and_rolls_on_for_pjreddie() -> None:
    _, frozen = changed("alexeyab", "stopbackward=1")
    assert not frozen.get_buffer("layers.0.rolling_mean").any()
    _, rolling = changed("pjreddie", "stopbackward=1")
    assert rolling.get_buffer("layers.0.rolling_mean").any()


def test_onlyforward_passes_nothing_back_for_alexeyab() -> None:
    assert changed("alexeyab", "onlyforward=1")[0] == {2}
    assert changed("pjreddie", "onlyforward=1")[0] == {0, 1, 2}


def test_a_batch_without_an_image_for_a_pass_is_refused() -> None:
    text = NET.format("subdivisions=4") + CONV.format("") + "[cost]\n"
    with pytest.raises(darkpy.DarkpyError, match="leaves no images for a forward pass"):
        Trainer(darkpy.load(text))


def test_first_layers_are_frozen_from_outside_in_both_dialects() -> None:
    for dialect in ("pjreddie", "alexeyab"):
        moved, network = changed(dialect, "", freeze=2)
        assert moved == {2} and not network.get_buffer("layers.1.rolling_mean").any()
        assert network.get_buffer("layers.2.rolling_mean").any()


def test_weights_that_a_later_layer_shares_with_a_frozen_one_stay() -> None:
    moved, _ = changed("alexeyab", "share_index=0", freeze=1)
    assert moved == {2}


def test_frozen_recurrent_layer_starts_each_minibatch_afresh() -> None:
    torch.manual_seed(0)
    text = "[net]\nbatch=2\ninputs=3\nlearning_rate=0\n[rnn]\noutput=4\nhidden=4\n[connected]\noutput=2\n[cost]\n"
    network = darkpy.load(text)
    network.freeze(1)
    trainer = Trainer(network)
    x, truth = torch.rand(2, 3), torch.rand(2, 2)
    first, second = (trainer.train_minibatch(x, truth).cost for _ in range(2))
    assert first == second
