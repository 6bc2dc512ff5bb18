"""A run, update by update: minibatches from the stream of images through the trainer, and a report of each update."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from darkpy.config.net import NetSpec
from darkpy.data.loading.bad_files import BadLists, Problem
from darkpy.data.loading.datasets import Dataset
from darkpy.data.loading.loader import Batch, BatchRequest, load_batches
from darkpy.distributed import SINGLE_PROCESS, ProcessGroup
from darkpy.errors import DarkpyError, is_out_of_memory
from darkpy.training.reports import StepReport, UpdateReport, mean_cost, next_average
from darkpy.training.trainer import Trainer

DYNAMIC_MINIBATCH_SPACING = 1000
"""Factor between sample indices where minibatches vary in size: more than a minibatch ever grows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchSource:
    """Endless source of minibatches.

    size: width and height of the images, from the number of updates made.
    images: size of a minibatch, from [net]'s and from width and height, where it varies (`dynamic_minibatch`).
    workers: processes that load images. bad: lists of unusable files to add to.
    """

    dataset: Dataset
    size: Callable[[int], tuple[int, int]]
    images: Callable[[int, int, int], int] | None = None
    workers: int = 0
    bad: BadLists | None = None

    def batches(
        self, net: NetSpec, seen: int, *, process_group: ProcessGroup = SINGLE_PROCESS, pin: bool = False
    ) -> Iterator[Batch]:
        """Yield this rank's part of each minibatch, from image `seen` of the stream on.

        Images trained on or skipped are not repeated. With several ranks problems are not noted here.
        """
        bad = self.bad if process_group.is_alone else None
        requests = self._requests(net, seen, process_group)
        return load_batches(self.dataset, requests, workers=self.workers, bad=bad, pin=pin)

    def _requests(self, net: NetSpec, seen: int, process_group: ProcessGroup) -> Iterator[BatchRequest]:
        while True:
            w, h = self.size(seen // (net.minibatch * net.subdivisions))
            start, images = seen, net.minibatch
            if self.images is not None:
                images = self.images(net.minibatch, w, h) // process_group.world_size * process_group.world_size
                # `seen` counts [net]'s minibatch, and no index of the stream may be used twice
                start *= DYNAMIC_MINIBATCH_SPACING
            part = process_group.shard(images)
            yield BatchRequest(start + part.start, part.stop - part.start, w, h)
            seen += net.minibatch


def run_updates(trainer: Trainer, source: BatchSource, *, auto_batch: bool = False) -> Iterator[UpdateReport]:
    """Yield the report of each update until [net] max_batches; the next one is made when the consumer requests it.

    Refused updates are not reported: the next images of the stream take their place.
    auto_batch: raise the subdivisions if device memory is insufficient.
    Raises: DarkpyError when the data cannot be used, memory is insufficient, or gradients are non-finite.
    """
    match_ranks(trainer)
    batches = _load(trainer, source)
    while trainer.batch_num < (trainer.net.max_batches or math.inf):
        report = None
        try:
            report = _update(trainer, batches, source.bad)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        if report is None:  # outside of `except`: the error keeps computed tensors in memory
            _shrink_minibatch(trainer, auto_batch=auto_batch)
            batches = _load(trainer, source)
        else:
            yield report


def match_ranks(trainer: Trainer) -> None:
    """Check that all ranks start from the same weights and state, after a resume file has been read.

    Deferred gradients stay with the main rank.
    Raises: DarkpyError when another machine has read other files.
    """
    process_group = trainer.process_group
    if process_group.is_alone:
        return
    if not process_group.is_main:
        trainer.network.zero_grad()
    states = trainer.optimizer.torch.state.values()
    moments = [moment for state in states for moment in state.values() if isinstance(moment, Tensor)]
    averages = trainer.ema.arrays.values() if trainer.ema else ()
    arrays = [*trainer.network.parameters(), *trainer.network.buffers(), *moments, *averages]
    sums = [float(array.detach().double().abs().sum()) for array in arrays]
    checksum = torch.tensor([trainer.seed, trainer.seen, len(sums), sum(sums)], dtype=torch.float64)
    different = (process_group.gather(checksum) != checksum).any(1)
    if different.any():
        raise DarkpyError(
            f"rank {process_group.rank} starts from other numbers than rank {int(different.int().argmax())}",
            hint="give every machine the same cfg, weights, resume file and --seed",
        )


def _load(trainer: Trainer, source: BatchSource) -> Iterator[Batch]:
    start = trainer.seen + trainer.skipped_images
    pin = trainer.device.type == "cuda"
    return source.batches(trainer.net, start, process_group=trainer.process_group, pin=pin)


def _shrink_minibatch(trainer: Trainer, *, auto_batch: bool) -> None:
    """Go back to the start of the update, to make it of smaller minibatches. Raises: DarkpyError if that may not be."""
    from darkpy.training.auto_batch import fit_minibatch

    if not trainer.process_group.is_alone:
        images = trainer.net.minibatch // trainer.process_group.world_size
        text = f"{images} images at a time do not fit into the memory of {trainer.device}"
        raise DarkpyError(text, hint=f"set larger subdivisions in [net]; they are {trainer.net.subdivisions}")
    if not trainer.rewind():
        raise DarkpyError(
            f"update {trainer.batch_num}: out of memory while the weights were changed",
            hint="continue from the last checkpoint, with larger subdivisions in [net]",
        )
    size = (trainer.net.width, trainer.net.height)
    fit_minibatch(trainer, size, at_most=trainer.net.minibatch - 1, auto_batch=auto_batch)


def _update(trainer: Trainer, batches: Iterator[Batch], bad: BadLists | None) -> UpdateReport:
    """Make an update. Raises: DarkpyError with the images, when the gradients are non-finite."""
    process_group = trainer.process_group
    began = perf_counter()
    waited = 0.0
    loaded: list[Batch] = []
    taken: list[tuple[StepReport, int]] = []
    while not (taken and taken[-1][0].updated):
        asked = perf_counter()
        batch = next(batches)
        waited += perf_counter() - asked
        trainer.network.resize(batch.x_BCHW.shape[3], batch.x_BCHW.shape[2])
        taken.append((trainer.train_minibatch(batch.x_BCHW, batch.truth, batch.paths), len(loaded)))
        loaded.append(batch)
        # refused minibatches, one or all of the update, are not part of it
        taken = [(step, index) for step, index in taken if step.seen <= trainer.seen]
    steps = [step for step, _ in taken]
    loaded = _share_problems(loaded, process_group)
    used = [loaded[index] for _, index in taken]
    if bad is not None and process_group.is_main and not process_group.is_alone:
        bad.add(problem for batch in loaded for problem in batch.problems)
    _check_finite(trainer, steps[-1], used)
    images = process_group.world_size * sum(len(batch.x_BCHW) for batch in used)
    loss = mean_cost(steps) * len(steps) / images
    trainer.average_loss = next_average(trainer.average_loss, loss)
    measured = trainer.monitor.update
    return UpdateReport(
        batch_num=trainer.batch_num,
        loss=loss,
        average=trainer.average_loss,
        rate=steps[-1].rate,
        seen=trainer.seen,
        images=images,
        seconds=perf_counter() - began,
        waited=waited,
        norm=measured.norm if measured else math.nan,
        largest=measured.largest if measured else math.nan,
        layers=measured.layers if measured else {},
        size=(trainer.net.width, trainer.net.height),
        steps=tuple(steps),
        batches=tuple(used),
    )


def _share_problems(batches: Sequence[Batch], process_group: ProcessGroup) -> list[Batch]:
    """This rank's parts of minibatches, with the problems that all ranks met in theirs."""
    if process_group.is_alone:
        return list(batches)
    texts = process_group.gather_texts(json.dumps([batch.problems for batch in batches]))
    parts = [[[Problem(*fields) for fields in problems] for problems in json.loads(text)] for text in texts]
    return [
        batch._replace(problems=tuple(problem for part in parts for problem in part[index]))
        for index, batch in enumerate(batches)
    ]


def _check_finite(trainer: Trainer, step: StepReport, batches: Sequence[Batch]) -> None:
    if step.norm is None or torch.isfinite(step.norm):
        return
    own_paths = [path for batch in batches for paths in batch.paths for path in paths]
    paths = sorted(set(trainer.process_group.gather_paths(own_paths)))
    shown = ", ".join(paths[:5]) + (", ..." if len(paths) > 5 else "")
    raise DarkpyError(
        f"update {trainer.batch_num}: the gradients are non-finite; its {len(paths)} images: {shown}",
        hint="continue from the last checkpoint with a smaller learning_rate, or with grad_clip_norm=10 in [net]",
    )
