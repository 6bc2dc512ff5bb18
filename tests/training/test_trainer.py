"""The step: what it reports, what it leaves where it was, and in which precision it computes."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
import torch

import darkpy
from darkpy.errors import DarkpyError, ShapeError
from darkpy.layers.loss import TrainingState
from darkpy.network import Network
from darkpy.training.trainer import CHANNELS_LAST_MIN_BFLOPS, Trainer
from tests.training.stream import cfg as stream_cfg

CFG = """[net]
batch=8
subdivisions=2
width=16
height=16
channels=3
learning_rate=0.05
momentum=0.9
decay=0.001

[convolutional]
batch_normalize=1
filters=16
size=3
pad=1
activation=leaky

[convolutional]
filters=4
size=3
pad=1
activation=linear

[avgpool]

[softmax]
"""
BOXES = """[net]
batch=2
width=16
height=16
channels=3

[convolutional]
filters=14
size=3
stride=4
pad=1
activation=linear

[yolo]
mask=0,1
anchors=4,4, 8,8
num=2
classes=2
"""


def network(cfg: str = CFG) -> Network:
    torch.manual_seed(1)
    return darkpy.load(cfg)


def minibatch(images: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    numbers = torch.Generator().manual_seed(2)
    x_BCHW = torch.rand(images, 3, 16, 16, generator=numbers)
    return x_BCHW, torch.eye(4)[torch.arange(images) % 4]


def weights(net: Network) -> torch.Tensor:
    return torch.cat([param.detach().flatten() for param in net.parameters()])


def test_update_comes_when_the_subdivisions_are_full() -> None:
    trainer = Trainer(network())
    reports = [trainer.train_minibatch(*minibatch()) for _ in range(4)]
    assert [report.updated for report in reports] == [False, True, False, True]
    assert [report.seen for report in reports] == [4, 8, 12, 16]
    assert trainer.batch_num == 2


def test_cost_is_the_mean_over_the_layers_that_have_one() -> None:
    net = network(CFG + "[cost]\n")
    report = Trainer(net).train_minibatch(*minibatch())
    first, second = (float(loss.cost) for loss in report.losses)
    assert report.cost == pytest.approx((first + second) / 2)


def test_norm_of_the_gradients_is_reported_with_the_update() -> None:
    trainer = Trainer(network())
    assert trainer.train_minibatch(*minibatch()).norm is None
    norm = trainer.train_minibatch(*minibatch()).norm
    assert norm is not None and 0 < float(norm) < 100


def test_training_does_not_touch_the_file_that_the_weights_were_read_from(tmp_path: Path) -> None:
    path = tmp_path / "a.weights"
    network().save_weights(path)
    before = path.read_bytes()
    trainer = Trainer(darkpy.load(CFG, path))
    for _ in range(2):
        trainer.train_minibatch(*minibatch())
    assert path.read_bytes() == before


def test_weights_that_were_read_from_a_file_train_bit_by_bit_as_those_that_were_made(tmp_path: Path) -> None:
    made = network()
    made.save_weights(tmp_path / "a.weights")
    read = darkpy.load(CFG, tmp_path / "a.weights")
    for net in (made, read):
        trainer = Trainer(net)
        for _ in range(6):
            trainer.train_minibatch(*minibatch())
    assert torch.equal(weights(made), weights(read))


def test_larger_networks_are_laid_out_for_speed_and_small_ones_as_darknet_has_them() -> None:
    large, small = network(CFG.replace("=16", "=64")), network(CFG.replace("filters=16", "filters=2"))
    for net in (large, small):
        Trainer(net)
        is_channels_last = net.get_parameter("layers.0.weights").is_contiguous(memory_format=torch.channels_last)
        assert is_channels_last == (net.plan.bflops > CHANNELS_LAST_MIN_BFLOPS)
    assert large.plan.bflops > CHANNELS_LAST_MIN_BFLOPS > small.plan.bflops


def test_mixed_precision_keeps_weights_heads_and_losses_in_float32_and_learns_the_same() -> None:
    plain, mixed = Trainer(network()), Trainer(network(), precision="bf16")
    for _ in range(20):
        exact, rounded = plain.train_minibatch(*minibatch()), mixed.train_minibatch(*minibatch())
    (loss,) = rounded.losses
    assert loss.delta.dtype is loss.cost.dtype is torch.float32
    assert {array.dtype for array in mixed.network.state_dict().values()} == {torch.float32}
    assert rounded.cost == pytest.approx(exact.cost, rel=0.05)
    assert rounded.cost != exact.cost


def test_unknown_precision_is_refused() -> None:
    with pytest.raises(DarkpyError, match="unknown precision 'fp16'\n  hint: one of fp32, bf16"):
        Trainer(network(), precision="fp16")


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [((3, 90, 5), "(2, 90, 5 or 6)"), ((2, 90, 4), "(2, 90, 5 or 6)"), ((2, 450), "(2, 90, 5 or 6)")],
)
def test_truth_of_another_shape_is_refused_with_both_shapes(shape: tuple[int, ...], wanted: str) -> None:
    one = Trainer(darkpy.load(BOXES))
    with pytest.raises(ShapeError, match=re.escape(f"the truth is {shape}, [yolo] needs {wanted}")):
        one.train_minibatch(torch.rand(2, 3, 16, 16), torch.zeros(shape))
    for size in (5, 6):
        assert one.train_minibatch(torch.rand(2, 3, 16, 16), torch.zeros(2, 7, size)).cost > 0


def test_network_without_a_loss_is_refused() -> None:
    with pytest.raises(DarkpyError, match="has no layer with a loss"):
        Trainer(network(CFG.replace("[softmax]", "")))


def test_network_may_be_resized_between_two_steps() -> None:
    trainer = Trainer(network())
    trainer.train_minibatch(*minibatch())
    trainer.network.resize(24, 24)
    numbers = torch.Generator().manual_seed(3)
    report = trainer.train_minibatch(torch.rand(4, 3, 24, 24, generator=numbers), minibatch()[1])
    assert report.updated and trainer.net.width == 24


def test_restored_trainer_makes_the_same_step_again() -> None:
    network = darkpy.load(SNAPSHOT_CFG)
    trainer = Trainer(network, seed=3)
    x_BCHW, truth = torch.rand(2, 3, 8, 8), torch.eye(2)
    trainer.train_minibatch(x_BCHW, truth)
    before = trainer.snapshot()
    weights = {name: array.clone() for name, array in network.state_dict().items()}
    gradients = []
    for _ in range(2):
        trainer.accumulate(x_BCHW, truth, TrainingState(trainer.net, trainer.seen + 2))
        gradients.append([param.grad.clone() for param in network.parameters() if param.grad is not None])
        trainer.network.header = trainer.network.header.with_seen(100)
        trainer.restore(before)
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
    assert all(torch.equal(array, weights[name]) for name, array in network.state_dict().items())
    assert (trainer.seen, trainer.accumulated_images) == (2, 2)


def test_preserved_trainer_is_as_before_after_an_error() -> None:
    trainer = Trainer(darkpy.load(SNAPSHOT_CFG), seed=3)
    random, seen = torch.get_rng_state(), trainer.seen
    with pytest.raises(ZeroDivisionError), trainer.preserved():
        trainer.train_minibatch(torch.rand(2, 3, 8, 8), torch.eye(2))
        raise ZeroDivisionError
    assert trainer.seen == seen and torch.equal(torch.get_rng_state(), random)
    assert all(param.grad is None for param in trainer.network.parameters())
    assert not trainer.network.get_buffer("layers.0.rolling_mean").any()


SNAPSHOT_CFG = """[net]
batch=4
subdivisions=2
width=8
height=8
channels=3
learning_rate=.1

[convolutional]
batch_normalize=1
filters=4
size=3
pad=1
activation=leaky

[dropout]
probability=.5

[convolutional]
filters=2
size=1
activation=linear

[avgpool]

[softmax]
"""


def test_schedule_that_is_over_is_warned_of_at_the_first_minibatch_and_clear_starts_it_anew() -> None:
    def trainer(*, clear: bool) -> Trainer:
        network = darkpy.load(stream_cfg(40))
        network.header = network.header.with_seen(32_013_312)
        return Trainer(network, clear=clear)

    batch = torch.zeros(4, 3, 8, 8), torch.eye(3)[[0, 1, 2, 0]]
    with pytest.warns(
        darkpy.DarkpyWarning, match="update 4001664 of max_batches=40: the learning rate is 0.002"
    ) as caught:
        over = trainer(clear=False)
        over.train_minibatch(*batch)
        over.train_minibatch(*batch)
    assert len([item for item in caught if "max_batches" in str(item.message)]) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        anew = trainer(clear=True)
        anew.train_minibatch(*batch)
    assert anew.batch_num == 0 and anew.seen == 4
