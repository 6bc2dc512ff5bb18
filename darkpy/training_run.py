"""Train a network from Python: everything that `darkpy train` does, with callbacks in place of a screen.

class Progress:
    def on_start(self, run):
        self.run = run

    def on_update(self, report):
        print(report.batch_num, report.average)
        if report.average < 0.5:
            self.run.stop("the loss is low enough")

result = darkpy.train("my.cfg", "my.data", "darknet53.conv.74", callbacks=[Progress()])
print(result.batch_num, result.weights)
"""

from __future__ import annotations

import math
import os
import shlex
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from darkpy.build import make_plan
from darkpy.config.text import deduplicate
from darkpy.data.lists.text_files import read_data
from darkpy.data.loading.bad_files import BadLists
from darkpy.diagnostics.checks.weights import check_frozen_norms
from darkpy.diagnostics.monitor.policy import BadRunError
from darkpy.diagnostics.preflight import check_training
from darkpy.dialect import Dialect
from darkpy.distributed import joined, local_world
from darkpy.errors import ConfigError, DarkpyError, DarkpyWarning, WeightsError, explain_out_of_memory
from darkpy.finding import Finding, Severity
from darkpy.network import Network
from darkpy.ops.device import find_device
from darkpy.process import count_cpus
from darkpy.training.callbacks import Callbacks
from darkpy.training.checkpoints import NO_MAP, Checkpoints, Resume, base_name, find_resume
from darkpy.training.loop import run_updates
from darkpy.training.reports import CheckpointReport, UpdateReport, ValidationReport
from darkpy.training.run_lock import locked
from darkpy.training.setup import TrainingSetup, backup_folder, changed_settings, fingerprint, open_setup
from darkpy.training.trainer import Trainer

if TYPE_CHECKING:
    from darkpy.diagnostics.monitor.healthy_weights import HealthyWeights
    from darkpy.diagnostics.monitor.monitor import Monitor
    from darkpy.diagnostics.report.chart import Chart
    from darkpy.training.validation import Validation

MEMORY_HINT = "set larger subdivisions, or a smaller width and height, in [net]; or give a smaller --workers"
MAX_GPU_WORKERS = 8
"""Default limit of the processes that load images for a GPU."""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingResult:
    """End of a training.

    loss, average_loss: of the last update and over the last updates, NaN if none was made.
    map: mean average precision of the last validation, best_map: the best of the whole run; None without any.
    weights: the file with the final weights; checkpoints: all weight files written, each once. Only on the main rank.
    log, chart: files, None if not written. findings: of the cfg, the checks before the run, and the monitor.
    stop_reason: empty, and stop_code 0, if the run reached [net] max_batches.
    """

    batch_num: int
    seen: int
    loss: float
    average_loss: float
    map: float | None
    best_map: float | None
    weights: Path | None
    checkpoints: tuple[Path, ...]
    log: Path | None
    chart: Path | None
    findings: tuple[Finding, ...]
    stop_reason: str
    stop_code: int


def train(
    cfg: str | os.PathLike[str],
    data: str | os.PathLike[str],
    weights: str | os.PathLike[str] | None = None,
    *,
    dialect: Dialect | str | None = None,
    strict: bool = False,
    kind: str | None = None,
    device: str | int | torch.device | None = None,
    precision: str = "fp32",
    seed: int | None = None,
    clear: bool = False,
    auto_batch: bool = False,
    workers: int | None = None,
    draft: bool = False,
    monitor: Monitor | bool = True,
    max_bad_updates: int = 100,
    allow_empty: bool = False,
    overwrite: bool = False,
    rescue: bool = False,
    chart: str | os.PathLike[str] | bool = True,
    map_epochs: int = 0,
    iou_thresh: float = 0.5,
    thresh: float = 0.25,
    callbacks: Sequence[object] = (),
) -> TrainingResult:
    """Train a detector or classifier until [net] max_batches, or until a callback stops it.

    cfg, data: files. weights: what to start from; a checkpoint with its resume file continues that run exactly.
    dialect: "pjreddie" or "alexeyab", detected from the cfg by default. strict: cfg warnings become errors.
    kind: "detector" or "classifier" to refuse networks of the other kind.
    device: "cpu", "cuda:1", ...; by default a GPU if there is one. Under torchrun each process trains its part of the
        minibatch on its own GPU; without -gpus this is how to use several.
    precision: "fp32", or "bf16" for mixed precision.
    seed: of all random numbers, 0 by default; torch's global seed is set to it. A resumed run keeps its own.
    clear: start the schedule anew, as if the weights had seen no images.
    auto_batch: raise the subdivisions where a GPU's memory does not suffice.
    workers: processes that load images. draft: decode large JPEGs at reduced size, faster and less exactly.
    monitor: False makes every update unchecked; or a `darkpy.Monitor` with thresholds of your own.
    max_bad_updates: refused updates in a row that end the run with an error.
    allow_empty: train although no image has a usable object.
    overwrite: overwrite the final weights of a finished run of this name.
    rescue: continue a ruined run from its healthy weights, with the first remedy of its findings; see the note that
        `on_finding` gets. The cfg with the remedy is written beside the weights, as `BASE_rescueN.cfg`.
    chart: file of the chart of loss and mAP; True puts it beside the weights, False draws none.
    map_epochs: epochs between two validations on the .data file's `valid` list; 0 for none.
    iou_thresh, thresh: IoU above which a detection counts as correct; score above which it counts in precision, recall.
    callbacks: plain objects with any of these methods; of several ranks the main one calls all but on_start:
        on_start(run: TrainingRun) before the first update; keep `run` to call `run.stop()`;
        on_update(report: UpdateReport) after every update;
        on_validation(report: ValidationReport); on_checkpoint(report: CheckpointReport);
        on_finding(finding: Finding) for what is wrong with the cfg or the data, before on_start, and with the run;
        on_warning(message: str), for everything else, also before on_start.
        Without an on_warning, and for what is wrong before the run an on_finding, there are Python warnings.
    Raises: DarkpyError for unusable files or options, and when the run cannot continue (BadRunError from the monitor).
        Exceptions of callbacks end the run and are not caught. After any exception the weights of the last update are
        saved, unless they are ruined.
    """
    events = Callbacks(callbacks)
    device = find_device(device)
    with joined(device) as process_group, explain_out_of_memory("this training", MEMORY_HINT), ExitStack() as stack:
        events.is_main = process_group.is_main
        if auto_batch and not process_group.is_alone:
            raise DarkpyError("auto_batch (--fit) is for one device", hint="set subdivisions in [net]")
        with events.python_warnings():
            if rescue:
                from darkpy.diagnostics.rescue import prepare_rescue

                if weights is not None or clear:
                    hint = "give CFG and DATA alone"
                    raise DarkpyError("--rescue starts from the healthy weights of the ruined run", hint=hint)
                rescued = prepare_rescue(Path(cfg), Path(data), dialect)
                events.report(Finding(name="rescue", message=str(rescued), severity=Severity.NOTE))
                cfg, weights = rescued.cfg, rescued.weights
            torch.manual_seed(seed or 0)
            network = _load_network(Path(cfg), weights, dialect, device, strict=strict, events=events)
            if clear:
                network.header = network.header.with_seen(0)
            start = None if weights is None else Path(weights)
            resume = None if start is None or clear else find_resume(start, base_name(network.plan.file))
            if resume is not None and seed is not None and seed != resume.seed:
                events.warn(f"seed {seed} is ignored: the run continues with its own, {resume.seed}")
            seed = resume.seed if resume is not None else seed or 0
            setup = _open_setup(network, Path(data), kind, seed=seed, workers=workers, draft=draft)
            folder = backup_folder(setup.data)
            if process_group.is_main:
                stack.enter_context(locked(folder, base_name(network.plan.file)))
            seen, is_resumed = network.header.seen, resume is not None
            for finding in check_training(
                setup,
                seen=seen,
                folder=folder,
                weights=start,
                is_resumed=is_resumed,
                allow_empty=allow_empty,
                overwrite=overwrite,
            ):
                events.report(finding)
            for finding in check_frozen_norms(network.plan, network):
                raise DarkpyError(finding.text, hint="; or ".join(finding.hints))
            validation = None
            if map_epochs and process_group.is_main:
                from darkpy.training.validation import open_validation

                validation = open_validation(network, setup, map_epochs, thresh=thresh, iou_thresh=iou_thresh)
            guard = _open_monitor(monitor, folder, max_bad_updates, events)
            trainer = Trainer(network, seed=seed, precision=precision, monitor=guard, process_group=process_group)
            if resume is not None:
                resume.restore(trainer)
            if device.type == "cuda" and process_group.is_alone:
                from darkpy.training.auto_batch import fit_minibatch

                fit_minibatch(trainer, setup.largest, at_most=trainer.net.minibatch, auto_batch=auto_batch)
            settings = fingerprint(setup, trainer.network.plan, seed=seed, precision=precision, draft=draft)
            changes = changed_settings(resume.fingerprint, settings) if resume and resume.fingerprint else ()
            map_interval = validation.interval if validation is not None else 0
            run = TrainingRun(
                trainer=trainer,
                setup=setup,
                folder=folder,
                resume=resume,
                changes=changes,
                map_interval=map_interval,
            )
            drawing = _open_chart(run, chart, guard) if run.is_main else None
            checkpoints = None
            if run.is_main:
                checkpoints = Checkpoints(trainer, folder, setup.intervals, resume=resume, fingerprint=settings)
        session = _Session(run, events, checkpoints, monitor=guard, validation=validation, chart=drawing)
        try:
            session.train(auto_batch=auto_batch)
        finally:
            if guard is not None:
                guard.listeners.remove(events.finding)
        return session.result()


class _Session:
    """The updates of a run, and what follows each of them: validation, chart and checkpoints.

    checkpoints: None on other ranks than the main one.
    """

    def __init__(
        self,
        run: TrainingRun,
        events: Callbacks,
        checkpoints: Checkpoints | None,
        *,
        monitor: Monitor | None,
        validation: Validation | None,
        chart: Chart | None,
    ) -> None:
        self.run, self.events, self.checkpoints = run, events, checkpoints
        self.monitor, self.validation, self.chart = monitor, validation, chart
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
            for report in run_updates(run.trainer, run.setup.source, auto_batch=auto_batch):
                self.last_report = report
                self._follow(report)
                if stop_code := run.trainer.process_group.agree(run.stop_code):
                    run.stop(run.stop_reason or "stopped by another rank", code=stop_code)
                    break
            self._end_diverged()
        except BaseException as error:
            if not isinstance(error, WeightsError) and getattr(error, "is_savable", True):
                self._save_interrupted()
            self._keep_healthy(error)
            raise
        if run.stop_code:
            self._keep_healthy(None)
        self._save(run.setup.intervals.last if run.stop_code else run.setup.intervals.final, is_last=True)

    def result(self) -> TrainingResult:
        run, report, checkpoints = self.run, self.last_report, self.checkpoints
        best = checkpoints.best if checkpoints is not None else NO_MAP
        return TrainingResult(
            batch_num=run.trainer.batch_num,
            seen=run.trainer.seen,
            loss=report.loss if report is not None else math.nan,
            average_loss=run.trainer.average_loss,
            map=self.mean,
            best_map=best if best != NO_MAP else None,
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
            self._validate(self.validation, report.batch_num)
        if names := self.run.setup.intervals.names_due(report):
            if self.healthy is not None and self.healthy.diverging_since is not None:
                self.events.warn(f"update {report.batch_num}: {self.healthy.text}")
            try:
                self._save(*names)
            except DarkpyError as error:
                if not isinstance(error.__cause__, OSError):
                    raise
                self.events.warn(f"{error.message}: the training goes on, and tries again at its next checkpoint")

    def _draw(self, add: Callable[[Chart], None]) -> None:
        """Add something to the chart; one that cannot be drawn is warned of once."""
        try:
            if self.chart is not None:
                add(self.chart)
        except (DarkpyError, OSError, ValueError, MemoryError) as error:
            if not self._has_chart_failed:
                self.events.warn(f"{error}: the training goes on without its chart")
            self._has_chart_failed = True

    def _validate(self, validation: Validation, batch_num: int) -> None:
        result = validation.evaluate()
        if result is None:
            return
        self.mean = mean = result.mean
        best_path = self.checkpoints.save_best(mean) if self.checkpoints is not None else None
        if self.monitor is not None:
            self.monitor.log_map(batch_num, mean)
        self._draw(lambda chart: chart.judge(batch_num, mean))
        iou_thresh, is_best = validation.iou_thresh, best_path is not None
        report = ValidationReport(batch_num=batch_num, mean=mean, iou_thresh=iou_thresh, is_best=is_best, result=result)
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
        """Write the healthy weights of a run that ends badly, and name the command that goes on from them."""
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
                bad_run.hint = f"{command} goes on from {self.healthy.path}, with {remedies[0][1]}"

    def _save_interrupted(self) -> None:
        """Save the weights of the last update after an exception; what fails here must not hide that exception."""
        trainer = self.run.trainer
        with suppress(Exception):
            if not trainer.rewind():
                self.events.warn("interrupted while the weights were changed: they are not saved")
            elif trainer.batch_num != self._saved_at:
                try:
                    self._save(self.run.setup.intervals.last, is_last=True)
                except DarkpyError as error:
                    self.events.warn(error.message)


def _load_network(
    cfg: Path,
    weights: str | os.PathLike[str] | None,
    dialect: Dialect | str | None,
    device: torch.device,
    *,
    strict: bool,
    events: Callbacks,
) -> Network:
    try:
        plan = make_plan(cfg, dialect, strict=strict, weights=weights)
    except ConfigError:
        is_data_file = False
        with suppress(DarkpyError):
            is_data_file = bool(read_data(cfg).entries)
        if is_data_file:
            hint = "the order is CFG DATA for darkpy train, DATA CFG for darknet's commands"
            raise DarkpyError(f"{cfg} is a .data file where the cfg should be", hint=hint) from None
        raise
    for finding in deduplicate(plan.warnings):
        events.report(finding)
    network = Network(plan)
    if weights is not None:
        network.load_weights(weights, allow_partial=True)
    network.initialize()
    return network.to(device)


def _open_setup(
    network: Network, data: Path, kind: str | None, *, seed: int, workers: int | None, draft: bool
) -> TrainingSetup:
    is_detector = bool(network.heads)
    if kind is not None and is_detector != (kind == "detector"):
        other = "classifier" if kind == "detector" else "detector"
        raise DarkpyError(f"{network.plan.file} is no {kind}", hint=f"darkpy {other} train, or darkpy train for both")
    if workers is None:
        # beside a GPU as many as there are cores; beside a CPU one loads while the others compute
        limit = MAX_GPU_WORKERS if network.device.type == "cuda" else 1
        workers = min(limit, max(count_cpus() // local_world() - 1, 0))
    bad = BadLists(Path())
    return open_setup(network.plan, read_data(data), seed=seed, workers=workers, bad=bad, draft=draft)


def _open_monitor(monitor: Monitor | bool, folder: Path, max_bad_updates: int, events: Callbacks) -> Monitor | None:
    if monitor is False:
        return None
    if monitor is True:
        from darkpy.diagnostics.monitor.monitor import Monitor

        # darkpy's loader has checked the labels
        monitor = Monitor(folder, max_bad_updates=max_bad_updates, check_labels=False)
    monitor.listeners.append(events.finding)
    return monitor


def _open_chart(run: TrainingRun, target: str | os.PathLike[str] | bool, monitor: Monitor | None) -> Chart | None:
    """Return the chart; that of a resumed run starts with the updates that are in the run's log."""
    if target is False:
        return None
    from darkpy.diagnostics.monitor.run_log import read_log
    from darkpy.diagnostics.report.chart import Chart

    path = run.folder / f"chart_{run.base}.png" if target is True else Path(target)
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        hint = f"mkdir {shlex.quote(str(path.parent))}" if not path.parent.exists() else None
        raise DarkpyError(f"{path}: the chart cannot be written: {error.strerror or error}", hint=hint) from error
    history = None
    if monitor is not None and monitor.log_path is not None and run.trainer.batch_num:
        try:
            history = read_log(monitor.log_path)
        except DarkpyError as error:
            message = f"{error.message}: the chart begins with update {run.trainer.batch_num + 1}"
            warnings.warn(message, DarkpyWarning, stacklevel=2)
    return Chart(path, run.trainer.net, history)
