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
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from darkpy.build import make_plan
from darkpy.config.text import deduplicate
from darkpy.data.lists.text_files import read_data
from darkpy.data.loading.bad_files import BadLists
from darkpy.diagnostics.preflight import check_training
from darkpy.dialect import Dialect
from darkpy.distributed import joined, local_world
from darkpy.errors import ConfigError, DarkpyError, DarkpyWarning
from darkpy.finding import Finding
from darkpy.network import Network
from darkpy.ops.device import find_device
from darkpy.process import count_cpus
from darkpy.training.checkpoints import NO_MAP, Checkpoints, Resume, base_name, find_resume
from darkpy.training.loop import run_updates
from darkpy.training.reports import CheckpointReport, UpdateReport, ValidationReport
from darkpy.training.setup import TrainingSetup, backup_folder, open_setup
from darkpy.training.trainer import Trainer

if TYPE_CHECKING:
    from darkpy.diagnostics.monitor.monitor import Monitor
    from darkpy.diagnostics.report.chart import Chart
    from darkpy.training.validation import Validation

CALLBACK_EVENTS = ("on_start", "on_update", "on_validation", "on_checkpoint", "on_finding", "on_warning")
MAX_GPU_WORKERS = 8
"""Default limit of the processes that load images for a GPU."""
MAX_FILE_WARNINGS = 10
"""Unusable files that are warned of by name; bad.list and bad_label.list name all of them."""


@dataclass(kw_only=True)
class TrainingRun:
    """A training in progress, as `on_start` gets it.

    folder: of the weights, the log and the chart. resume: the resume file it continues from, None for a new run.
    """

    trainer: Trainer
    setup: TrainingSetup
    folder: Path
    resume: Resume | None = None
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
    seed: int = 0,
    clear: bool = False,
    auto_batch: bool = False,
    workers: int | None = None,
    draft: bool = False,
    monitor: Monitor | bool = True,
    max_bad_updates: int = 100,
    allow_empty: bool = False,
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
    precision: "fp32", or "bf16" for mixed precision. seed: of all random numbers; torch's global seed is set to it.
    clear: start the schedule anew, as if the weights had seen no images.
    auto_batch: raise the subdivisions where a GPU's memory does not suffice.
    workers: processes that load images. draft: decode large JPEGs at reduced size, faster and less exactly.
    monitor: False makes every update unchecked; or a `darkpy.Monitor` with thresholds of your own.
    max_bad_updates: refused updates in a row that end the run with an error.
    allow_empty: train although no image has a usable object.
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
    Raises: DarkpyError for unusable files or options, and when the run cannot continue (BadRunError from the monitor,
        with the last good weights saved). Exceptions of callbacks end the run and are not caught.
    """
    events = _Events(callbacks)
    device = find_device(device)
    with joined(device) as process_group:
        events.is_main = process_group.is_main
        if auto_batch and not process_group.is_alone:
            raise DarkpyError("auto_batch (--fit) is for one device", hint="set subdivisions in [net]")
        with events.python_warnings():
            torch.manual_seed(seed)
            network = _load_network(Path(cfg), weights, dialect, device, strict=strict, events=events)
            if clear:
                network.header = network.header.with_seen(0)
            start = None if weights is None else Path(weights)
            resume = None if start is None or clear else find_resume(start, base_name(network.plan.file))
            seed = resume.seed if resume else seed
            setup = _open_setup(network, Path(data), kind, seed=seed, workers=workers, draft=draft)
            folder = backup_folder(setup.data)
            seen, is_resumed = network.header.seen, resume is not None
            for finding in check_training(
                setup, seen=seen, folder=folder, weights=start, is_resumed=is_resumed, allow_empty=allow_empty
            ):
                events.report(finding)
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
            run = TrainingRun(trainer=trainer, setup=setup, folder=folder, resume=resume)
            drawing = _open_chart(run, chart, guard) if run.is_main else None
        try:
            return _run(run, events, guard, validation, drawing, auto_batch=auto_batch)
        finally:
            if guard is not None:
                guard.listeners.remove(events.finding)


def _run(
    run: TrainingRun,
    events: _Events,
    monitor: Monitor | None,
    validation: Validation | None,
    chart: Chart | None,
    *,
    auto_batch: bool,
) -> TrainingResult:
    """Make every update, validate and save when due, and save once more at the end."""
    trainer, process_group, intervals = run.trainer, run.trainer.process_group, run.setup.intervals
    best = run.resume.best if run.resume else NO_MAP
    checkpoints = Checkpoints(trainer, run.folder, intervals, best=best) if run.is_main else None
    written: dict[Path, None] = {}  # in this order
    report: UpdateReport | None = None
    mean: float | None = None

    def save(*paths: Path, is_last: bool = False) -> None:
        written.update(dict.fromkeys(paths))
        if paths:
            events.emit("on_checkpoint", CheckpointReport(batch_num=trainer.batch_num, paths=paths, is_last=is_last))

    events.emit("on_start", run)
    try:
        for report in run_updates(trainer, run.setup.source, auto_batch=auto_batch):
            events.warn_of_files(report)
            events.emit("on_update", report)
            if chart is not None:
                chart(report)
            if checkpoints is not None:
                if validation is not None and validation.is_due(report):
                    mean = validation.mean_average_precision()
                    best_path = checkpoints.save_best(mean)
                    if monitor is not None:
                        monitor.log_map(report.batch_num, mean)
                    if chart is not None:
                        chart.judge(report.batch_num, mean)
                    events.emit(
                        "on_validation",
                        ValidationReport(
                            batch_num=report.batch_num,
                            mean=mean,
                            iou_thresh=validation.iou_thresh,
                            is_best=best_path is not None,
                        ),
                    )
                    save(*([best_path] if best_path else ()))
                save(*checkpoints.save_due(report))
            if stop_code := process_group.agree(run.stop_code):
                run.stop(run.stop_reason or "stopped by another rank", code=stop_code)
                break
    except DarkpyError as error:
        # a BadRunError of the monitor after at least one good update
        if checkpoints is not None and getattr(error, "is_savable", False) and report is not None:
            save(*checkpoints.save(intervals.last), is_last=True)
        raise
    if checkpoints is not None:
        save(*checkpoints.save(intervals.last if run.stop_code else intervals.final), is_last=True)
    best = checkpoints.best if checkpoints is not None else NO_MAP
    return TrainingResult(
        batch_num=trainer.batch_num,
        seen=trainer.seen,
        loss=report.loss if report is not None else math.nan,
        average_loss=trainer.average_loss,
        map=mean,
        best_map=best if best != NO_MAP else None,
        weights=next(reversed(written), None),
        checkpoints=tuple(written),
        log=monitor.log_path if monitor is not None else None,
        chart=chart.path if chart is not None else None,
        findings=tuple(events.findings),
        stop_reason=run.stop_reason,
        stop_code=run.stop_code,
    )


class _Events:
    """The callbacks of a run: each event goes to the objects that have a method of its name."""

    def __init__(self, callbacks: Sequence[object]) -> None:
        self.callbacks, self.is_main = callbacks, True
        self.findings: list[Finding] = []
        self._warned_files: set[str] = set()
        for callback in callbacks:
            for name in dir(callback):
                if name.startswith("on_") and callable(getattr(callback, name)) and name not in CALLBACK_EVENTS:
                    near = get_close_matches(name, CALLBACK_EVENTS, 1)
                    hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(CALLBACK_EVENTS)}"
                    raise DarkpyError(f"{type(callback).__name__}.{name}: no event of a training", hint=hint)

    def emit(self, event: str, value: object) -> None:
        """Call the callbacks; on other ranks than the main one only for `on_start`."""
        for callback in self.callbacks if self.is_main or event == "on_start" else ():
            if (method := getattr(callback, event, None)) is not None:
                method(value)

    def finding(self, finding: Finding) -> None:
        self.findings.append(finding)
        self.emit("on_finding", finding)

    def report(self, finding: Finding) -> None:
        """Pass on a finding from before the run: without an `on_finding` it is a warning, unless it is a note."""
        self.finding(finding)
        if not finding.is_note and not self._has("on_finding"):
            self.warn(str(finding))

    def _has(self, event: str) -> bool:
        return any(hasattr(callback, event) for callback in self.callbacks)

    def warn(self, message: str) -> None:
        if self._has("on_warning"):
            self.emit("on_warning", message)
        elif self.is_main:
            warnings.warn(message, DarkpyWarning, stacklevel=3)

    def warn_of_files(self, report: UpdateReport) -> None:
        """Warn of each unusable file once, of the first ones by name."""
        for problem in (problem for batch in report.batches for problem in batch.problems):
            if problem.entry in self._warned_files:
                continue
            self._warned_files.add(problem.entry)
            if len(self._warned_files) <= MAX_FILE_WARNINGS:
                self.warn(problem.message)
            elif len(self._warned_files) == MAX_FILE_WARNINGS + 1:
                self.warn("more files cannot be used: bad.list and bad_label.list name all of them")

    @contextmanager
    def python_warnings(self) -> Iterator[None]:
        """Pass darkpy's Python warnings to `on_warning` for the time of a `with` block, if a callback has it."""
        if not self._has("on_warning"):
            yield
            return
        with warnings.catch_warnings():
            warnings.simplefilter("always", DarkpyWarning)
            show_others = warnings.showwarning

            def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
                if issubclass(category, DarkpyWarning):
                    self.warn(str(message))
                else:
                    show_others(message, category, *place, **more)

            warnings.showwarning = show
            yield


def _load_network(
    cfg: Path,
    weights: str | os.PathLike[str] | None,
    dialect: Dialect | str | None,
    device: torch.device,
    *,
    strict: bool,
    events: _Events,
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


def _open_monitor(monitor: Monitor | bool, folder: Path, max_bad_updates: int, events: _Events) -> Monitor | None:
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
    history = None
    if monitor is not None and monitor.log_path is not None and run.trainer.batch_num:
        try:
            history = read_log(monitor.log_path)
        except DarkpyError as error:
            message = f"{error.message}: the chart begins with update {run.trainer.batch_num + 1}"
            warnings.warn(message, DarkpyWarning, stacklevel=2)
    return Chart(path, run.trainer.net, history)
