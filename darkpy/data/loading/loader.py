"""Loader of minibatches for training, made by worker processes; the seed fixes them whatever the number of workers.

Letters: B images of a minibatch, C color, H height, W width.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from darkpy.data.loading.bad_files import BadLists, Problem
from darkpy.data.loading.datasets import Dataset
from darkpy.errors import DarkpyError, is_out_of_memory
from darkpy.process import keep_freed_memory


class BatchRequest(NamedTuple):
    """Request for a minibatch: `images` samples from index `start` on, at w x h pixels."""

    start: int
    images: int
    w: int
    h: int


class Batch(NamedTuple):
    """Minibatch.

    truth: (B, max, 5 or 6) for [yolo], [Gaussian_yolo], [region]; (B, side * side, 1 + classes + 4) for [detection];
        (B, classes) for classifiers.
    paths: the images of each sample, several where they are mixed.
    """

    x_BCHW: Tensor
    truth: Tensor
    paths: tuple[tuple[str, ...], ...]
    problems: tuple[Problem, ...]


_BatchOrError = Batch | DarkpyError


def load_batches(
    dataset: Dataset,
    requests: Iterable[BatchRequest],
    *,
    workers: int = 0,
    bad: BadLists | None = None,
    pin: bool = False,
) -> Iterator[Batch]:
    """Yield a batch for each request, in order, while workers make the next ones.

    workers: number of processes; with 0 this process makes each batch on demand.
    bad: lists that problems are added to.
    pin: allocate page-locked memory, from which a GPU copies asynchronously.
    Raises:  DarkpyError when the data cannot be used.
    """
    loader: DataLoader[_BatchOrError] = DataLoader(
        _BatchMaker(dataset),
        batch_size=None,
        sampler=requests,
        num_workers=workers,
        collate_fn=_identity,
        pin_memory=pin,
        worker_init_fn=_init_worker,
        generator=torch.Generator(),  # else it would draw from torch's global generator, which training uses
    )
    batches = _start(loader)
    while True:
        batch = _next(batches)
        if batch is None:
            return
        if isinstance(batch, DarkpyError):
            raise batch
        if bad is not None:
            bad.add(batch.problems)
        yield batch


def _start(loader: DataLoader[_BatchOrError]) -> Iterator[_BatchOrError]:
    """Start the workers without torch's SIGCHLD handler.

    The handler raises a dead worker's error in whatever code runs at that moment; `_next` reports it instead.
    """
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        return iter(loader)
    before = signal.getsignal(signal.SIGCHLD)
    batches = iter(loader)
    signal.signal(signal.SIGCHLD, before)
    return batches


def _next(batches: Iterator[_BatchOrError]) -> _BatchOrError | None:
    """Return the next batch, None at the end. Raises: DarkpyError when a worker process has died.

    An error of too little memory passes: with 0 workers it is this process's own, and no worker has died.
    """
    try:
        return next(batches, None)
    except (RuntimeError, OSError, EOFError) as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0]
        raise DarkpyError(
            f"a worker process that loads images has died: {reason}",
            hint="was memory, or the container's /dev/shm, too small? try fewer --workers; 0 uses no worker processes",
        ) from error


class _BatchMaker(torch.utils.data.Dataset[_BatchOrError]):
    """Makes the batch of a request. An error is returned, not raised: torch would wrap it in a worker's traceback."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __getitem__(self, request: BatchRequest) -> _BatchOrError:
        indices = range(request.start, request.start + request.images)
        try:
            samples = [self.dataset.make(index, request.w, request.h) for index in indices]
        except DarkpyError as error:
            return error
        return Batch(
            torch.stack([sample.x_CHW for sample in samples]),
            torch.stack([sample.truth for sample in samples]),
            tuple(sample.paths for sample in samples),
            tuple(problem for sample in samples for problem in sample.problems),
        )


def _identity(batch: Any) -> Any:
    return batch


def _init_worker(_: int) -> None:
    """Ignore Ctrl-C and signals to the process group: the training process handles them and ends its workers."""
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    keep_freed_memory()
