"""Monitor of a training: measures every step, refuses those that would harm the weights, reports what is wrong.

It changes no number of a healthy run. Every update costs a few small sums; the layers are measured in each of the first
updates, where most runs die, then at doubling distances, and in one of a hundred. Measured values stay on the device
until the one moment of an update at which its norm is fetched.
"""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

from darkpy.deprecation import renamed_arguments
from darkpy.diagnostics.monitor.advice import Evidence, advise
from darkpy.diagnostics.monitor.finding_history import History, as_lists, run_of
from darkpy.diagnostics.monitor.label_symptoms import AnchorOverlaps, BadLabel, RecordedBatch
from darkpy.diagnostics.monitor.loss_symptoms import Diverging, LossHistory, LossSpike, StandingLoss
from darkpy.diagnostics.monitor.metrics import UpdateMetrics
from darkpy.diagnostics.monitor.policy import UpdatePolicy
from darkpy.diagnostics.monitor.run_log import LoggedMap, LogWriter, log_path
from darkpy.diagnostics.monitor.symptoms import (
    ActivationRange,
    AnchorMismatch,
    ClampSaturated,
    DeadUnits,
    Exploding,
    FrozenNorm,
    ObservedUpdate,
    OverfitHead,
    StuckRate,
    Symptom,
    Vanishing,
    VarianceCollapse,
)
from darkpy.files import make_folder
from darkpy.finding import Finding
from darkpy.layers.loss import Loss
from darkpy.training.checkpoints import base_name
from darkpy.training.reports import StepReport, UpdateReport, next_average
from darkpy.training.step_guard import StepGuard
from darkpy.training.trainer import Trainer

DEFAULT_SYMPTOMS: tuple[Symptom, ...] = (
    AnchorMismatch(),
    Diverging(),
    StandingLoss(),
    StuckRate(),
    Exploding(),
    Vanishing(),
    OverfitHead(),
    ClampSaturated(),
    ActivationRange(),
    VarianceCollapse(),
    DeadUnits(),
)
LAYERS_EVERY_UPDATES = 100
"""Updates between two measurements of the layers: at half a step each for a small network, 0.5 % of the run time."""
LAYERS_FIRST_UPDATES = 10
"""Updates at the start of a run in which the layers are always measured, and later after 16, 32, 64, ... of them."""
AVERAGE_SETTLED_UPDATES = 10
"""Updates after which the average loss depends on more than the first minibatch."""
MAX_BAD_UPDATES = 100
"""Refused updates in a row that end the run: unusable images do not fill so many batches in a row."""
KEPT_LOSSES = 300
PRECURSOR_UPDATES = 100
"""Updates for which an explosion, or very large outputs, may be the cause of later non-finite values."""
_SYMPTOM_OF = {symptom.name: symptom for symptom in DEFAULT_SYMPTOMS}

FindingListener = Callable[[Finding], None]


class Monitor(StepGuard):
    """Watches the trainer that it is given to: `Trainer(network, monitor=Monitor(folder))`.

    findings: all findings so far. listeners: functions called with every finding.
    folder: of the run, for its log and evidence, made if it does not exist; None writes neither.
    symptoms: what to look for, with their thresholds. spike: thresholds of a refused loss.
    every, first: updates between two measurements of the layers, and at the start, where all are measured.
    on_finding: the first of the listeners.
    check_labels: False where the loader has checked the labels already, as darkpy's does.
    Raises: BadRunError from the trainer's step, when `max_bad_updates` in a row were refused, or when an array of the
        network is non-finite.
    """

    needs_snapshots = True

    @renamed_arguments(tell="on_finding")
    def __init__(
        self,
        folder: Path | str | Trainer | None = None,
        run_folder: Path | str | None = None,
        *,
        symptoms: Sequence[Symptom] = DEFAULT_SYMPTOMS,
        spike: LossSpike | None = None,
        max_bad_updates: int = MAX_BAD_UPDATES,
        every: int = LAYERS_EVERY_UPDATES,
        first: int = LAYERS_FIRST_UPDATES,
        on_finding: FindingListener | None = None,
        check_labels: bool = True,
    ) -> None:
        trainer = folder if isinstance(folder, Trainer) else None
        chosen = run_folder if isinstance(folder, Trainer) else folder
        self.folder = None if chosen is None else Path(chosen)
        self.symptoms, self.max_bad_updates = symptoms, max_bad_updates
        self.every, self.first, self.check_labels = every, first, check_labels
        self.listeners: list[FindingListener] = [on_finding] if on_finding is not None else []
        self.findings: list[Finding] = []
        self.loss_history = LossHistory(spike or LossSpike())
        if trainer is not None:  # the signature of an earlier release
            text = "Monitor(trainer, folder) is now Trainer(network, monitor=Monitor(folder))"
            warnings.warn(text, DeprecationWarning, stacklevel=2)
            trainer.monitor = self
            self.attach(trainer)

    def attach(self, trainer: Trainer) -> None:
        """Open the run's log. Raises: DarkpyError when it cannot be written."""
        self.trainer = trainer
        plan = trainer.network.plan
        self.average = math.nan  # the trainer's, when the first minibatch comes
        self.history = History(plan, self.symptoms)
        self.policy = UpdatePolicy(trainer, self.history, self.loss_history, self.max_bad_updates)
        self.metrics, self.overlaps, self.labels = UpdateMetrics(trainer), AnchorOverlaps(), BadLabel()
        self.averages = (math.nan, math.inf)
        """The first average loss over more than a minibatch, and the lowest."""
        self.first_update: tuple[int, float] | None = None
        """Number and loss of the first update that was monitored, also before the run was resumed."""
        self.evidence = Evidence(plan, self.overlaps.sizes_frac)
        self._last_losses: deque[float] = deque(maxlen=max(KEPT_LOSSES, 2 * plan.nodes[-1].shape.outputs))
        self._recorded: list[RecordedBatch] = []  # minibatches of the current update that were accepted
        self._losses: list[float] = []  # of these
        self._objectness: tuple[float, float] = (0.0, 0.0)  # sum, and objects, of the last minibatch
        self._new_layers: frozenset[int] = frozenset()
        self._has_begun = False
        self.log_path: Path | None = None
        self._log: LogWriter | None = None
        if self.folder is not None and trainer.process_group.is_main:
            make_folder(self.folder)
            self.log_path = log_path(self.folder, base_name(plan.file).strip("<>") or "run")
            self._log = LogWriter(self.log_path)
        self._began = self._ended = perf_counter()
        self._waited = 0.0

    def state(self) -> Mapping[str, Sequence[float]]:
        averages = self.averages if math.isfinite(self.averages[1]) else ()
        return {**self.loss_history.memory(), "averages": averages, "first_update": self.first_update or ()}

    def load_state(self, state: Mapping[str, Sequence[float]]) -> None:
        match state.get("averages"), state.get("first_update"):
            case [first, lowest], [n, loss]:
                self.averages, self.first_update = (first, lowest), (int(n), loss)
            case _, [n, loss]:
                self.first_update = (int(n), loss)
        self.loss_history = self.policy.loss_history = LossHistory.going_on(self.loss_history.symptom, state)

    def begin(self, x_BCHW: Tensor, truth: Tensor, paths: Sequence[Sequence[str]]) -> None:
        self._waited += perf_counter() - self._ended
        trainer, net = self.trainer, self.trainer.net
        if not self._has_begun:
            self._has_begun, self.average = True, trainer.average_loss
            if self._log is not None:
                self._log.begin(run_of(trainer.network.plan, batch_num=trainer.batch_num, seen=trainer.seen))
            if (unset := FrozenNorm().find(trainer.network, trainer.batch_num + 1)) is not None:
                self._emit(unset)
        n = trainer.batch_num + 1
        update_start = trainer.batch_num * net.minibatch * net.subdivisions
        self._recorded = [batch for batch in self._recorded if update_start <= batch.seen < trainer.seen]
        self._losses = self._losses[: len(self._recorded)]
        self._recorded.append(RecordedBatch(x_BCHW, truth, tuple(map(tuple, paths)), trainer.seen))
        completes_update = trainer.seen // net.minibatch % net.subdivisions == net.subdivisions - 1
        updates = self.history.updates
        is_doubled = updates > LAYERS_FIRST_UPDATES and updates & (updates - 1) == 0
        if completes_update and (updates < self.first or is_doubled or n % self.every == 0):
            self.metrics.look(x_BCHW)
            self.overlaps.add(trainer.network.plan, truth)
        if self.check_labels and trainer.process_group.is_main and truth.device.type == "cpu":
            batch, plan = self._recorded[-1], trainer.network.plan
            for image, message in self.labels.found(plan, batch):
                if self.history.may_report(self.labels, batch.seen + image, n):
                    image_paths = batch.paths[image] if image < len(batch.paths) else ()
                    self._emit(replace(self.labels.finding(plan, n, None, message), paths=image_paths))

    def accept_losses(self, losses: Sequence[Loss]) -> bool:
        # AlexeyAB's heads drop non-finite deltas, and their cost is still finite: no_obj shows it
        values = [value.double() for loss in losses for value in (loss.cost, loss.report.get("no_obj", loss.cost))]
        heads = [loss.report for loss in losses if {"obj", "count"} <= loss.report.keys()]
        objects = [report[name].double() for name in ("obj", "count") for report in heads]
        fetched: list[float] = torch.stack([*values, *objects]).tolist()
        costs, objects_seen = fetched[: len(values)], fetched[len(values) :]
        self._objectness = (sum(objects_seen[: len(heads)]), sum(objects_seen[len(heads) :]))
        loss = sum(costs[::2]) / len(losses) / self._minibatch_images
        accepted = self.policy.accept_loss(loss, is_finite=all(map(math.isfinite, costs)))
        if accepted:
            self._losses.append(loss)
        return accepted

    def accept_update(self, norm: Tensor) -> bool:
        groups = self.trainer.optimizer.active_groups
        learning = {group["node"].index for group in groups if any(param.grad is not None for param in group["params"])}
        self._new_layers = self.history.take_part(learning)
        wants_layers = self.history.wants_layers if not self._new_layers else lambda norm, max_step_ratio: True
        self.metrics.fetch(norm, max((group["lr"] for group in groups), default=0.0), wants_layers)
        return self.policy.accept_update(
            has_finite_gradients=self.metrics.has_finite_gradients, has_finite_arrays=self.metrics.has_finite_arrays
        )

    def end(self, report: StepReport) -> None:
        if report.refused:
            self._handle_refused(report)
        elif report.updated:
            self._handle_update(report)
        self.metrics.end()
        self._ended = perf_counter()

    def log_map(self, validation: LoggedMap) -> None:
        """Add a validation to the log."""
        if self._log is not None:
            self._log.map(validation)

    def _handle_refused(self, report: StepReport) -> None:
        precursor = ""
        for finding in reversed(self.findings):
            is_recent = finding.batch_num > self.trainer.batch_num - PRECURSOR_UPDATES
            if is_recent and isinstance(_SYMPTOM_OF.get(finding.name), Exploding | ActivationRange):
                precursor = f". Before that: {finding.text}"
                break
        refused = self.policy.finding(self._recorded, self.folder, precursor)
        if self._log is not None:
            # the loss is that of the refused minibatch, or of the whole update
            metrics = self.metrics if self.policy.is_whole_update else None
            update = UpdateReport(
                batch_num=self.trainer.batch_num + 1,
                seen=report.seen,
                images=self._minibatch_images,
                loss=self.policy.loss,
                average=self.average,
                rate=report.rate,
                norm=metrics.norm if metrics else math.nan,
                largest=metrics.largest if metrics else math.nan,
                refused=True,
            )
            self._log.update(update)
        if refused is not None:
            self._emit(refused)
        self.policy.check(self.findings[-1] if self.findings else None)

    def _handle_update(self, report: StepReport) -> None:
        trainer, metrics, plan = self.trainer, self.metrics, self.trainer.network.plan
        loss = sum(self._losses) / max(1, len(self._losses))
        self.average = next_average(self.average, loss)
        if trainer.batch_num > trainer.net.burn_in:
            self._last_losses.append(loss)
        self.first_update = self.first_update or (trainer.batch_num, loss)
        if trainer.batch_num - self.first_update[0] >= AVERAGE_SETTLED_UPDATES:
            first, lowest = self.averages
            self.averages = (self.average if math.isnan(first) else first, min(self.average, lowest))
        gradient = metrics.gradient
        rows = metrics.rows()
        now = perf_counter()
        self.update = update = ObservedUpdate(
            batch_num=trainer.batch_num,
            loss=loss,
            average=self.average,
            rate=report.rate,
            seen=trainer.seen,
            images=len(self._losses) * self._minibatch_images,
            seconds=now - self._began,
            waited=self._waited,
            norm=metrics.norm,
            largest=metrics.largest,
            layers=as_lists(plan, {**rows, "gradient": gradient}) if rows else {},
            plan=plan,
            past=self.history.past,
            gradient=gradient,
            step_ratio=metrics.step_ratio(report.rate),
            new_layers=self._new_layers,
            figures=rows,
            overlap=self.overlaps.mean if rows else None,
            averages=self.averages,
            clipped=metrics.clipped if gradient else 1.0,
            losses=tuple(self._last_losses) if rows else (),
            objectness=self._objectness[0] / self._objectness[1] if self._objectness[1] else math.nan,
        )
        self.evidence.add(update)
        if self._log is not None:
            self._log.update(update)
        self._began, self._waited = now, 0.0
        for finding in self.history.findings(update):
            self._emit(finding)
        if self.loss_history.gave_up:
            self.loss_history.gave_up = False
            symptom = self.loss_history.symptom
            message = (
                f"the loss stays at {loss:.4g} after {symptom.in_a_row} refused minibatches: the weights are the cause,"
                " not the images; minibatches are accepted again"
            )
            self._emit(symptom.finding(plan, trainer.batch_num, None, message))

    @property
    def _minibatch_images(self) -> int:
        """Images of the minibatch, on all ranks; with `dynamic_minibatch` they are not [net]'s."""
        return len(self._recorded[-1].x_BCHW) * self.trainer.process_group.world_size

    def _emit(self, finding: Finding) -> None:
        finding = advise(finding, self.evidence)
        self.findings.append(finding)
        if self._log is not None:
            self._log.finding(finding)
        for listener in self.listeners:
            listener(finding)
