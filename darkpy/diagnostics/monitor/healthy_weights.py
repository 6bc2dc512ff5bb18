"""The last healthy weights of a run, kept apart from its checkpoints, and the verdict that a run is ruined."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from darkpy.diagnostics.monitor.loss_symptoms import Diverging
from darkpy.diagnostics.monitor.monitor import Monitor
from darkpy.diagnostics.monitor.policy import BadRunError
from darkpy.errors import WeightsError
from darkpy.files import write_atomic
from darkpy.training.reports import UpdateReport
from darkpy.training.trainer import Trainer

HEALTHY_SUFFIX = "_healthy.weights"
COPY_EVERY_UPDATES = 100
"""Updates between two copies of the weights. A copy counts as healthy when the next one is taken without a symptom."""
EXPLODED_FACTOR, EXPLODED_UPDATES = 1e4, 5
"""Losses in a row, in multiples of the first one, that end a run: no run has recovered from them."""
RISEN_FACTOR, DIVERGED_FACTOR, RISEN_UPDATES = 100.0, 2.0, 200
"""Updates in a row that end a run: their average loss is so many times the first loss, or it is diverging and so many
times the first average."""
MIN_FIRST_LOSS = 1.0
"""Minimum of the first loss: a minibatch without objects may have almost none."""
MAX_RISE_AT_COPY, MAX_RISE_AT_PROOF = 2.0, 3.0
"""Rise of the average loss over its lowest value up to which weights are copied, and up to which a copy is healthy."""
MAX_HEALTHY_WEIGHT = 1e6


@dataclass(frozen=True, slots=True)
class WeightsCopy:
    """Bytes of a weight file. batch_num: the update after which the weights were these."""

    batch_num: int
    chunks: tuple[bytes, ...]


class HealthyWeights:
    """Follows a run, holds its last healthy weights in memory, and writes them when something goes wrong.

    path: `BASE_healthy.weights`, which no checkpoint overwrites.
    diverging_since: the update since which the loss diverges, None where it does not.
    Weights from which a run is resumed while it diverges are not healthy; then the file of before stays.
    """

    def __init__(self, trainer: Trainer, monitor: Monitor, path: Path) -> None:
        self.trainer, self.monitor, self.path = trainer, monitor, path
        known = (symptom for symptom in monitor.symptoms if isinstance(symptom, Diverging))
        self.diverging = next(known, Diverging())
        self.diverging_since: int | None = None
        self._exploded_updates = self._risen_updates = 0
        is_diverging = self.diverging.is_diverging(trainer.average_loss, monitor.averages)
        self._healthy = None if is_diverging else self._copy()
        self._candidate: WeightsCopy | None = None
        self._written: WeightsCopy | None = None

    def follow(self, report: UpdateReport) -> None:
        """Judge an update; the healthy weights are written as soon as the loss diverges.

        Raises: BadRunError when the weights are ruined, which should not be saved; DarkpyError as `write`.
        """
        n, (first, lowest) = report.batch_num, self.monitor.averages
        first_loss = max(self.monitor.first_update[1] if self.monitor.first_update else 0.0, MIN_FIRST_LOSS)
        is_diverging = self.diverging.is_diverging(report.average, self.monitor.averages)
        is_risen = report.average > RISEN_FACTOR * first_loss
        is_exploded = report.loss > EXPLODED_FACTOR * first_loss
        self._exploded_updates = self._exploded_updates + 1 if is_exploded else 0
        is_lost = is_risen or (is_diverging and report.average > DIVERGED_FACTOR * first)
        self._risen_updates = self._risen_updates + 1 if is_lost else 0
        if self._exploded_updates >= EXPLODED_UPDATES or self._risen_updates >= RISEN_UPDATES:
            raise BadRunError(
                f"update {n}: the loss is {report.loss:.4g}, {first_loss:.4g} at the start, and does not recover: the"
                " weights are ruined and not saved, the run ends",
                hint=None,
                is_savable=False,
            )
        if not (is_diverging or is_risen):
            self.diverging_since = None
            if n % COPY_EVERY_UPDATES == 0 and math.isfinite(lowest):
                self._take_copy(report.average / lowest if lowest > 0 else 1.0)
        elif self.diverging_since is None:
            self.diverging_since, self._candidate = n, None
            self.write()

    def _take_copy(self, rise: float) -> None:
        """Copy the weights, if the one before has proved to be healthy. rise: of the average loss over the lowest."""
        if self._candidate is not None and rise <= MAX_RISE_AT_PROOF:
            self._healthy, self._candidate = self._candidate, None
        if self._candidate is None and rise <= MAX_RISE_AT_COPY:
            self._candidate = self._copy()

    @property
    def text(self) -> str:
        """Description of a divergence for messages."""
        kept = (
            "" if self._healthy is None else f"; the healthy weights of update {self._healthy.batch_num}: {self.path}"
        )
        average = f"{self.trainer.average_loss:.4g}"
        return f"the loss diverges since update {self.diverging_since}, its average is {average}{kept}"

    def write(self) -> bool:
        """Write the healthy weights, once. Returns: True if the file is there. Raises: DarkpyError if it fails."""
        if self._healthy is not None and self._healthy is not self._written:
            write_atomic(self.path, self._healthy.chunks, replace_input=True)  # a run may start from them
            self._written = self._healthy
        return self.path.is_file()

    def _copy(self) -> WeightsCopy | None:
        """Copy the weights; None where they are not healthy themselves."""
        try:
            chunks = tuple(self.trainer.network.pack_weights())
        except WeightsError:
            return None
        largest = max((float(np.abs(np.frombuffer(chunk, "<f4")).max()) for chunk in chunks[1:] if chunk), default=0.0)
        return WeightsCopy(self.trainer.batch_num, chunks) if largest <= MAX_HEALTHY_WEIGHT else None
