"""Training of a character-level network on a text.

Differs: darknet seeds its offsets with the time. A resumed run has its optimizer's state, and new offsets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from torch import Tensor

from darkpy.errors import DarkpyError
from darkpy.files import make_folder
from darkpy.network import Network
from darkpy.sequences.symbols import TextStreams, count_symbols
from darkpy.training.callbacks import Callbacks
from darkpy.training.checkpoints import Checkpoints, base_name, find_resume
from darkpy.training.reports import CheckpointReport, StepReport, UpdateReport, mean_cost, next_average
from darkpy.training.run_lock import locked
from darkpy.training.setup import Intervals
from darkpy.training.trainer import Trainer


@dataclass(kw_only=True)
class TextRun:
    """A training on a text. epochs: how often its symbols have been read, on average."""

    trainer: Trainer
    streams: TextStreams
    folder: Path
    is_resumed: bool = False
    stop_reason: str = ""
    stop_code: int = 0

    @property
    def epochs(self) -> float:
        return self.trainer.seen / len(self.streams.symbols)

    def stop(self, reason: str = "stopped by a callback", *, code: int = 1) -> None:
        """End the run after the current update and save the weights; also from a signal handler."""
        self.stop_reason, self.stop_code = reason, code


def train_text(
    network: Network,
    symbols: Tensor,
    *,
    folder: Path,
    weights: Path | None = None,
    seed: int = 0,
    clear: bool = False,
    overwrite: bool = False,
    callbacks: Sequence[object] = (),
) -> TextRun:
    """Train a network until [net] max_batches, or until a callback stops it.

    symbols: of the text, from `read_symbols`. folder: for the checkpoints.
    weights: file that the network was loaded from; its resume file, if there is one, has the optimizer's state.
    clear: start the schedule anew. overwrite: replace the final weights of a finished run.
    callbacks: objects with `on_start(run)`, `on_update(report)` or `on_checkpoint(report)`.
    Raises: DarkpyError when the loss is NaN, or for a network that is not character-level.
    """
    count, net, base = count_symbols(network), network.plan.net, base_name(network.plan.file)
    make_folder(folder)
    final = folder / f"{base}_final.weights"
    if final.exists() and not overwrite and (weights is None or not final.samefile(weights)):
        raise DarkpyError(f"{final}: already exists", hint="--force overwrites it")
    events = Callbacks(callbacks)
    with locked(folder, base):
        resume = None if weights is None or clear else find_resume(weights, base)
        trainer = Trainer(network, seed=seed, clear=clear)
        if resume is not None:
            resume.restore(trainer)
        network.carry_state()
        network.reset_state()
        # another seed where a run goes on: the offsets of its first part have been read
        streams = TextStreams(
            symbols,
            count,
            streams=net.minibatch // net.time_steps,
            time_steps=net.time_steps,
            seed=seed + trainer.batch_num,
        )
        run = TextRun(trainer=trainer, streams=streams, folder=folder, is_resumed=resume is not None)
        intervals = Intervals.of_text()
        checkpoints = Checkpoints(trainer, folder, intervals, resume=resume)
        events.emit("on_start", run)
        while trainer.batch_num < (net.max_batches or math.inf) and not run.stop_code:
            report = _update(run)
            events.emit("on_update", report)
            if paths := checkpoints.save_due(report):
                events.emit("on_checkpoint", CheckpointReport(batch_num=report.batch_num, paths=paths, is_last=False))
        paths = checkpoints.save(intervals.last if run.stop_code else intervals.final)
        events.emit("on_checkpoint", CheckpointReport(batch_num=trainer.batch_num, paths=paths, is_last=True))
    return run


def _update(run: TextRun) -> UpdateReport:
    """Make an update. Raises: DarkpyError when its loss is NaN or infinite."""
    trainer, streams = run.trainer, run.streams
    began, seen = perf_counter(), trainer.seen
    steps: list[StepReport] = []
    while not (steps and steps[-1].updated):
        x, truth = streams.next_minibatch()
        steps.append(trainer.train_minibatch(x, truth))
        for stream in streams.restart():
            trainer.network.reset_state(stream)
    images = trainer.seen - seen
    loss = mean_cost(steps) * len(steps) / images
    if not math.isfinite(loss):
        raise DarkpyError(
            f"update {trainer.batch_num}: the loss is {loss}",
            hint="continue from the last checkpoint with a smaller learning_rate, or with grad_clip_norm=5 in [net]",
        )
    trainer.average_loss = next_average(trainer.average_loss, loss)
    return UpdateReport(
        batch_num=trainer.batch_num,
        loss=loss,
        average=trainer.average_loss,
        rate=steps[-1].rate,
        seen=trainer.seen,
        images=images,
        seconds=perf_counter() - began,
        steps=tuple(steps),
    )
