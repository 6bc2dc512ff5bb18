"""Policy of the monitor: which minibatches and updates are refused, and the finding that explains a refusal.

Decisions use only numbers that the run waits for anyway; the cause is examined afterwards.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from darkpy.diagnostics.monitor.artifacts import write_evidence
from darkpy.diagnostics.monitor.finding_history import History
from darkpy.diagnostics.monitor.label_symptoms import RecordedBatch
from darkpy.diagnostics.monitor.loss_symptoms import LossHistory, NonFinite, RuinedWeights
from darkpy.diagnostics.monitor.root_cause import find_nonfinite_array, find_root_cause
from darkpy.diagnostics.monitor.symptoms import Symptom
from darkpy.errors import DarkpyError, DarkpyWarning
from darkpy.finding import Cause, Finding
from darkpy.training.trainer import Trainer

MAX_EXAMINED_REFUSALS = 10
"""Refused updates of a run whose cause is examined and whose images are kept; later ones are only counted."""
MAX_NAMED_IMAGES = 5
"""Images that a finding about a loss spike names, the worst first."""


class BadRunError(DarkpyError):
    """A run cannot go on. is_savable: True if its weights, those of the last good update, are finite."""

    def __init__(self, message: str, *, hint: str | None, is_savable: bool) -> None:
        super().__init__(message, hint=hint)
        self.is_savable = is_savable


@dataclass
class UpdatePolicy:
    """Refusals of a run.

    max_bad_updates: refused updates in a row that end the run. refused_minibatches: since the last update; a refused
        update counts as all of its minibatches. examined: refusals whose cause was examined.
    has_blamed_layer: True if a finding since the last update names a layer.
    loss, is_spike, is_whole_update, has_finite_arrays: of the last decision.
    """

    trainer: Trainer
    history: History
    loss_history: LossHistory
    max_bad_updates: int
    refused_minibatches: int = 0
    examined: int = 0
    has_blamed_layer: bool = False
    loss: float = math.nan
    is_spike: bool = False
    is_whole_update: bool = False
    has_finite_arrays: bool = True
    has_evidence_failed: bool = False

    def accept_loss(self, loss: float, *, is_finite: bool) -> bool:
        """True if a minibatch of this loss may go on to its backward pass."""
        self.loss, self.is_whole_update = loss, False
        self.is_spike = is_finite and self.loss_history.is_spike(loss)
        return is_finite and not self.is_spike

    def accept_update(self, *, has_finite_gradients: bool, has_finite_arrays: bool) -> bool:
        """True if the update may be made."""
        self.is_spike, self.is_whole_update, self.has_finite_arrays = False, True, has_finite_arrays
        if has_finite_gradients and has_finite_arrays:
            self.refused_minibatches, self.has_blamed_layer = 0, False
            return True
        return False

    def finding(self, recorded: Sequence[RecordedBatch], folder: Path | None, before: str = "") -> Finding | None:
        """Explain the last refusal and write its evidence; None where that has been reported before.

        recorded: minibatches of the update, the refused one last. before: text on an earlier finding that may be the
            cause.
        """
        trainer, plan = self.trainer, self.trainer.network.plan
        self.refused_minibatches += trainer.net.subdivisions if self.is_whole_update else 1
        if self.examined == MAX_EXAMINED_REFUSALS:
            self.has_finite_arrays = find_nonfinite_array(trainer) is None
            return None
        self.examined += 1
        cause = find_root_cause(trainer, recorded if self.is_whole_update else recorded[-1:])
        # collectives of all ranks come before anything that each rank decides by itself
        faults = trainer.process_group.gather_paths([sample.fault for sample in cause.samples if sample.fault])
        ruin = RuinedWeights().diagnose(plan, trainer.batch_num + 1, cause)
        spike = self.loss_history.symptom
        named = [sample for sample in cause.samples if sample.fault]
        if self.is_spike and not faults and ruin is None and self.loss_history.blames_images(self.loss, cause):
            named = cause.samples[:MAX_NAMED_IMAGES]
        paths = trainer.process_group.gather_paths([sample.name for sample in named])
        self.has_finite_arrays = cause.arrays is None
        batch_num = trainer.batch_num + 1
        symptom: Symptom = spike if self.is_spike else NonFinite()
        if ruin is not None and not faults:
            symptom, finding = RuinedWeights(), ruin
        elif isinstance(symptom, NonFinite):
            finding = symptom.diagnose(plan, batch_num, cause, faults)
        else:
            finding = symptom.finding(plan, batch_num, None, self.loss_history.text(self.loss, cause))
        index = finding.location.index
        blames_images = bool(paths) and (self.is_spike or index is None)
        # weights that spoil one update spoil the next ones in other layers: report one layer until an update succeeds
        is_repeated = self.has_blamed_layer and not blames_images
        if is_repeated or not self.history.may_report(
            symptom, paths[0] if blames_images and paths else index, batch_num
        ):
            return None
        self.has_blamed_layer = not blames_images
        if isinstance(symptom, RuinedWeights) or (self.is_spike and not paths):
            # any image has such a loss with these weights: none is kept
            return replace(finding, message=f"{finding.message}{before}")
        message = f"{finding.message}{before}. Weights and optimizer stay as they were"
        finding = replace(finding, message=message, paths=tuple(paths))
        if paths:
            where = "in the evidence folder" if folder is not None else "that are named here"
            hints = (f"look at the images and labels {where}", *finding.hints)
            finding = replace(finding, hints=hints, cause=Cause.DATA)
        if folder is None or not trainer.process_group.is_main:
            return finding
        text = "\n".join((finding.text, *finding.hints))
        try:
            evidence = write_evidence(folder, batch_num, plan, cause.samples, text)
        except DarkpyError as error:
            if not self.has_evidence_failed:
                message = f"{error.message}: images of refused updates are not kept"
                warnings.warn(message, DarkpyWarning, stacklevel=2)
            self.has_evidence_failed = True
            return finding
        return replace(finding, evidence=evidence.relative_to(folder).as_posix())

    def check(self, last: Finding | None) -> None:
        """Raises: BadRunError when the network's arrays are non-finite, or too many updates in a row were refused."""
        batch_num = self.trainer.batch_num + 1
        if not self.has_finite_arrays:
            index = None if last is None else last.location.index
            place = "" if index is None else f"{self.trainer.network.plan.place(index)}, "
            raise BadRunError(
                f"{place}update {batch_num}: arrays of the network are NaN or infinite, and no update can repair them",
                hint="continue from an earlier checkpoint, or start from other weights",
                is_savable=False,
            )
        if self.refused_minibatches >= self.max_bad_updates * self.trainer.net.subdivisions:
            raise BadRunError(
                f"update {batch_num}: {self.max_bad_updates} updates in a row were refused, the run ends"
                + (f"; the last finding: {last.text}" if last is not None else ""),
                hint="; ".join(last.hints) if last is not None else None,
                is_savable=True,
            )
