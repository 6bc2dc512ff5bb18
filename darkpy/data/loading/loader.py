"""Minibatches for training, made by worker processes: the same ones from the same seed, however many workers there are.

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
from darkpy.errors import DarkpyError
from darkpy.process import keep_freed_memory


class Request(NamedTuple):
    """A minibatch: this many `images` from slot `start` of the stream on, at w x h pixels."""

    start: int
    images: int
    w: int
    h: int


class Batch(NamedTuple):
    """truth: (B, max, 5 or 6) for [yolo], [Gaussian_yolo], [region]; (B, side * side, 1 + classes + 4) for [detection];
    (B, classes) for classifiers. paths: the images of each slot, several where they are mixed.
    """

    x_BCHW: Tensor
    truth: Tensor
    paths: tuple[tuple[str, ...], ...]
    problems: tuple[Problem, ...]


_Answer = Batch | DarkpyError


def load_batches(
    dataset: Dataset, requests: Iterable[Request], *, workers: int = 0, bad: BadLists | None = None, pin: bool = False
) -> Iterator[Batch]:
    """A batch for each request, in their order, while others are being made; problems are noted in `bad`.

    workers: processes that make them; with 0 this one does, when the next batch is asked for.
    pin: hand out memory from which a GPU can copy by itself.
    Raises:  DarkpyError when the data cannot be used.
    """
    loader: DataLoader[_Answer] = DataLoader(
        _Maker(dataset),
        batch_size=None,
        sampler=requests,
        num_workers=workers,
        collate_fn=_keep,
        pin_memory=pin,
        worker_init_fn=_begin,
        generator=torch.Generator(),  # else it would take a number from torch's own, which training uses
    )
    answers = _start(loader)
    while True:
        answer = _next(answers)
        if answer is None:
            return
        if isinstance(answer, DarkpyError):
            raise answer
        if bad is not None:
            bad.note(answer.problems)
        yield answer


def _start(loader: DataLoader[_Answer]) -> Iterator[_Answer]:
    """Its answers, without torch's way to tell of a worker's death, an error in whatever runs then: `_next` sees it."""
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        return iter(loader)
    before = signal.getsignal(signal.SIGCHLD)
    answers = iter(loader)
    signal.signal(signal.SIGCHLD, before)
    return answers


def _next(answers: Iterator[_Answer]) -> _Answer | None:
    """Raises: DarkpyError when a worker process has died, perhaps with what it had made already."""
    try:
        return next(answers, None)
    except (RuntimeError, OSError, EOFError) as error:
        reason = str(error).partition("\n")[0]
        raise DarkpyError(
            f"a process that loads images has ended: {reason}",
            hint="was memory, or the container's /dev/shm, too small? fewer --workers need less, 0 none of their own",
        ) from error


class _Maker(torch.utils.data.Dataset[_Answer]):
    """Answers requests in whatever process; an error comes back as it is, not wrapped in a worker's traceback."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __getitem__(self, request: Request) -> _Answer:
        numbers = range(request.start, request.start + request.images)
        try:
            items = [self.dataset.make(number, request.w, request.h) for number in numbers]
        except DarkpyError as error:
            return error
        return Batch(
            torch.stack([item.x_CHW for item in items]),
            torch.stack([item.truth for item in items]),
            tuple(item.paths for item in items),
            tuple(problem for item in items for problem in item.problems),
        )


def _keep(answer: Any) -> Any:
    return answer


def _begin(_: int) -> None:
    """Leave Ctrl-C, and what else a group of processes is told, to the one that trains, which ends this one itself."""
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    keep_freed_memory()
