"""A training in progress: its updates, each followed by validation, chart and checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from darkpy.diagnostics.monitor.policy import BadRunError
from darkpy.diagnostics.monitor.run_log import LoggedMap
from darkpy.errors import DarkpyError, WeightsError
from darkpy.finding import Finding, count_text
from darkpy.training.callbacks import Callbacks
from darkpy.training.checkpoints import NO_MAP, Checkpoints, Resume, base_name
from darkpy.training.loop import run_updates
from darkpy.training.reports import CheckpointReport, UpdateReport, ValidationReport
from darkpy.training.setup import TrainingSetup
from darkpy.training.trainer import Trainer

if TYPE_CHECKING:
    from darkpy.diagnostics.monitor.healthy_weights import HealthyWeights
    from darkpy.diagnostics.monitor.monitor import Monitor
    from darkpy.diagnostics.report.chart import Chart
    from darkpy.training.validation import Validation


@dataclass(kw_only=True)
class TrainingRun:
    """A training in progress, as `on_start` gets it.

    folder: of the weights, the log and the chart. resume: the resume file it continues from, None for a new run.
    changes: settings that are no longer those of the resume file.
    map_interval: updates between two validations; 0 without.
    """

    trainer: Trainer
    setup: TrainingSetup
    folder: Path
    resume: Resume | None = None
    changes: tuple[str, ...] = ()
    map_interval: int = 0
    stop_reason: str = ""
    stop_code: int = 0
    is_finished: bool = False

    @property
    def base(self) -> str:
        """Start of the names of its files."""
        return base_name(self.trainer.network.plan.file)

    @property
    def is_main(self) -> bool:
        """True on the rank that writes files; the only one unless several processes train together."""
        return self.trainer.process_group.is_main

    def stop(self, reason: str = "stopped by a callback", *, code: int = 1) -> None:
        """End the run after the current update and save the weights; also from a thread or a signal handler.

        code: above 0; the largest code of all ranks becomes the result's `stop_code`.
        """
        self.stop_reason, self.stop_code = reason, code

    def finish(self, reason: str) -> None:
        """End the run successfully after the current update: with its final weights, and code 0."""
        self.stop_reason, self.is_finished = reason, True


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingResult:
    """End of a training.

    loss, average_loss: of the last update and over the last updates, NaN if none was made.
    map: mean average precision of the last validation, best_map: the best of the whole run; None without any.
    weights: the file with the final weights; checkpoints: all weight files written, each once. Only on the main rank.
    log, chart: files, None if not written. findings: of the cfg, the checks before the run, and the monitor.
    best_value: the best value of the metric of the best weights, None without an evaluation; of a loss the negative.
    stop_reason: empty, and stop_code 0, if the run reached [net] max_batches. A run that ended early because nothing
        improved (`patience`) has a reason, and stop_code 0.
    """

    batch_num: int
    seen: int
    loss: float
    average_loss: float
    map: float | None
    best_map: float | None
    best_value: float | None
    weights: Path | None
    checkpoints: tuple[Path, ...]
    log: Path | None
    chart: Path | None
    findings: tuple[Finding, ...]
    stop_reason: str
    stop_code: int


class TrainingSession:
    """The updates of a run, each followed by validation, chart and checkpoints as due.

    checkpoints: None on other ranks than the main one. patience: evaluations without improvement that end the run; 0
        for any number.
    """

    def __init__(
        self,
        run: TrainingRun,
        events: Callbacks,
        checkpoints: Checkpoints | None,
        *,
        monitor: Monitor | None,
        validation: Validation | None,
        patience: int,
        chart: Chart | None,
    ) -> None:
        self.run, self.events, self.checkpoints = run, events, checkpoints
        self.monitor, self.validation, self.chart = monitor, validation, chart
        self.patience = patience
        self.last_report: UpdateReport | None = None
        self.mean: float | None = None
        self._written: dict[Path, None] = {}  # in this order
        self._saved_at = run.trainer.batch_num  # update of the newest weights on the disk
        self._has_chart_failed = False
        self.healthy: HealthyWeights | None = None
        if monitor is not None and run.is_main:
            from darkpy.diagnostics.monitor.healthy_weights import HEALTHY_SUFFIX, HealthyWeights

            self.healthy = HealthyWeights(run.trainer, monitor, run.folder / f"{run.base}{HEALTHY_SUFFIX}")

    def train(self, *, auto_batch: bool) -> None:
        """Make every update, validate and save when due, and save once more at the end, also after an exception."""
        run = self.run
        self.events.emit("on_start", run)
        try:
            self._finish_stale()  # a resumed run may have ended so
            updates = run_updates(run.trainer, run.setup.source, auto_batch=auto_batch)
            while not self._agree_to_stop() and (report := next(updates, None)) is not None:
                self.last_report = report
                self._follow(report)
            self.events.count_files()
            self._end_diverged()
        except BaseException as error:
            if not isinstance(error, WeightsError) and getattr(error, "is_savable", True):
                self._save_interrupted()
            self._keep_healthy(error)
            raise
        if run.stop_code:
            self._keep_healthy(None)
        self._save(run.setup.intervals.last if run.stop_code else run.setup.intervals.final, is_last=True)

    def _agree_to_stop(self) -> bool:
        """Return True on all ranks if one of them stops or finishes the run. The largest stop code counts."""
        run = self.run
        if code := run.trainer.process_group.agree(2 * run.stop_code + run.is_finished):
            reason = run.stop_reason or "stopped by another rank"
            run.finish(reason) if code == 1 else run.stop(reason, code=code // 2)
        return bool(code)

    def _finish_stale(self) -> None:
        """Finish the run early if the last `patience` evaluations have not improved the metric."""
        checkpoints, validation = self.checkpoints, self.validation
        if checkpoints is None or validation is None or not 0 < self.patience <= checkpoints.best_by.stale:
            return
        best, n = checkpoints.best_by, self.run.trainer.batch_num
        if n == self.run.trainer.net.max_batches:
            return
        value = f"{validation.metric.format(best.value)} of update {best.batch_num}"
        text = f"early stop at update {n}: {count_text(best.stale, 'evaluation')} without improvement"
        self.run.finish(f"{text}; {value} is in {checkpoints.best_path}" if best.batch_num else text)

    def result(self) -> TrainingResult:
        run, report, checkpoints = self.run, self.last_report, self.checkpoints
        best = checkpoints.best if checkpoints is not None else NO_MAP
        best_value = checkpoints.best_by.value if checkpoints is not None else -math.inf
        return TrainingResult(
            batch_num=run.trainer.batch_num,
            seen=run.trainer.seen,
            loss=report.loss if report is not None else math.nan,
            average_loss=run.trainer.average_loss,
            map=self.mean,
            best_map=best if best != NO_MAP else None,
            best_value=best_value if math.isfinite(best_value) else None,
            weights=next(reversed(self._written), None),
            checkpoints=tuple(self._written),
            log=self.monitor.log_path if self.monitor is not None else None,
            chart=self.chart.path if self.chart is not None else None,
            findings=tuple(self.events.findings),
            stop_reason=run.stop_reason,
            stop_code=run.stop_code,
        )

    def _follow(self, report: UpdateReport) -> None:
        self.events.warn_of_files(report)
        self.events.emit("on_update", report)
        self._draw(lambda chart: chart(report))
        if self.healthy is not None:
            self.healthy.follow(report)
        if self.validation is not None and self.validation.is_due(report):
            self._validate(self.validation, report)
            self._finish_stale()
        if names := self.run.setup.intervals.names_due(report):
            if self.healthy is not None and self.healthy.diverging_since is not None:
                self.events.warn(f"update {report.batch_num}: {self.healthy.text}")
            try:
                self._save(*names)
            except DarkpyError as error:
                if not isinstance(error.__cause__, OSError):
                    raise
                self.events.warn(f"{error.message}: the training continues, and tries again at its next checkpoint")

    def _draw(self, add: Callable[[Chart], None]) -> None:
        """Add something to the chart; warn once if it cannot be drawn."""
        try:
            if self.chart is not None:
                add(self.chart)
        except (DarkpyError, OSError, ValueError, MemoryError) as error:
            if not self._has_chart_failed:
                self.events.warn(f"{error}: the training continues without its chart")
            self._has_chart_failed = True

    def _validate(self, validation: Validation, update: UpdateReport) -> None:
        """Evaluate the weights and, if there are any, their averages; the better of the two may be the best so far.

        Differs: AlexeyAB's program does not evaluate the averages.
        """
        evaluation = validation.evaluate(update)
        if evaluation is None:
            return
        checkpoints, ema, n = self.checkpoints, self.run.trainer.ema, update.batch_num
        averaged = None
        if ema is not None and ema.arrays:
            with ema.in_place():
                averaged = validation.evaluate(update)
        use_ema = averaged is not None and averaged.value > evaluation.value
        best_path, ema_mean = None, averaged.mean if averaged is not None and not math.isnan(averaged.mean) else None
        value = averaged.value if averaged is not None and use_ema else evaluation.value
        if checkpoints is not None:
            best_path = checkpoints.save_best(value, use_ema=use_ema)
        if (result := evaluation.result) is not None:
            self.mean = evaluation.mean
            if checkpoints is not None:
                checkpoints.best = max(checkpoints.best, evaluation.mean, ema_mean or 0.0)
        if not math.isnan(evaluation.mean):
            ema_logged = math.nan if ema_mean is None else ema_mean
            judged = LoggedMap(batch_num=n, mean=evaluation.mean, ema=ema_logged, name=evaluation.name)
            if self.monitor is not None:
                self.monitor.log_map(judged)
            self._draw(lambda chart: chart.judge(judged))
        report = ValidationReport(
            batch_num=n,
            mean=evaluation.mean,
            iou_thresh=result.iou_thresh if result is not None else math.nan,
            is_best=best_path is not None,
            result=result,
            overlaps=evaluation.overlaps,
            ema_mean=ema_mean,
            metric=validation.metric.label,
            value=validation.metric.format(value),
            is_ema_best=best_path is not None and use_ema,
            stale=checkpoints.best_by.stale if checkpoints is not None else 0,
        )
        self.events.emit("on_validation", report)
        if best_path is not None:
            self._report_checkpoint((best_path,))

    def _save(self, *names: str, is_last: bool = False) -> None:
        """Write the weights under these names. Raises: DarkpyError when they cannot be written or are not finite."""
        if self.checkpoints is not None:
            paths = self.checkpoints.save(*names)
            self._saved_at = self.run.trainer.batch_num
            self._report_checkpoint(paths, is_last=is_last)

    def _report_checkpoint(self, paths: tuple[Path, ...], *, is_last: bool = False) -> None:
        self._written.update(dict.fromkeys(paths))
        batch_num = self.run.trainer.batch_num
        self.events.emit("on_checkpoint", CheckpointReport(batch_num=batch_num, paths=paths, is_last=is_last))

    def _end_diverged(self) -> None:
        """Raises: BadRunError, with the weights saved, when the run ends while its loss diverges."""
        run = self.run
        if self.healthy is not None and self.healthy.diverging_since is not None and not run.stop_code:
            self._save(run.setup.intervals.last, is_last=True)
            text = f"update {run.trainer.batch_num}, the last one: {self.healthy.text}"
            raise BadRunError(text, hint=None, is_savable=True)

    def _keep_healthy(self, error: BaseException | None) -> None:
        """Write the healthy weights of a failed run, and name the command that continues from them."""
        from darkpy.diagnostics.rescue import RUINING_FINDINGS, first_remedies, rescue_command

        findings = self.monitor.findings if self.monitor is not None else []
        bad_run = error if isinstance(error, BadRunError) else None
        if self.healthy is None or not (bad_run or any(finding.name in RUINING_FINDINGS for finding in findings)):
            return
        with suppress(Exception):
            has_file = self.healthy.write()
            remedies = first_remedies(findings)
            if bad_run is not None and has_file and remedies and remedies[0][1].edits:
                command = rescue_command(self.run.trainer.network.plan.file, self.run.setup.data.path)
                bad_run.hint = f"{command} continues from {self.healthy.path}, with {remedies[0][1]}"

    def _save_interrupted(self) -> None:
        """Save the weights of the last update after an exception; an error here must not hide that exception."""
        trainer = self.run.trainer
        with suppress(Exception):
            if not trainer.rewind():
                self.events.warn("interrupted while the weights were changed: they are not saved")
            elif trainer.batch_num != self._saved_at:
                try:
                    self._save(self.run.setup.intervals.last, is_last=True)
                except DarkpyError as error:
                    self.events.warn(error.message)
