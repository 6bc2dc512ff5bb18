"""The live watch: looks on while a trainer works, refuses what would harm the weights, and says what is wrong.

It changes no number of a healthy run. What every update costs is a few small sums; the layers are looked at in every
one of the first updates, where most runs die, and later now and then. What is measured stays on the device until the
one moment of an update at which its norm is fetched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

from darkpy.diagnostics.monitor.activation_symptoms import ActivationRange, AnchorMismatch, DeadUnits, VarianceCollapse
from darkpy.diagnostics.monitor.gradient_symptoms import ClampSaturated, Exploding, OverfitHead, StuckRate, Vanishing
from darkpy.diagnostics.monitor.history import History, as_lists, run_of
from darkpy.diagnostics.monitor.label_symptoms import AnchorOverlaps, BadLabel, RecordedBatch
from darkpy.diagnostics.monitor.log_reader import LoggedMap, LoggedUpdate, log_path
from darkpy.diagnostics.monitor.log_writer import LogWriter
from darkpy.diagnostics.monitor.loss_symptoms import Diverging, LossHistory, LossSpike
from darkpy.diagnostics.monitor.metrics import Measures
from darkpy.diagnostics.monitor.policy import UpdatePolicy
from darkpy.diagnostics.monitor.symptom import Look, Symptom
from darkpy.finding import Finding
from darkpy.layers.loss import Loss
from darkpy.training.checkpoints import base_name
from darkpy.training.loop import next_average
from darkpy.training.step_guard import StepGuard
from darkpy.training.trainer import StepReport, Trainer

SYMPTOMS: tuple[Symptom, ...] = (
    AnchorMismatch(),
    Diverging(),
    StuckRate(),
    Exploding(),
    Vanishing(),
    OverfitHead(),
    ClampSaturated(),
    ActivationRange(),
    VarianceCollapse(),
    DeadUnits(),
)
EVERY = 100
"""Updates from one look at the layers to the next: it costs up to half a step of a small network, and so 1 in 200."""
FIRST = 10
"""Updates at the beginning of a run whose layers are all looked at."""
SETTLED = 10
"""Updates after which the average loss tells of more than the first minibatch."""
MAX_BAD_UPDATES = 100
"""Updates in a row that cannot be made before the run stops: dirty images do not come in so many batches in a row."""

OMEN = 100
"""Updates for which an explosion, or very large outputs, may be the cause of what comes after."""
_SYMPTOM_OF = {symptom.name: symptom for symptom in SYMPTOMS}

Tell = Callable[[Finding], None]


class Monitor(StepGuard):
    """Watches a trainer from now on.

    folder: the run's, for the log and the evidence; None keeps both to itself.
    tell: is called with every finding; all of them are in `findings`.
    average: the run's average loss so far, where it goes on; memory: what its watch remembered then.
    checks_labels: whether labels are looked through; darkpy's own loader has done so.
    Raises: BadRunError from the trainer's step, when `max_bad_updates` in a row could not be made, or when the network
        holds what is no number.
    """

    needs_snapshots = True

    def __init__(
        self,
        trainer: Trainer,
        folder: Path | None = None,
        *,
        symptoms: Sequence[Symptom] = SYMPTOMS,
        spike: LossSpike | None = None,
        max_bad_updates: int = MAX_BAD_UPDATES,
        every: int = EVERY,
        first: int = FIRST,
        average: float = math.nan,
        memory: Mapping[str, Sequence[float]] | None = None,
        tell: Tell | None = None,
    ) -> None:
        self.trainer, self.folder, self.tell = trainer, folder, tell
        self.every, self.first, self.average = every, first, average
        self._averages = (math.nan, math.inf)
        self.findings: list[Finding] = []
        self.checks_labels = trainer.process_group.is_main
        plan = trainer.network.plan
        self.history = History(plan, symptoms)
        loss_history = LossHistory.going_on(spike or LossSpike(), memory or {})
        self.policy = UpdatePolicy(trainer, self.history, loss_history, max_bad_updates)
        self.measures, self.overlaps, self.labels = Measures(trainer), AnchorOverlaps(), BadLabel()
        self._kept: list[RecordedBatch] = []
        self._losses: list[float] = []
        self._fresh: frozenset[int] = frozenset()
        self._log: LogWriter | None = None
        if folder is not None and trainer.process_group.is_main:
            self._log = LogWriter(log_path(folder, base_name(plan.file).strip("<>") or "run"))
            self._log.begin(run_of(plan, batch_num=trainer.batch_num, seen=trainer.seen))
        self._began = self._ended = perf_counter()
        self._waited = 0.0
        trainer.guard = self

    def memory(self) -> Mapping[str, Sequence[float]]:
        return self.policy.loss_history.memory()

    def begin(self, x_BCHW: Tensor, truth: Tensor, paths: Sequence[Sequence[str]]) -> None:
        self._waited += perf_counter() - self._ended
        trainer, net = self.trainer, self.trainer.net
        n = trainer.batch_num + 1
        # those of this update that were let pass
        start = trainer.batch_num * net.minibatch * net.subdivisions
        self._kept = [kept for kept in self._kept if start <= kept.seen < trainer.seen]
        self._losses = self._losses[: len(self._kept)]
        self._kept.append(RecordedBatch(x_BCHW, truth, tuple(map(tuple, paths)), trainer.seen))
        is_last = trainer.seen // net.minibatch % net.subdivisions == net.subdivisions - 1
        if is_last and (self.history.updates < self.first or n % self.every == 0):
            self.measures.look(x_BCHW)
            self.overlaps.add(trainer.network.plan, truth)
        if self.checks_labels and truth.device.type == "cpu":
            self._check_labels(n)

    def accept_losses(self, losses: Sequence[Loss]) -> bool:
        # where AlexeyAB's heads drop deltas that are no numbers the cost is one all the same
        said = [one.double() for loss in losses for one in (loss.cost, loss.report.get("no_obj", loss.cost))]
        costs: list[float] = torch.stack(said).tolist()
        loss = sum(costs[::2]) / len(losses) / self._images
        has_passed = self.policy.passes_loss(loss, is_number=all(map(math.isfinite, costs)))
        if has_passed:
            self._losses.append(loss)
        return has_passed

    def accept_update(self, norm: Tensor) -> bool:
        active_groups = self.trainer.optimizer.active_groups
        learning = {
            group["node"].index for group in active_groups if any(param.grad is not None for param in group["params"])
        }
        self._fresh = self.history.take_part(learning)
        wants_layers = self.history.wants_layers if not self._fresh else lambda norm, reach: True
        self.measures.fetch(norm, max((group["lr"] for group in active_groups), default=0.0), wants_layers)
        return self.policy.accept_update(
            are_numbers=self.measures.are_numbers, has_whole_arrays=self.measures.has_whole_arrays
        )

    def end(self, report: StepReport) -> None:
        if report.refused:
            self._refused(report)
        elif report.updated:
            self._updated(report)
        self.measures.end()
        self._ended = perf_counter()

    def _refused(self, report: StepReport) -> None:
        finding = self.policy.finding(self._kept, self.folder, self._omen())
        n = self.trainer.batch_num + 1
        if self._log is not None:
            # the loss of the minibatch that was refused, or of all of the update
            loss = self.policy.loss
            measures = self.measures if self.policy.is_whole_update else None
            self._log.update(
                LoggedUpdate(
                    batch_num=n,
                    seen=report.seen,
                    images=self._images,
                    loss=loss,
                    average=self.average,
                    rate=report.rate,
                    norm=measures.norm if measures else math.nan,
                    largest=measures.largest if measures else math.nan,
                    refused=True,
                )
            )
        if finding is not None:
            self._say(finding)
        self.policy.check(self.findings[-1] if self.findings else None)

    def _omen(self) -> str:
        """What was found lately that ends in numbers that are none."""
        lately = self.trainer.batch_num - OMEN
        for finding in reversed(self.findings):
            if isinstance(_SYMPTOM_OF.get(finding.name), Exploding | ActivationRange) and finding.batch_num > lately:
                return f". Before that: {finding.text}"
        return ""

    def _updated(self, report: StepReport) -> None:
        trainer, measures, plan = self.trainer, self.measures, self.trainer.network.plan
        n, loss = trainer.batch_num, sum(self._losses) / max(1, len(self._losses))
        self.average = next_average(self.average, loss)
        if self.history.updates >= SETTLED:
            first, lowest = self._averages
            self._averages = (self.average if math.isnan(first) else first, min(self.average, lowest))
        gradient = measures.gradient
        rows = measures.rows()
        look = Look(
            plan=plan,
            batch_num=n,
            seen=trainer.seen,
            rate=report.rate,
            loss=loss,
            norm=measures.norm,
            past=self.history.past,
            gradient=gradient,
            pull=measures.pull(report.rate),
            fresh=self._fresh,
            figures=rows,
            overlap=self.overlaps.mean if rows else None,
            average=self.average,
            averages=self._averages,
        )
        now = perf_counter()
        if self._log is not None:
            self._log.update(
                LoggedUpdate(
                    batch_num=n,
                    seen=trainer.seen,
                    images=len(self._losses) * self._images,
                    loss=loss,
                    average=self.average,
                    rate=report.rate,
                    norm=measures.norm,
                    largest=measures.largest,
                    seconds=now - self._began,
                    waited=self._waited,
                    layers=as_lists(plan, {**rows, "gradient": gradient}) if rows else {},
                )
            )
        self._began, self._waited = now, 0.0
        for finding in self.history.findings(look):
            self._say(finding)
        if self.policy.loss_history.gave_up:
            self.policy.loss_history.gave_up = False
            self._say(self.policy.loss_history.symptom.finding(plan, n, None, self._stays(loss)))

    @property
    def _images(self) -> int:
        """Of the minibatch; with `dynamic_minibatch` they are not [net]'s."""
        return len(self._kept[-1].x_BCHW) * self.trainer.process_group.world_size

    def judge(self, batch_num: int, mean: float) -> None:
        """Note the mean average precision, 0 to 1, after an update."""
        if self._log is not None:
            self._log.map(LoggedMap(batch_num=batch_num, mean=mean))

    def _stays(self, loss: float) -> str:
        spikes = self.policy.loss_history.symptom.in_a_row
        return f"the loss stays at {loss:.4g} after {spikes} refused minibatches: it is not the images, they pass again"

    def _check_labels(self, n: int) -> None:
        kept, plan = self._kept[-1], self.trainer.network.plan
        for image, text in self.labels.found(plan, kept):
            if self.history.may_say(self.labels, kept.seen + image, n):
                paths = kept.paths[image] if image < len(kept.paths) else ()
                self._say(replace(self.labels.finding(plan, n, None, text), paths=paths))

    def _say(self, finding: Finding) -> None:
        self.findings.append(finding)
        if self._log is not None:
            self._log.finding(finding)
        if self.tell is not None:
            self.tell(finding)
