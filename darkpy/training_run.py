"""Train a network from Python: everything that `darkpy train` does, with callbacks instead of console output.

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

import os
import shlex
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from darkpy.build import make_plan
from darkpy.catalog import find_cfg, find_weights
from darkpy.config.text import deduplicate
from darkpy.data.lists.text_files import read_data
from darkpy.data.loading.bad_files import BadLists
from darkpy.diagnostics.checks.weights import check_frozen_norms
from darkpy.diagnostics.preflight import check_training
from darkpy.dialect import Dialect
from darkpy.distributed import joined, local_world
from darkpy.errors import ConfigError, DarkpyError, DarkpyWarning, explain_out_of_memory
from darkpy.files import is_file
from darkpy.finding import Finding, Severity
from darkpy.network import Network
from darkpy.ops.device import find_device
from darkpy.process import count_cpus
from darkpy.training.callbacks import Callbacks
from darkpy.training.checkpoints import Checkpoints, base_name, find_resume
from darkpy.training.run_lock import locked
from darkpy.training.setup import TrainingSetup, backup_folder, changed_settings, fingerprint, open_setup
from darkpy.training.trainer import Trainer
from darkpy.training_session import TrainingResult, TrainingRun, TrainingSession

if TYPE_CHECKING:
    from darkpy.diagnostics.monitor.monitor import Monitor
    from darkpy.diagnostics.report.chart import Chart

MEMORY_HINT = "set larger subdivisions, or a smaller width and height, in [net]; or give a smaller --workers"
DEFAULT_MAP_EPOCHS = 4
"""Epochs between two evaluations."""
MAX_GPU_WORKERS = 8
"""Default limit of the processes that load images for a GPU."""


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
    auto_resume: bool = False,
    freeze: int = 0,
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
    patience: int = 0,
    best_by: str | None = None,
    iou_thresh: float = 0.5,
    thresh: float = 0.25,
    callbacks: Sequence[object] = (),
) -> TrainingResult:
    """Train a network until [net] max_batches, or until a callback stops it.

    cfg: a file, or the name of a network that comes with darkpy (`darkpy models`). data: a .data file.
    weights: what to start from: a file, or such a name; a checkpoint with its resume file continues that run exactly.
    dialect: "pjreddie" or "alexeyab", detected from the cfg by default. strict: cfg warnings become errors.
    kind: "detector", "classifier", "segmenter" or "isegmenter" to refuse networks of another kind; it tells a segmenter
        from a classifier where the .data file has `labels` or `tag`. "regressor" is for label files that hold numbers,
        "tagger" for some that hold classes.
    device: "cpu", "cuda:1", ...; by default a GPU if there is one. Under torchrun each process trains its part of the
        minibatch on its own GPU; without -gpus this is how to use several.
    precision: "fp32", or "bf16" for mixed precision.
    seed: of all random numbers, 0 by default; torch's global seed is set to it. A resumed run keeps its own.
    clear: start the schedule anew, as if the weights had seen no images.
    auto_resume: continue from the newest whole checkpoint of this run in the backup folder, if there is one; else start
        from `weights`, where `clear` counts.
    freeze: number of the first layers that do not learn, batch norm statistics included.
    auto_batch: raise the subdivisions if GPU memory is insufficient.
    workers: processes that load images. draft: decode large JPEGs at reduced size, faster and less exactly.
    monitor: False disables all checks of updates; or a `darkpy.Monitor` with thresholds of your own.
    max_bad_updates: refused updates in a row that end the run with an error.
    allow_empty: train although no image has a usable object.
    overwrite: overwrite the final weights of a finished run of this name.
    rescue: continue a ruined run from its healthy weights, with the first remedy of its findings; see the note that
        `on_finding` gets. The cfg with the remedy is written beside the weights, as `BASE_rescueN.cfg`.
    chart: file of the chart of loss and mAP; True puts it beside the weights, False draws none.
    map_epochs: epochs between two validations on the .data file's `valid` list; 0 for none.
    patience: evaluations in a row without improvement after which the run ends as finished; 0 for any number.
    best_by: metric of the best weights: "map50", "map" (mean over IoU .5 to .95), "f1", "recall", "class:NAME" or
        "loss" (average loss) of a detector, "accuracy" or "loss" of a classifier, "iou", "class:NAME" or "loss" of a
        segmentation network; default mAP, accuracy or mean IoU. patience and best_by alone evaluate every 4 epochs.
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
    cfg = cfg if is_file(cfg) else find_cfg(cfg)
    weights = weights if weights is None or is_file(weights) else find_weights(weights)
    device = find_device(device)
    with joined(device) as process_group, explain_out_of_memory("this training", MEMORY_HINT), ExitStack() as stack:
        events.is_main = process_group.is_main
        if auto_batch and not process_group.is_alone:
            raise DarkpyError("auto_batch (--fit) is for one device", hint="set subdivisions in [net]")
        with events.python_warnings():
            if rescue:
                from darkpy.diagnostics.rescue import prepare_rescue

                if weights is not None or clear or auto_resume:
                    hint = "give CFG and DATA alone"
                    raise DarkpyError("--rescue starts from the healthy weights of the ruined run", hint=hint)
                rescued = prepare_rescue(Path(cfg), Path(data), dialect)
                events.report(Finding(name="rescue", message=str(rescued), severity=Severity.NOTE))
                cfg, weights = rescued.cfg, rescued.weights
            if auto_resume:
                from darkpy.training.auto_resume import find_checkpoint

                checkpoint, note = find_checkpoint(Path(cfg), read_data(data), dialect)
                events.report(Finding(name="resume", message=note, severity=Severity.NOTE))
                weights, clear = (weights, clear) if checkpoint is None else (checkpoint, False)
            torch.manual_seed(seed or 0)
            network = _load_network(Path(cfg), weights, dialect, device, strict=strict, events=events)
            if freeze:
                network.freeze(freeze)
                events.report(_note_frozen(network))
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
            wanted_by = "--patience" if patience else "--best-by" if best_by else ""
            validation = None
            if (map_epochs or wanted_by) and process_group.is_main:
                from darkpy.training.validation import open_validation

                validation = open_validation(
                    network,
                    setup,
                    map_epochs or DEFAULT_MAP_EPOCHS,
                    best_by=best_by,
                    wanted_by="" if map_epochs and setup.is_detector else wanted_by,
                    thresh=thresh,
                    iou_thresh=iou_thresh,
                )
            guard = _open_monitor(monitor, folder, max_bad_updates, events)
            trainer = Trainer(network, seed=seed, precision=precision, monitor=guard, process_group=process_group)
            if resume is not None:
                resume.restore(trainer)
            if device.type == "cuda" and process_group.is_alone:
                from darkpy.training.auto_batch import fit_minibatch

                fit_minibatch(trainer, setup.largest, at_most=trainer.net.minibatch, auto_batch=auto_batch)
            settings = fingerprint(setup, trainer, precision=precision, draft=draft)
            changes = changed_settings(resume.fingerprint, settings) if resume and resume.fingerprint else ()
            map_interval = validation.interval if validation is not None and validation.has_map else 0
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
                metric = validation.metric.label if validation is not None else ""
                checkpoints = Checkpoints(
                    trainer, folder, setup.intervals, metric=metric, resume=resume, fingerprint=settings
                )
        session = TrainingSession(
            run, events, checkpoints, monitor=guard, validation=validation, patience=patience, chart=drawing
        )
        try:
            session.train(auto_batch=auto_batch)
        finally:
            if guard is not None:
                guard.listeners.remove(events.finding)
        return session.result()


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


def _note_frozen(network: Network) -> Finding:
    count = network.frozen_layers
    total = sum(param.numel() for param in network.parameters())
    frozen = sum(param.numel() for layer in network.built[:count] for param in layer.parameters())
    layers = f"layers 0-{count - 1} are" if count > 1 else "layer 0 is"
    message = f"{layers} frozen, batch norm statistics too: {total - frozen:,} of {total:,} weights learn"
    return Finding(name="frozen", message=message, severity=Severity.NOTE)


def _open_setup(
    network: Network, data: Path, kind: str | None, *, seed: int, workers: int | None, draft: bool
) -> TrainingSetup:
    if workers is None:
        # with a GPU as many as there are cores; with a CPU one loads while the others compute
        limit = MAX_GPU_WORKERS if network.device.type == "cuda" else 1
        workers = min(limit, max(count_cpus() // local_world() - 1, 0))
    bad = BadLists(Path())
    return open_setup(network.plan, read_data(data), seed=seed, kind=kind, workers=workers, bad=bad, draft=draft)


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
