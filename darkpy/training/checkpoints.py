"""Checkpoints under darknet's names at darknet's intervals, each with what it takes to go on as if never interrupted.

A resume file `BASE_N.resume` is written before the weight files it belongs to, and the one before it goes only when
they are there: whenever the process dies, the newest weights have theirs.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from darkpy.config.net import NetSpec
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, DarkpyWarning
from darkpy.files import write_atomic
from darkpy.training.loop import UpdateReport
from darkpy.training.resume import NO_BEST, Resume, digest, digest_file, open_resume, write_resume
from darkpy.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True, slots=True)
class Intervals:
    """After which updates which files are written, by the ends of their names.

    last: written over and over, every `last_every` updates; 0 for never.
    number: the number under which the weights after an update are kept, None for most.

    Source: pjreddie/darknet examples/detector.c train_detector, examples/classifier.c train_classifier;
        AlexeyAB/darknet src/detector.c train_detector, src/classifier.c train_classifier
    """

    last: str
    last_every: int
    number: Callable[[UpdateReport], int | None]
    final: str = "_final.weights"

    @classmethod
    def of_detector(cls, net: NetSpec, *, save_weights: int | None = None, save_last: int | None = None) -> Intervals:
        """save_weights, save_last: `saveweights` and `savelast` of a .data file, which AlexeyAB's fork reads."""
        if net.dialect is Dialect.PJREDDIE:
            return cls(last=".backup", last_every=100, number=_often_at_first)
        every = save_weights or (1000 if net.max_batches < 10000 else 10000)
        last_every = save_last or 100
        return cls(
            last="_last.weights", last_every=last_every if every > last_every else 0, number=_multiples_of(every)
        )

    @classmethod
    def of_classifier(cls, net: NetSpec, images: int) -> Intervals:
        """images: how many the list has; pjreddie's numbers are those of epochs."""
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
    """Writes the weights into a folder, as `BASE` and what `intervals` says.

    best: the largest mean average precision so far, of which the resume file tells.
    """

    def __init__(
        self, trainer: Trainer, folder: Path, intervals: Intervals, *, seed: int, best: float = NO_BEST
    ) -> None:
        self.trainer, self.folder, self.intervals, self.seed, self.best = trainer, folder, intervals, seed, best
        self.base = base_name(trainer.network.plan.file)
        # what a process that was killed was about to write
        kinds = r"(_(\d+|last|final|ema|best))?\.(weights|backup|resume)"
        self._remove(rf"\.{re.escape(self.base)}{kinds}\.\w{{8}}")

    def __call__(self, report: UpdateReport) -> None:
        if names := self.intervals.names_due(report):
            self.save(names, report.average)

    def save(self, names: Sequence[str], average: float) -> None:
        """Write the weights as they are to `BASE` + each of the names, the averaged ones beside the last.

        Raises: DarkpyError when they hold NaN or infinity, and then nothing is written.
        """
        trainer, network = self.trainer, self.trainer.network
        chunks = list(network.pack_weights())
        resume = self.folder / f"{self.base}_{trainer.batch_num}.resume"
        sha = digest(chunks)
        write_resume(resume, trainer, weights=sha, average=average, seed=self.seed, best=self.best)
        for name in names:
            write_atomic(self.folder / f"{self.base}{name}", chunks)
        self._remove(rf"{re.escape(self.base)}_\d+\.resume", kept=resume)
        if trainer.ema.arrays and self.intervals.last in names:
            with trainer.ema.in_place():
                network.save_weights(self.folder / f"{self.base}_ema.weights")

    def keep_best(self, mean: float) -> bool:
        """Write the weights as `BASE_best.weights` unless they were better before. Returns: whether they are the best.

        Source: AlexeyAB/darknet src/detector.c train_detector
        """
        if mean < self.best:
            return False
        self.best = mean
        self.trainer.network.save_weights(self.folder / f"{self.base}_best.weights")
        return True

    def _remove(self, pattern: str, kept: Path | None = None) -> None:
        for path in _listed(self.folder):
            if re.fullmatch(pattern, path.name) and path != kept:
                path.unlink(missing_ok=True)


def base_name(cfg: str) -> str:
    """What a cfg's checkpoints are called: its file name up to the first dot."""
    return Path(cfg).name.partition(".")[0]


def find_resume(weights: Path, base: str) -> Resume | None:
    """The resume file beside a weight file that belongs to it; a warning tells of a run's that belongs to others."""
    paths = sorted(
        path for path in _listed(weights.parent) if re.fullmatch(rf"{re.escape(base)}_\d+\.resume", path.name)
    )
    sha = digest_file(weights) if paths else ""
    told: list[str] = []
    for path in paths:
        try:
            resume = open_resume(path)
        except DarkpyError as error:
            told.append(error.message)
            continue
        if resume.weights == sha:
            return resume
        told.append(f"{path}: belongs to other weights than {weights}, those of {resume.seen} images; it is not used")
    for text in told:
        warnings.warn(text, DarkpyWarning, stacklevel=2)
    return None


def _listed(folder: Path) -> list[Path]:
    """Raises: DarkpyError when the folder cannot be looked into."""
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise DarkpyError(f"{folder}: cannot be read: {error.strerror or error}") from error


def _often_at_first(report: UpdateReport) -> int | None:
    n = report.batch_num
    return n if n % 10000 == 0 or (n < 1000 and n % 100 == 0) else None


def _multiples_of(every: int) -> Callable[[UpdateReport], int | None]:
    return lambda report: report.batch_num if report.batch_num % every == 0 else None
