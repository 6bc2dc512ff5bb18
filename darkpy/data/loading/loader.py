"""Loader of minibatches for training, made by worker processes; the seed fixes them whatever the number of workers.

Letters: B images of a minibatch, C color, H height, W width.
"""

from __future__ import annotations

import multiprocessing.queues
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from darkpy.data.loading.bad_files import BadLists, Problem
from darkpy.data.loading.datasets import Dataset
from darkpy.errors import DarkpyError, DarkpyWarning, is_out_of_memory
from darkpy.process import keep_freed_memory

EXIT_CODE_UNDELIVERED = 74
"""Exit code of a worker that could not pass on a batch; 74 is EX_IOERR."""


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


class _PipedBatch(NamedTuple):
    """Batch whose bytes go through a pipe instead of shared memory."""

    x_BCHW: NDArray[Any]
    truth: NDArray[Any]
    paths: tuple[tuple[str, ...], ...]
    problems: tuple[Problem, ...]


_Delivery = Batch | _PipedBatch | DarkpyError


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
    batches, processes = _start(_BatchMaker(dataset), requests, workers, pin=pin)
    is_warned = False
    try:
        while True:
            batch = _next(batches)
            if batch is None:
                return
            if isinstance(batch, _PipedBatch):
                if not is_warned:
                    message = "shared memory (/dev/shm) is full: batches reach the training through a pipe, more slowly"
                    hint = "enlarge it (docker run --shm-size=1g), or lower --workers; 0 needs none"
                    warnings.warn(f"{message}\n  hint: {hint}", DarkpyWarning, stacklevel=2)
                is_warned = True
                batch = Batch(torch.tensor(batch.x_BCHW), torch.tensor(batch.truth), batch.paths, batch.problems)
            if isinstance(batch, DarkpyError):
                raise batch
            if bad is not None:
                bad.add(batch.problems)
            yield batch
    finally:
        for process in processes:  # a suspended one (SIGSTOP) would not react to the request to end
            with suppress(OSError):
                os.kill(process.pid, getattr(signal, "SIGCONT", 0))
        del batches
        for process in processes:
            if process.is_alive():
                process.kill()


def _start(
    maker: _BatchMaker, requests: Iterable[BatchRequest], workers: int, *, pin: bool
) -> tuple[Iterator[_Delivery], Sequence[Any]]:
    """Start the workers without torch's SIGCHLD handler.

    The handler raises a dead worker's error in whatever code runs at that moment; `_next` reports it instead.
    Returns: the batches, and the processes.
    """
    loader: DataLoader[_Delivery] = DataLoader(
        maker,
        batch_size=None,
        sampler=requests,
        num_workers=workers,
        collate_fn=_identity,
        pin_memory=pin,
        worker_init_fn=_init_worker,
        generator=torch.Generator(),  # else it would draw from torch's global generator, which training uses
    )
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        handler = None
    else:
        handler = signal.getsignal(signal.SIGCHLD)
    try:
        batches = iter(loader)
    except OSError as error:
        message = (
            f"worker processes cannot be started ({error.strerror or error}): this process loads the images itself"
        )
        warnings.warn(message, DarkpyWarning, stacklevel=3)
        return _start(maker, requests, 0, pin=pin)
    finally:
        if handler is not None:
            signal.signal(signal.SIGCHLD, handler)
    return batches, getattr(batches, "_workers", ())


def _next(batches: Iterator[_Delivery]) -> _Delivery | None:
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


class _BatchMaker(torch.utils.data.Dataset[_Delivery]):
    """Makes the batch of a request. An error is returned, not raised: torch would wrap it in a worker's traceback."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __getitem__(self, request: BatchRequest) -> _Delivery:
        indices = range(request.start, request.start + request.images)
        try:
            samples = [self.dataset.make(index, request.w, request.h) for index in indices]
        except DarkpyError as error:
            return error
        batch = Batch(
            torch.stack([sample.x_CHW for sample in samples]),
            torch.stack([sample.truth for sample in samples]),
            tuple(sample.paths for sample in samples),
            tuple(problem for sample in samples for problem in sample.problems),
        )
        if get_worker_info() is None:
            return batch
        try:
            # here, where it can fail: the thread behind the worker's queue would drop the batch
            for tensor in (batch.x_BCHW, batch.truth):
                tensor.untyped_storage().share_memory_()
        except RuntimeError:
            return _PipedBatch(batch.x_BCHW.numpy(), batch.truth.numpy(), batch.paths, batch.problems)
        return batch


def _identity(batch: Any) -> Any:
    return batch


def _init_worker(_: int) -> None:
    """Ignore Ctrl-C and signals to the process group: the training process handles them and ends its workers.

    A worker whose queue cannot pass on a batch ends: by default the batch is dropped and the training waits forever.
    """
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # the kernel sends a hangup to a suspended worker whose training process has ended
    for number in (signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])):
        signal.signal(number, signal.SIG_DFL)
    sys.excepthook = _report_unless_orphaned
    keep_freed_memory()
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end_worker)  # type: ignore[attr-defined]


def _report_unless_orphaned(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an uncaught error, unless the training process, to which a thread passes a batch, has ended."""
    if not isinstance(error, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


def _end_worker(error: Exception, delivery: object) -> None:
    os._exit(EXIT_CODE_UNDELIVERED)
