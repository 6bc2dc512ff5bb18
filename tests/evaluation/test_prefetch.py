"""Images are loaded in order, by threads, ahead of the network if it leaves cores idle."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from darkpy.evaluation import detect as pipeline
from darkpy.evaluation.detect import load_in_batches

CPU = torch.device("cpu")


def torch_threads(_: object = None) -> tuple[int, int]:
    """Number of torch's threads, and the id of the calling thread."""
    return torch.get_num_threads(), threading.get_ident()


@pytest.fixture(params=[0, 2])
def spare(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(pipeline, "_idle_cores", lambda device: request.param)
    return int(request.param)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 9])
def test_batches_come_in_order_and_the_last_one_is_what_is_left(spare: int, batch_size: int) -> None:
    batches = list(load_in_batches(str, range(7), batch_size, CPU))
    assert [one for batch in batches for one in batch] == list("0123456")
    assert {len(batch) for batch in batches[:-1]} <= {batch_size}


def test_an_item_may_end_its_batch(spare: int) -> None:
    batches = list(load_in_batches(str, range(8), 3, CPU, ends_batch=lambda number: number in (1, 5)))
    assert batches == [["0", "1"], ["2", "3", "4"], ["5"], ["6", "7"]]


@pytest.mark.parametrize("prefetch", [False, True])
def test_the_next_batch_is_loaded_early_only_with_idle_cores_and_prefetch(spare: int, prefetch: bool) -> None:
    asked: list[int] = []

    def items() -> Iterator[int]:
        for number in range(40):
            asked.append(number)
            yield number

    batches = load_in_batches(str, items(), 3, CPU, prefetch=prefetch)
    assert next(batches) == ["0", "1", "2"]
    assert len(asked) == (6 if spare and prefetch else 3)
    batches.close()  # type: ignore[attr-defined]
    assert len(asked) <= 6


def test_each_thread_computes_alone_and_the_caller_as_before(spare: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        actual = list(load_in_batches(torch_threads, range(6), 3, CPU))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    own = (3, threading.get_ident())
    loaders = {loader for batch in actual for loader in batch}
    assert {count for count, _ in loaders} == {1} and own not in loaders


def test_an_error_comes_to_the_one_who_asks(spare: int) -> None:
    def load(number: int) -> int:
        return 1 // (number - 4)

    batches = load_in_batches(load, range(9), 2, CPU)
    assert len([next(batches), next(batches)]) == 2
    with pytest.raises(ZeroDivisionError):
        next(batches)


def test_a_gpu_leaves_the_cores_to_the_loaders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "count_cpus", lambda: 6)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert pipeline._idle_cores(torch.device("cuda")) == 5
    assert pipeline._idle_cores(CPU) == 2
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert pipeline._idle_cores(CPU) == 0
