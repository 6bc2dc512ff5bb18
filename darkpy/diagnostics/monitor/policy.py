"""What is refused: the decision, taken on numbers that the run waits for anyway, and what is made of it afterwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from darkpy.diagnostics.monitor.artifacts import write_evidence
from darkpy.diagnostics.monitor.history import History
from darkpy.diagnostics.monitor.label_symptoms import RecordedBatch
from darkpy.diagnostics.monitor.loss_symptoms import LossHistory, NonFinite
from darkpy.diagnostics.monitor.root_cause import Autopsy, examine
from darkpy.diagnostics.monitor.symptom import Symptom
from darkpy.errors import DarkpyError
from darkpy.finding import Finding
from darkpy.training.trainer import Trainer

EVIDENCE = 10
"""Updates of a run of which the images are kept; later ones are refused and counted."""
_SHOWN = 5  # images that a finding names


class BadRunError(DarkpyError):
    """A run cannot go on. is_savable: whether its weights are numbers, those of its last good update."""

    def __init__(self, message: str, *, hint: str | None, is_savable: bool) -> None:
        super().__init__(message, hint=hint)
        self.is_savable = is_savable


@dataclass
class UpdatePolicy:
    """Of a run. in_a_row: minibatches refused since the last update, all of them where an update was.

    examined: how many were looked at again. has_told_of_layer: whether a layer was blamed since the last update.
    max_bad_updates: how many updates' worth of them end the run.
    """

    trainer: Trainer
    history: History
    loss_history: LossHistory
    max_bad_updates: int
    in_a_row: int = 0
    examined: int = 0
    has_told_of_layer: bool = False
    is_spike: bool = False
    is_whole_update: bool = False
    has_whole_arrays: bool = True
    loss: float = math.nan

    def accept_loss(self, loss: float, *, is_finite: bool) -> bool:
        self.loss, self.is_whole_update = loss, False
        self.is_spike = is_finite and self.loss_history.is_spike(loss)
        return is_finite and not self.is_spike

    def accept_update(self, *, are_numbers: bool, has_whole_arrays: bool) -> bool:
        self.is_spike, self.is_whole_update, self.has_whole_arrays = False, True, has_whole_arrays
        if are_numbers and has_whole_arrays:
            self.in_a_row, self.has_told_of_layer = 0, False
            return True
        return False

    def finding(self, kept: Sequence[RecordedBatch], folder: Path | None, before: str = "") -> Finding | None:
        """What is to be said of what has just been refused, with its evidence; None once that has been said.

        kept: the minibatches of the update, the refused one last. before: what was found that may have led to it.
        """
        trainer, plan = self.trainer, self.trainer.network.plan
        self.in_a_row += trainer.net.subdivisions if self.is_whole_update else 1
        if self.examined == EVIDENCE:
            return None
        self.examined += 1
        autopsy = examine(trainer, kept if self.is_whole_update else kept[-1:])
        # what all ranks ask one another comes before anything that each decides for itself
        guilty = trainer.process_group.gather_paths([sample.fault for sample in autopsy.samples if sample.fault])
        blamed = [sample for sample in autopsy.samples if sample.fault] or autopsy.samples[: 0 if guilty else _SHOWN]
        paths = trainer.process_group.gather_paths([sample.name for sample in blamed])
        self.has_whole_arrays = autopsy.arrays is None
        number = trainer.batch_num + 1
        symptom, finding = self._diagnose(autopsy, guilty, number)
        index = finding.location.index
        is_of_images = self.is_spike or bool(guilty and index is None)
        key = paths[0] if is_of_images and paths else index
        # weights that make one update impossible make the next ones so in other places
        has_been_said = self.has_told_of_layer and not is_of_images
        if has_been_said or not self.history.may_say(symptom, key, number):
            return None
        self.has_told_of_layer = not is_of_images
        message = f"{finding.message}{before}. Weights and optimizer stay as they were"
        finding = replace(finding, message=message, paths=tuple(paths))
        if folder is None or not trainer.process_group.is_main:
            return finding
        lines = "\n".join((finding.text, *finding.hints))
        evidence = write_evidence(folder, number, plan, autopsy.samples, lines).relative_to(folder).as_posix()
        return replace(finding, evidence=evidence)

    def check(self, last: Finding | None) -> None:
        """Raises: BadRunError when its arrays are no numbers, or nothing passes any more."""
        hint = "; ".join(last.hints) if last is not None else None
        number = self.trainer.batch_num + 1
        if not self.has_whole_arrays:
            index = None if last is None else last.location.index
            place = "" if index is None else f"{self.trainer.network.plan.place(index)}, "
            raise BadRunError(
                f"{place}update {number}: arrays of the network are no numbers, and no update can mend that",
                hint="go on from an earlier checkpoint, or start from other weights",
                is_savable=False,
            )
        if self.in_a_row >= self.max_bad_updates * self.trainer.net.subdivisions:
            raise BadRunError(
                f"update {number}: {self.max_bad_updates} updates in a row could not be made, the run ends"
                + (f"; the last reason told: {last.text}" if last is not None else ""),
                hint=hint,
                is_savable=True,
            )

    def _diagnose(self, autopsy: Autopsy, guilty: Sequence[str], batch_num: int) -> tuple[Symptom, Finding]:
        plan = self.trainer.network.plan
        if self.is_spike:
            spike = self.loss_history.symptom
            return spike, spike.finding(plan, batch_num, None, self.loss_history.text(self.loss, autopsy))
        symptom = NonFinite()
        return symptom, symptom.diagnose(plan, batch_num, autopsy, guilty)
