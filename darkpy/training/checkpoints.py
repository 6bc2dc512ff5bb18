"""Checkpoints under darknet's names at darknet's intervals, each with its resume file.

A resume file `BASE_N.resume` is written before the weight files it belongs to, and the previous one is removed only
after them: whenever the process dies, the newest weights have theirs.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from darkpy.config.net import NetSpec
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, DarkpyWarning
from darkpy.files import write_atomic
from darkpy.training.reports import UpdateReport
from darkpy.training.resume import NO_MAP, Resume, digest, digest_file, open_resume, write_resume
from darkpy.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True, slots=True)
class Intervals:
    """Updates after which weights are written, and the ends of the files' names.

    last: overwritten every `last_every` updates; 0 for never.
    number: number in the name of the weights to keep after an update, None for most updates.

    Source: pjreddie/darknet examples/detector.c train_detector, examples/classifier.c train_classifier;
        AlexeyAB/darknet src/detector.c train_detector, src/classifier.c train_classifier
    """

    last: str
    last_every: int
    number: Callable[[UpdateReport], int | None]
    final: str = "_final.weights"

    @classmethod
    def of_detector(cls, net: NetSpec, *, save_weights: int | None = None, save_last: int | None = None) -> Intervals:
        """Return a detector's. save_weights, save_last: `saveweights` and `savelast` of a .data file (AlexeyAB's)."""
        if net.dialect is Dialect.PJREDDIE:

            def often_at_first(report: UpdateReport) -> int | None:
                n = report.batch_num
                return n if n % 10000 == 0 or (n < 1000 and n % 100 == 0) else None

            return cls(last=".backup", last_every=100, number=often_at_first)
        every = save_weights or (1000 if net.max_batches < 10000 else 10000)
        last_every = save_last or 100
        return cls(
            last="_last.weights", last_every=last_every if every > last_every else 0, number=_multiples_of(every)
        )

    @classmethod
    def of_classifier(cls, net: NetSpec, images: int) -> Intervals:
        """Return a classifier's. images: in the list; pjreddie's numbers are those of epochs."""
        if net.dialect is Dialect.ALEXEYAB:
            return cls(last="_last.weights", last_every=100, number=_multiples_of(1000))

        def epoch(report: UpdateReport) -> int | None:
            reached = report.seen // images
            return reached if reached > (report.seen - report.images) // images else None

        return cls(last=".backup", last_every=1000, number=epoch, final=".weights")

    def names_due(self, report: UpdateReport) -> list[str]:
        number = self.number(report)
        names = [] if number is None else [f"_{number}.weights"]
        if self.last_every and report.batch_num % self.last_every == 0:
            names.append(self.last)
        return names


class Checkpoints:
    """Writes the weights of a run into a folder, as `BASE` and the ends of names that `intervals` gives.

    best: largest mean average precision so far, which the resume file stores.
    """

    def __init__(self, trainer: Trainer, folder: Path, intervals: Intervals, *, best: float = NO_MAP) -> None:
        self.trainer, self.folder, self.intervals, self.best = trainer, folder, intervals, best
        self.base = base_name(trainer.network.plan.file)
        # temporary files of a process that was killed while it wrote
        kinds = r"(_(\d+|last|final|ema|best))?\.(weights|backup|resume)"
        self._remove(rf"\.{re.escape(self.base)}{kinds}\.\w{{8}}")

    def save_due(self, report: UpdateReport) -> tuple[Path, ...]:
        """Write what the intervals ask for after an update. Returns: the weight files written."""
        names = self.intervals.names_due(report)
        return self.save(*names) if names else ()

    def save(self, *names: str) -> tuple[Path, ...]:
        """Write the weights to `BASE` + each of the names, and the averaged ones beside the last.

        Returns: the weight files written.
        Raises: DarkpyError when they hold NaN or infinity, and then nothing is written.
        """
        trainer, network = self.trainer, self.trainer.network
        chunks = list(network.pack_weights())
        resume = self.folder / f"{self.base}_{trainer.batch_num}.resume"
        write_resume(resume, trainer, weights=digest(chunks), best=self.best)
        paths = [self.folder / f"{self.base}{name}" for name in names]
        for path in paths:
            write_atomic(path, chunks)
        self._remove(rf"{re.escape(self.base)}_\d+\.resume", except_for=resume)
        if trainer.ema is not None and trainer.ema.arrays and self.intervals.last in names:
            paths.append(self.folder / f"{self.base}_ema.weights")
            with trainer.ema.in_place():
                network.save_weights(paths[-1])
        return tuple(paths)

    def save_best(self, mean: float) -> Path | None:
        """Write the weights as `BASE_best.weights` unless they were better before. Returns: the file, if written.

        Source: AlexeyAB/darknet src/detector.c train_detector
        """
        if mean < self.best:
            return None
        self.best = mean
        path = self.folder / f"{self.base}_best.weights"
        self.trainer.network.save_weights(path)
        return path

    def _remove(self, pattern: str, except_for: Path | None = None) -> None:
        for path in _files(self.folder):
            if re.fullmatch(pattern, path.name) and path != except_for:
                path.unlink(missing_ok=True)


def base_name(cfg: str) -> str:
    """Return the start of a cfg's checkpoints' names: its file name up to the first dot."""
    return Path(cfg).name.partition(".")[0]


def find_resume(weights: Path, base: str) -> Resume | None:
    """Find the resume file that belongs to a weight file, beside it; warn of a run's that belongs to other weights."""
    paths = sorted(
        path for path in _files(weights.parent) if re.fullmatch(rf"{re.escape(base)}_\d+\.resume", path.name)
    )
    sha = digest_file(weights) if paths else ""
    messages: list[str] = []
    for path in paths:
        try:
            resume = open_resume(path)
        except DarkpyError as error:
            messages.append(error.message)
            continue
        if resume.weights == sha:
            return resume
        messages.append(f"{path}: not used, it belongs to other weights than {weights}, after {resume.seen} images")
    for message in messages:
        warnings.warn(message, DarkpyWarning, stacklevel=2)
    return None


def _files(folder: Path) -> list[Path]:
    """Raises: DarkpyError when the folder cannot be read."""
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise DarkpyError(f"{folder}: cannot be read: {error.strerror or error}") from error


def _multiples_of(every: int) -> Callable[[UpdateReport], int | None]:
    return lambda report: report.batch_num if report.batch_num % every == 0 else None
