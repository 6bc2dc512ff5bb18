"""Refused steps: the trainer is then, bit for bit, one that never made them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import darkpy
from darkpy.data.loading.datasets import TrainingSample
from darkpy.layers.loss import Loss
from darkpy.training.checkpoints import digest, open_resume, write_resume
from darkpy.training.loop import BatchSource, run_updates
from darkpy.training.reports import StepReport
from darkpy.training.step_guard import StepGuard
from darkpy.training.trainer import Trainer
from tests.training.stream import Colors, cfg, changing_size, fixed_size

pytestmark = pytest.mark.filterwarnings("ignore:.*only dialect alexeyab reads it:darkpy.DarkpyWarning")

Minibatch = tuple[torch.Tensor, torch.Tensor]

DETECTOR = """[net]
batch=4
subdivisions=2
width=16
height=16
channels=3
learning_rate=0.01
momentum=0.9
decay=0.0005
max_batches=40
policy=random
burn_in=6
num_sigmas_reject_badlabels=3
equidistant_point=4
{net}

[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=relu
dont_update=5

[dropout]
probability=.3

[convolutional]
filters=14
size=1
stride=2
activation=linear
burnin_update=1

[yolo]
mask=0,1
anchors=4,4, 8,8
classes=2
num=2
max=10
"""


class Finite(StepGuard):
    """Refuses NaN and infinite losses."""

    needs_snapshots = True

    def __init__(self) -> None:
        self.refused = 0

    def accept_losses(self, losses: Sequence[Loss]) -> bool:
        # AlexeyAB's [yolo] drops non-finite deltas, and its cost is still finite
        return all(math.isfinite(loss.cost + loss.report.get("no_obj", 0)) for loss in losses)

    def accept_update(self, norm: torch.Tensor) -> bool:
        deferred = [gradient for _, gradient in self.trainer.optimizer.deferred if gradient is not None]
        return math.isfinite(norm) and all(gradient.isfinite().all() for gradient in deferred)

    def end(self, report: StepReport) -> None:
        self.refused += report.refused


class Norms(Finite):
    """Detects non-finite values only when the gradients are summed."""

    def accept_losses(self, losses: Sequence[Loss]) -> bool:
        return True


def trainer(text: str, guard: Finite | None = None, dialect: str = "pjreddie") -> Trainer:
    torch.manual_seed(3)
    return Trainer(darkpy.load(text, dialect=dialect), seed=5, monitor=guard)


def boxes(number: int) -> Minibatch:
    """Two images and their boxes."""
    numbers = torch.Generator().manual_seed(number)
    truth_BT6 = torch.zeros(2, 10, 6)
    truth_BT6[:, 0, :4] = torch.rand(2, 4, generator=numbers) * 0.4 + 0.3
    truth_BT6[:, 0, 4] = number % 2
    return torch.rand(2, 3, 16, 16, generator=numbers), truth_BT6


def colors(number: int) -> Minibatch:
    items = [Colors().make(slot, 8, 8) for slot in range(4 * number, 4 * number + 4)]
    return torch.stack([item.x_CHW for item in items]), torch.stack([item.truth for item in items])


def spoilt(minibatch: Minibatch, chance: random.Random) -> Minibatch:
    """With one NaN pixel."""
    x_BCHW = minibatch[0].clone()
    x_BCHW.view(-1)[chance.randrange(x_BCHW.numel())] = chance.choice((math.nan, math.inf, -math.inf))
    return x_BCHW, minibatch[1]


def everything(one: Trainer) -> dict[str, Any]:
    """All that the next update depends on."""
    state = {f"weights/{name}": array.clone() for name, array in one.network.state_dict().items()}
    for name, param in one.network.named_parameters():
        state[f"gradient/{name}"] = None if param.grad is None else param.grad.clone()
        for key, value in one.optimizer.torch.state.get(param, {}).items():
            state[f"optimizer/{name}/{key}"] = value.clone()
    state |= {f"average/{name}": array.clone() for name, array in (one.ema.arrays if one.ema else {}).items()}
    state |= {"random": torch.get_rng_state(), "policy": one.generator.get_state()}
    return state | {"header": one.network.header, "filter": one.delta_filter}


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        is_same = torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name]
        assert is_same, name


def run(one: Trainer, minibatches: Sequence[Minibatch]) -> dict[str, Any]:
    torch.manual_seed(7)
    for minibatch in minibatches:
        one.train_minibatch(*minibatch)
    return everything(one)


def with_bad(good: Sequence[Minibatch], seed: int, in_a_row: int = 50) -> Iterator[Minibatch]:
    """So many bad minibatches in a row at each of three random places."""
    chance = random.Random(seed)
    places = set(chance.sample(range(len(good)), 3))
    for number, minibatch in enumerate(good):
        for _ in range(in_a_row if number in places else 0):
            yield spoilt(chance.choice(good), chance)
        yield minibatch


CASES = [
    (cfg(), colors, "pjreddie"),
    (cfg(net="adam=1"), colors, "alexeyab"),
    (DETECTOR.format(net="ema_alpha=.9"), boxes, "alexeyab"),
    (DETECTOR.format(net=""), boxes, "pjreddie"),
]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("text", "make", "dialect"), CASES, ids=["sgd", "adam", "yolo alexeyab", "yolo pjreddie"])
def test_minibatches_that_are_no_numbers_leave_no_trace(text: str, make: Any, dialect: str, seed: int) -> None:
    good = [make(number) for number in range(30)]
    guard = Finite()
    bad_run = trainer(text, guard, dialect)
    assert_same(run(bad_run, list(with_bad(good, seed))), run(trainer(text, None, dialect), good))
    assert (guard.refused, bad_run.skipped_images) == (150, 150 * bad_run.net.minibatch)


def test_update_that_is_refused_at_its_end_takes_all_its_minibatches_with_it() -> None:
    """Gradients deferred before stay, and the next ones are added."""
    text = DETECTOR.format(net="")
    good = [boxes(number) for number in range(30)]
    for place in (0, 4, 14):
        for bad in ([spoilt(good[0], random.Random(1)), good[9]], [good[9], spoilt(good[0], random.Random(2))]):
            watched = trainer(text, Norms(), "alexeyab")
            minibatches = [*good[:place], *(bad * 10), *good[place:]]
            assert_same(run(watched, minibatches), run(trainer(text, None, "alexeyab"), good))
            assert watched.skipped_images == 20 * 2


def test_watcher_that_lets_everything_pass_changes_nothing() -> None:
    good = [boxes(number) for number in range(20)]
    text = DETECTOR.format(net="")
    assert_same(run(trainer(text, Finite()), good), run(trainer(text), good))


class Spoilt(Colors):
    """A stream with a few NaN images."""

    bad = frozenset((3, 17, 18, 19, 20, 21, 22, 23, 50))

    def make(self, slot: int, w: int, h: int) -> TrainingSample:
        item = super().make(slot, w, h)
        return item._replace(x_CHW=item.x_CHW / 0) if slot in self.bad else item


def test_run_goes_on_with_the_next_images_of_the_stream() -> None:
    one = trainer(cfg(6), Finite())
    reports = list(run_updates(one, BatchSource(dataset=Spoilt(), size=fixed_size)))
    paths = [int(path[:-4]) for report in reports for batch in report.batches for (path,) in batch.paths]
    left_out = {slot for bad in Spoilt.bad for slot in range(bad // 4 * 4, bad // 4 * 4 + 4)}
    assert paths == [slot for slot in range(64) if slot not in left_out][:48]
    assert [report.batch_num for report in reports] == [1, 2, 3, 4, 5, 6] and one.skipped_images == 16
    assert all(math.isfinite(report.loss) and report.images == 8 for report in reports)


def test_run_that_goes_on_leaves_out_the_same_images(tmp_path: Path) -> None:
    """The stream of a checkpoint begins behind what was refused before it."""
    source = BatchSource(dataset=Spoilt(), size=fixed_size)
    text = cfg(9)
    (tmp_path / "net.cfg").write_text(text)
    whole = trainer(text, Finite())
    list(run_updates(whole, source))
    part = trainer(text, Finite())
    reports = run_updates(part, source)
    for _ in range(4):
        next(reports)
    assert part.skipped_images == 12
    chunks = list(part.network.pack_weights())
    (tmp_path / "net.weights").write_bytes(b"".join(chunks))
    write_resume(tmp_path / "net_4.resume", part, weights=digest(chunks))
    other = Trainer(darkpy.load(tmp_path / "net.cfg", tmp_path / "net.weights"), monitor=Finite())
    open_resume(tmp_path / "net_4.resume").restore(other)
    assert other.skipped_images == 12
    list(run_updates(other, source))
    assert_same(everything(other), everything(whole))


def test_run_whose_images_change_their_size_goes_on_too() -> None:
    one = trainer(cfg(21), Finite())
    reports = list(run_updates(one, BatchSource(dataset=Spoilt(), size=changing_size)))
    assert [report.batch_num for report in reports] == list(range(1, 22))
