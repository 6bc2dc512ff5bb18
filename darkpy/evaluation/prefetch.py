"""Loading of images by threads, ahead of the network, in batches.

Pillow and torch release Python's global lock while they work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from threading import Barrier
from typing import TypeVar

import torch

from darkpy.process import count_cpus

BATCH_SIZE = 8
"""Default images at a time: 16 and 32 are no faster."""

MAX_THREADS = 8

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")
Prepared = TypeVar("Prepared")


def load_in_batches(
    load: Callable[[Item], Loaded],
    prepare: Callable[[Loaded], Prepared],
    items: Iterable[Item],
    batch_size: int,
    device: torch.device,
    *,
    prefetch: bool = True,
) -> Iterator[list[Prepared]]:
    """Load and prepare items in batches, in their order.

    If the network leaves cores idle, threads make the next batch while this one is used. If it computes with all cores,
    it would wait for the one that a loading thread takes from it; so each batch is then loaded by all cores when it is
    asked for, and prepared by torch's own threads.

    prefetch: ask for the items of the next batch early; not where a user types them.
    """
    idle = _idle_cores(device)
    threads = min(MAX_THREADS, idle) if idle else min(MAX_THREADS, count_cpus(), batch_size)
    remaining = iter(items)
    with _pool(threads) as pool:
        if not idle:
            while batch := [pool.submit(load, item) for item in islice(remaining, batch_size)]:
                yield [prepare(future.result()) for future in batch]
            return

        def make(item: Item) -> Prepared:
            return prepare(load(item))

        def submit() -> list[Future[Prepared]]:
            return [pool.submit(make, item) for item in islice(remaining, batch_size)]

        current = submit()
        while current:
            following = submit() if prefetch else None
            yield [future.result() for future in current]
            current = submit() if following is None else following


def _idle_cores(device: torch.device) -> int:
    """Cores that the network does not compute with."""
    return max(0, count_cpus() - (torch.get_num_threads() if device.type == "cpu" else 1))


@contextmanager
def _pool(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads in each of which torch computes single-threaded; tasks not yet begun are dropped at the end."""
    threads = torch.get_num_threads()
    ready = Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # a thread copies the global number when it first asks, and must do so before the next
        torch.set_num_threads(1)
        ready.wait()

    pool = ThreadPoolExecutor(count, initializer=begin)
    try:
        for _ in range(count):
            pool.submit(int)  # a pool starts its threads with its tasks
        ready.wait()
        torch.set_num_threads(threads)  # some of torch's libraries have one number for all threads
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
