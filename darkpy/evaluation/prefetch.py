"""Images on their way to the network: loaded by threads, handed out in batches.

Pillow and torch let go of Python's lock while they work.
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
"""Images at a time where nobody says how many: 16 and 32 are no faster."""

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
    """The items, loaded and prepared, so many at a time, in their order.

    Where the network leaves cores to spare, threads make the next batch while this one is used. A network that computes
    with all of them would wait for the one that a thread takes from it: then each batch is loaded by all cores when
    its turn comes, and what torch does to it is left to torch's own threads.

    may_wait: whether an item may be asked for long before its turn; not so where somebody types them.
    """
    spare = _spare_cores(device)
    count = min(MAX_THREADS, spare) if spare else min(MAX_THREADS, count_cpus(), batch_size)
    waiting = iter(items)
    with _pool(count) as pool:
        if not spare:
            while batch := [pool.submit(load, item) for item in islice(waiting, batch_size)]:
                yield [prepare(one.result()) for one in batch]
            return

        def make(item: Item) -> Prepared:
            return prepare(load(item))

        def submit() -> list[Future[Prepared]]:
            return [pool.submit(make, item) for item in islice(waiting, batch_size)]

        loading = submit()
        while loading:
            following = submit() if prefetch else None
            yield [one.result() for one in loading]
            loading = submit() if following is None else following


def _spare_cores(device: torch.device) -> int:
    """Cores that stand idle while the network computes."""
    return max(0, count_cpus() - (torch.get_num_threads() if device.type == "cpu" else 1))


@contextmanager
def _pool(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads in each of which torch computes without helpers; what is not begun is dropped at the end."""
    threads = torch.get_num_threads()
    ready = Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # a thread takes over everybody's number when it first asks, not later
        torch.set_num_threads(1)
        ready.wait()

    pool = ThreadPoolExecutor(count, initializer=begin)
    try:
        for _ in range(count):
            pool.submit(int)
        ready.wait()
        torch.set_num_threads(threads)  # some of torch's libraries have one number for all
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
