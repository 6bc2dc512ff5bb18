"""A run, update by update: minibatches from the stream through the trainer, and one report of each update."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import perf_counter

import torch

from darkpy.config.net import NetSpec
from darkpy.data.loading.bad_files import BadLists
from darkpy.data.loading.datasets import Dataset
from darkpy.data.loading.loader import Batch, BatchRequest, load_batches
from darkpy.distributed import SINGLE_PROCESS, ProcessGroup
from darkpy.errors import DarkpyError
from darkpy.training.auto_batch import fit, is_out_of_memory, remember
from darkpy.training.rank_sync import match, share_paths, share_problems
from darkpy.training.trainer import StepReport, Trainer, mean_cost

SPARE = 1000
"""By how much slots of the stream are farther apart where minibatches grow: more than they ever do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchSource:
    """Where minibatches come from.

    size: width and height of the images for the update after so many others.
    images: of a minibatch, by [net]'s and by width and height, where they are not [net]'s (`dynamic_minibatch`).
    workers: processes that make them.
    """

    dataset: Dataset
    size: Callable[[int], tuple[int, int]]
    images: Callable[[int, int, int], int] | None = None
    workers: int = 0
    bad: BadLists | None = None

    def batches(
        self, net: NetSpec, seen: int, *, process_group: ProcessGroup = SINGLE_PROCESS, pin: bool = False
    ) -> Iterator[Batch]:
        """Without end, from the image `seen` of the stream on: what was trained on, or skipped, is not asked for again.

        A rank gets its part of each minibatch; problems are noted here only where it is the only one.
        """
        bad = self.bad if process_group.is_alone else None
        return load_batches(
            self.dataset, self._requests(net, seen, process_group), workers=self.workers, bad=bad, pin=pin
        )

    def _requests(self, net: NetSpec, seen: int, process_group: ProcessGroup) -> Iterator[BatchRequest]:
        while True:
            w, h = self.size(seen // (net.minibatch * net.subdivisions))
            start, images = seen, net.minibatch
            if self.images is not None:
                images = self.images(net.minibatch, w, h) // process_group.world_size * process_group.world_size
                start *= SPARE  # `seen` counts [net]'s minibatch, and no slot is to be used twice
            part = process_group.shard(images)
            yield BatchRequest(start + part.start, part.stop - part.start, w, h)
            seen += net.minibatch


@dataclass(frozen=True, kw_only=True, slots=True)
class UpdateReport:
    """What one update was: all that those who listen are told.

    loss: the mean cost of an image; average: that of the updates so far, as darknet averages it.
    seconds: that the update took, `waited` of them for images.
    batches: this rank's part of each minibatch, with the problems of all parts; costs and reports are those of all.
    """

    batch_num: int
    loss: float
    average: float
    rate: float
    seen: int
    images: int
    seconds: float
    waited: float
    size: tuple[int, int]
    steps: tuple[StepReport, ...]
    batches: tuple[Batch, ...]


def train(
    trainer: Trainer, source: BatchSource, *, average: float = math.nan, auto_batch: bool = False
) -> Iterator[UpdateReport]:
    """Updates until [net] max_batches, each made when the one before has been looked at.

    What the trainer's guard refuses is not told of: the next images of the stream take its place.
    average: that of the run which goes on.
    is_fitting: raise the subdivisions where a GPU's memory does not suffice.
    Raises: DarkpyError when the data cannot be used, memory does not suffice, or gradients are no longer numbers.
    """
    match(trainer)
    batches = _batches(trainer, source)
    while trainer.batch_num < (trainer.net.max_batches or math.inf):
        undo = remember(trainer)
        report = _try_update(trainer, batches, source.bad)
        if report is None:
            if not trainer.process_group.is_alone:
                raise _too_large(trainer)
            undo()
            at_most, size = trainer.net.minibatch - 1, (trainer.net.width, trainer.net.height)
            fit(trainer, size, at_most=at_most, is_allowed=auto_batch)
            batches = _batches(trainer, source)
            continue
        average = next_average(average, report.loss)
        yield replace(report, average=average)


def _batches(trainer: Trainer, source: BatchSource) -> Iterator[Batch]:
    is_pinned = trainer.device.type == "cuda"
    start = trainer.seen + trainer.skipped_images
    return source.batches(trainer.net, start, process_group=trainer.process_group, pin=is_pinned)


def _too_large(trainer: Trainer) -> DarkpyError:
    images = trainer.net.minibatch // trainer.process_group.world_size
    text = f"{images} images at a time do not fit into the memory of {trainer.device}"
    return DarkpyError(text, hint=f"set larger subdivisions in [net]; they are {trainer.net.subdivisions}")


def _try_update(trainer: Trainer, batches: Iterator[Batch], bad: BadLists | None) -> UpdateReport | None:
    """None where memory does not suffice, with all of it free again: torch's error holds what was computed so far."""
    try:
        return _update(trainer, batches, bad)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    return None


def _update(trainer: Trainer, batches: Iterator[Batch], bad: BadLists | None) -> UpdateReport:
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
        # what was refused, one minibatch or all of the update, is no part of it
        taken = [(step, place) for step, place in taken if step.seen <= trainer.seen]
    steps = [step for step, _ in taken]
    loaded = share_problems(loaded, trainer.process_group)
    used = [loaded[place] for _, place in taken]
    if bad is not None and trainer.process_group.is_main and not trainer.process_group.is_alone:
        bad.add(problem for batch in loaded for problem in batch.problems)
    _check(trainer, steps[-1], used)
    images = trainer.process_group.world_size * sum(len(batch.x_BCHW) for batch in used)
    return UpdateReport(
        batch_num=trainer.batch_num,
        loss=mean_cost(steps) * len(steps) / images,
        average=math.nan,
        rate=steps[-1].rate,
        seen=trainer.seen,
        images=images,
        seconds=perf_counter() - began,
        waited=waited,
        size=(trainer.net.width, trainer.net.height),
        steps=tuple(steps),
        batches=tuple(used),
    )


def next_average(average: float, loss: float) -> float:
    """.9 of the average and .1 of the loss; it starts anew where it was no number, or below 0.

    Source:  AlexeyAB/darknet src/detector.c train_detector
    Differs: pjreddie's stays NaN for ever.
    """
    return loss if average < 0 or not math.isfinite(average) else 0.9 * average + 0.1 * loss


def _check(trainer: Trainer, step: StepReport, batches: list[Batch]) -> None:
    """Raises: DarkpyError naming the images, when the weights have just been lost."""
    if step.norm is None or torch.isfinite(step.norm):
        return
    own = [path for batch in batches for paths in batch.paths for path in paths]
    paths = sorted(set(share_paths(own, trainer.process_group)))
    shown = ", ".join(paths[:5]) + (", ..." if len(paths) > 5 else "")
    raise DarkpyError(
        f"update {trainer.batch_num}: the gradients are no longer numbers; its {len(paths)} images: {shown}",
        hint="go on from the last checkpoint with a smaller learning_rate, or with grad_clip_norm=10 in [net]",
    )
