"""Insufficient memory: attempts, messages, and that attempts leave no trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import darkpy
from darkpy.errors import DarkpyError
from darkpy.training.auto_batch import fit_minibatch
from darkpy.training.loop import BatchSource, run_updates
from darkpy.training.trainer import Trainer
from tests.training.stream import Colors, cfg, fixed_size

ACCUMULATE = Trainer.accumulate


def trainer(text: str = "") -> Trainer:
    torch.manual_seed(2)
    return Trainer(darkpy.load(text or cfg().replace("subdivisions=2", "subdivisions=1")))


def small_memory(monkeypatch: pytest.MonkeyPatch, pixels: int) -> list[int]:
    """A memory that holds so many pixels of input. Returns: the images of every step that was tried."""
    tried: list[int] = []

    def accumulate(self: Trainer, x_BCHW: torch.Tensor, *others: Any) -> Any:
        tried.append(len(x_BCHW))
        losses = ACCUMULATE(self, x_BCHW, *others)  # as on a GPU, it may run out of memory on its way back
        if x_BCHW.numel() > 3 * pixels:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses

    monkeypatch.setattr(Trainer, "accumulate", accumulate)
    return tried


def state(one: Trainer) -> dict[str, torch.Tensor]:
    return {name: array.clone() for name, array in one.network.state_dict().items()}


def test_subdivisions_stay_where_all_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    one = trainer()
    assert small_memory(monkeypatch, 8 * 64) == []
    fit_minibatch(one, (8, 8), at_most=8, auto_batch=False)
    assert (one.net.batch, one.net.subdivisions) == (8, 1)


def test_what_would_fit_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = small_memory(monkeypatch, 4 * 64)
    with pytest.raises(DarkpyError) as caught:
        fit_minibatch(trainer(), (8, 8), at_most=8, auto_batch=False)
    assert caught.value.message == "a minibatch of 8 at 8 x 8 does not fit into the memory of cpu"
    assert caught.value.hint == "4 would: set subdivisions=2 in [net], or let --fit do it"
    assert tried == [8, 4]


def test_subdivisions_are_raised_if_they_may_be_and_an_update_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    small_memory(monkeypatch, 2 * 64)
    one = trainer()
    fit_minibatch(one, (8, 8), at_most=8, auto_batch=True)
    assert (one.net.minibatch, one.net.subdivisions, one.net.batch) == (2, 4, 8)
    reports = run_updates(one, BatchSource(dataset=Colors(), size=fixed_size))
    first = next(reports)
    assert (len(first.steps), first.seen, first.batch_num) == (4, 8, 1)


def test_memory_for_not_even_one_image_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    small_memory(monkeypatch, 10)
    with pytest.raises(DarkpyError, match="at 8 x 8 does not fit into the memory of cpu, nor does any smaller one"):
        fit_minibatch(trainer(), (8, 8), at_most=8, auto_batch=True)


def test_it_is_tried_at_the_size_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    small_memory(monkeypatch, 8 * 64)
    one = trainer()
    fit_minibatch(one, (16, 16), at_most=8, auto_batch=True)
    assert one.net.minibatch == 2
    assert (one.net.width, one.net.height) == (8, 8)


def test_trying_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    one = trainer()
    next(run_updates(one, BatchSource(dataset=Colors(), size=fixed_size)))
    gradient = torch.ones_like(one.network.get_parameter("layers.0.weights"))
    one.network.get_parameter("layers.0.weights").grad = gradient
    before, seen, chance = state(one), one.seen, torch.get_rng_state()
    small_memory(monkeypatch, 2 * 64)
    fit_minibatch(one, (8, 8), at_most=8, auto_batch=True)
    assert all(torch.equal(array, before[name]) for name, array in state(one).items())
    assert one.seen == seen and torch.equal(torch.get_rng_state(), chance)
    restored = one.network.get_parameter("layers.0.weights").grad
    assert restored is not None and torch.equal(restored, torch.ones_like(restored))
    assert one.network.get_parameter("layers.2.weights").grad is None


def test_sequences_are_not_torn(monkeypatch: pytest.MonkeyPatch) -> None:
    text = cfg().replace("batch=8\nsubdivisions=2", "batch=4\nsubdivisions=1\ntime_steps=3")
    small_memory(monkeypatch, 7 * 64)
    one = trainer(text)
    fit_minibatch(one, (8, 8), at_most=12, auto_batch=True)
    assert (one.net.minibatch, one.net.batch, one.net.subdivisions) == (6, 4, 2)


def fails_once(pixels: int) -> Callable[..., Any]:
    """A memory that is smaller than it was, from the third minibatch on."""
    steps = [0]

    def accumulate(self: Trainer, x_BCHW: torch.Tensor, *others: Any) -> Any:
        steps[0] += 1
        losses = ACCUMULATE(self, x_BCHW, *others)
        if steps[0] > 2 and x_BCHW.numel() > 3 * pixels:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses

    return accumulate


def test_run_goes_on_with_smaller_minibatches_and_the_update_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "accumulate", fails_once(2 * 64))
    one = trainer(cfg(max_batches=4))
    reports = list(run_updates(one, BatchSource(dataset=Colors(), size=fixed_size), auto_batch=True))
    assert [len(report.steps) for report in reports] == [2, 4, 4, 4]
    assert [report.seen for report in reports] == [8, 16, 24, 32]
    paths = [path for report in reports for batch in report.batches for (path,) in batch.paths]
    assert paths == [f"{number}.png" for number in range(32)]


def test_run_that_may_not_change_ends_with_what_would_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "accumulate", fails_once(2 * 64))
    reports = run_updates(trainer(cfg(max_batches=4)), BatchSource(dataset=Colors(), size=fixed_size))
    next(reports)
    with pytest.raises(DarkpyError, match=r"a minibatch of 4 at 8 x 8 .*\n.*2 would: set subdivisions=4"):
        next(reports)


def test_a_cpus_memory_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def accumulate(self: Trainer, *others: Any) -> Any:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(Trainer, "accumulate", accumulate)
    with pytest.raises(DarkpyError, match="does not fit into the memory of cpu, nor does any smaller one"):
        next(run_updates(trainer(), BatchSource(dataset=Colors(), size=fixed_size)))


def test_other_errors_are_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def accumulate(self: Trainer, *others: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Trainer, "accumulate", accumulate)
    with pytest.raises(RuntimeError, match="a bug"):
        next(run_updates(trainer(), BatchSource(dataset=Colors(), size=fixed_size)))
