"""Threads that handle items one after the other."""

from __future__ import annotations

import threading

import pytest

from darkpy.sources.handoff import Handoff, Worker


def _fail(item: int) -> None:
    raise OSError(f"item {item}")


def test_an_error_is_raised_once_by_each_of_two_workers_in_a_row() -> None:
    # a second time, with another error on its way, contexts would be a circle: contextlib.ExitStack follows it forever
    writing: Worker[int] = Worker(_fail)
    drawing: Worker[int] = Worker(writing.put)
    with pytest.raises(OSError, match="item 0"):
        for item in range(20):
            drawing.put(item)
    drawing.finish()
    writing.finish()


def test_an_error_that_no_further_item_meets_is_raised_at_the_end() -> None:
    worker: Worker[int] = Worker(_fail)
    worker.put(0)
    with pytest.raises(OSError, match="item 0"):
        worker.finish()


def test_an_item_that_comes_alone_waits_until_the_others_are_taken() -> None:
    queue: Handoff[int] = Handoff(8)
    waiting: list[int] = []

    def put() -> None:
        for item in range(6):
            queue.put(item, alone=item >= 3)
            waiting.append(item)
        queue.finish()

    thread = threading.Thread(target=put)
    thread.start()
    taken = []
    for item in queue:
        taken.append(item)
        assert len(waiting) <= max(3, item + 2)
    thread.join()
    assert taken == list(range(6))
