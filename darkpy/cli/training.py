"""A training from the command line: what `train`, `detector train` and `classifier train` share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

import darkpy
from darkpy.cli.console import info, silence, warn
from darkpy.cli.load import find_device
from darkpy.cli.processes import check_gpus, launch, own_device
from darkpy.cli.stopping import stoppable
from darkpy.cli.train_output import DarknetLines, Findings, Problems, Progress, open_chart
from darkpy.data.lists.data_file import read_data
from darkpy.errors import ConfigError, DarkpyError
from darkpy.process import count_cpus, keep_freed_memory

if TYPE_CHECKING:
    import torch

    from darkpy.diagnostics.monitor.monitor import Monitor
    from darkpy.diagnostics.report.chart import Chart
    from darkpy.distributed import ProcessGroup
    from darkpy.network import Network
    from darkpy.training.checkpoints import Checkpoints
    from darkpy.training.loop import UpdateReport
    from darkpy.training.resume import Resume
    from darkpy.training.setup import TrainingSetup
    from darkpy.training.trainer import Trainer
    from darkpy.training.validation import Validation

MAX_WORKERS = 8
"""Processes that make images for a GPU, unless another number is asked for."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a command line says of a training. map_epochs: between two validations, 0 for none.

    watch: whether somebody looks out for what goes wrong. max_bad_updates: that cannot be made in a row, until it ends.
    gpus: the numbers of those that share it, of which there may be one.
    """

    dialect: str | None
    strict: bool
    device: str | None
    gpus: tuple[str, ...]
    clear: bool
    seed: int
    precision: str
    workers: int | None
    draft: bool
    fit: bool
    darknet_log: bool
    chart: Path | None = None
    watch: bool = True
    max_bad_updates: int = 100
    map_epochs: int = 0
    thresh: float = 0.25
    iou_thresh: float = 0.5


def run_training(cfg: Path, data: Path, weights: Path | None, options: Options, *, kind: str | None = None) -> int:
    """Train until the schedule or somebody ends it, on one device or on several. Returns: the exit code.

    kind: "detector" or "classifier" where the command is for one of them only.
    """
    from darkpy.training.rank_sync import is_launched, joined

    if options.gpus:
        check_gpus(options.gpus)
    if len(options.gpus) > 1 and not is_launched():
        return launch(click.get_current_context().find_root().obj, len(options.gpus))
    keep_freed_memory()
    device = find_device(own_device(options.device, options.gpus))
    with joined(device) as process_group:
        if not process_group.is_main:
            silence()
        if options.fit and not process_group.is_alone:
            raise DarkpyError("--fit is for one device", hint="set subdivisions in [net]")
        return _train(cfg, data, weights, options, kind, device, process_group)


def _train(
    cfg: Path,
    data: Path,
    weights: Path | None,
    options: Options,
    kind: str | None,
    device: torch.device,
    process_group: ProcessGroup,
) -> int:
    from darkpy.diagnostics.monitor.monitor import Monitor
    from darkpy.training.auto_batch import fit
    from darkpy.training.checkpoints import Checkpoints
    from darkpy.training.loop import train
    from darkpy.training.resume import NO_BEST
    from darkpy.training.trainer import Trainer

    network = _open_network(cfg, weights, options, device)
    resume = _find_resume(network, weights, options)
    seed = resume.seed if resume else options.seed
    setup, folder = _open_task(network, data, weights, resume, options, kind)
    trainer = Trainer(network, seed=seed, precision=options.precision, process_group=process_group)
    if resume is not None:
        resume.restore(trainer)
    if device.type == "cuda" and process_group.is_alone:
        fit(trainer, setup.largest, at_most=trainer.net.minibatch, is_allowed=options.fit)
    average = resume.average if resume else math.nan
    validation = _open_validation(trainer, setup, options) if process_group.is_main else None
    watch = None
    if options.watch:
        bad, memory = options.max_bad_updates, resume.guard if resume else None
        watch = Monitor(trainer, folder, average=average, memory=memory, max_bad_updates=bad, tell=Findings(folder))
        watch.checks_labels = False  # the loader has
    reports = train(trainer, setup.source, average=average, auto_batch=options.fit)
    if not process_group.is_main:
        return _accompany(reports, process_group)
    checkpoints = Checkpoints(trainer, folder, setup.intervals, seed=seed, best=resume.best if resume else NO_BEST)
    chart = open_chart(checkpoints, options.chart, is_logged=watch is not None)
    return _follow(reports, setup, checkpoints, validation, options, watch, chart)


def _follow(
    reports: Iterator[UpdateReport],
    setup: TrainingSetup,
    checkpoints: Checkpoints,
    validation: Validation | None,
    options: Options,
    watch: Monitor | None,
    chart: Chart | None,
) -> int:
    """Tell of every update, judge and save what is due; save all when somebody ends it."""
    from darkpy.diagnostics.monitor.policy import BadRunError
    from darkpy.training.darknet_log import DarknetLog
    from darkpy.training.rank_sync import agree

    trainer = checkpoints.trainer
    progress = Progress(trainer.net.max_batches)
    problems = Problems()
    log = DarknetLog(trainer.network, None if setup.is_detector else len(setup.paths))
    tell = DarknetLines(log, checkpoints.base) if options.darknet_log else progress
    names, average, code = [setup.intervals.final], math.nan, 0
    try:
        with stoppable() as wish:
            for report in reports:
                average = report.average
                problems(report)
                tell(report)
                if chart is not None:
                    chart(report)
                if validation is not None and validation.is_due(report):
                    progress.clear()
                    _judge(validation, checkpoints, watch, chart)
                checkpoints(report)
                if code := agree(wish.code, trainer.process_group):
                    names = [setup.intervals.last]
                    break
    except BadRunError as error:
        if error.is_savable and math.isfinite(average):
            checkpoints.save([setup.intervals.last], average)
            path = checkpoints.folder / (checkpoints.base + setup.intervals.last)
            info(f"{path} is written, after update {trainer.batch_num}")
        raise
    checkpoints.save(names, average)
    progress.clear()
    info(f"{checkpoints.folder / (checkpoints.base + names[0])} is written, after update {trainer.batch_num}")
    return code


def _accompany(reports: Iterator[UpdateReport], process_group: ProcessGroup) -> int:
    """Take part in the updates, of which the main rank tells; end when it does."""
    from darkpy.training.rank_sync import agree

    with stoppable() as wish:
        for _ in reports:
            if code := agree(wish.code, process_group):
                return code
    return 0


def _open_network(cfg: Path, weights: Path | None, options: Options, device: torch.device) -> Network:
    import torch

    torch.manual_seed(options.seed)
    try:
        network = darkpy.load(
            cfg, weights, dialect=options.dialect, device=device, strict=options.strict, allow_partial=True
        )
    except ConfigError:
        if _is_data(cfg):
            hint = "the order is CFG DATA for darkpy train, DATA CFG for darknet's commands"
            raise DarkpyError(f"{cfg} is a .data file, and stands where the cfg should", hint=hint) from None
        raise
    if options.clear:
        network.header = network.header.with_seen(0)
    return network


def _is_data(path: Path) -> bool:
    try:
        return bool(read_data(path).entries)
    except DarkpyError:
        return False


def _find_resume(network: Network, weights: Path | None, options: Options) -> Resume | None:
    from darkpy.training.checkpoints import base_name, find_resume

    if weights is None or options.clear:
        return None
    resume = find_resume(weights, base_name(network.plan.file))
    if resume is not None:
        info(f"{resume.path} belongs to {weights}: the run goes on exactly where it was")
    return resume


def _open_task(
    network: Network, data: Path, weights: Path | None, resume: Resume | None, options: Options, kind: str | None
) -> tuple[TrainingSetup, Path]:
    """What is trained, and the folder for its weights; what trips people is told."""
    from darkpy.data.loading.bad_files import BadLists
    from darkpy.diagnostics.preflight import check_training
    from darkpy.training.setup import backup_folder, open_setup

    plan = network.plan
    is_detector = bool(network.heads)
    if kind is not None and is_detector != (kind == "detector"):
        other = "classifier" if kind == "detector" else "detector"
        raise DarkpyError(f"{plan.file} is no {kind}", hint=f"darkpy {other} train, or darkpy train for both")
    file = read_data(data)
    device = next(network.parameters()).device.type
    workers = _workers(device) if options.workers is None else options.workers
    seed = resume.seed if resume else options.seed
    setup = open_setup(plan, file, seed=seed, workers=workers, bad=BadLists(Path()), draft=options.draft)
    folder = backup_folder(file)
    seen, is_resumed = network.header.seen, resume is not None
    for finding in check_training(setup, seen=seen, folder=folder, weights=weights, is_resumed=is_resumed):
        (info if finding.is_note else warn)(str(finding))
    return setup, folder


def _workers(device: str) -> int:
    """Beside a GPU as many as there are cores; beside a CPU that trains, one loads while the others compute.

    Processes that train together share the cores.
    """
    from darkpy.training.rank_sync import local_world

    cores = count_cpus() // local_world()
    return min(MAX_WORKERS, max(cores - 1, 0)) if device == "cuda" else min(1, max(cores - 1, 0))


def _open_validation(trainer: Trainer, setup: TrainingSetup, options: Options) -> Validation | None:
    from darkpy.data.lists.paths import read_image_list
    from darkpy.evaluation.ground_truth import read_ground_truth
    from darkpy.training.validation import Validation

    if not options.map_epochs:
        return None
    if not setup.is_detector:
        raise DarkpyError(f"-map judges detectors, and {setup.plan.file} is none", hint="leave -map out")
    file = setup.data.find("valid")
    if file is None:
        warn(f"{setup.data.path}: has no valid=: -map judges by the list it trains on")
    paths = setup.paths if file is None else tuple(map(str, read_image_list(file)))
    net = trainer.net
    if net.time_steps > 1:
        raise DarkpyError(f"-map judges single images; {setup.plan.file} takes films (time_steps={net.time_steps})")
    return Validation(
        trainer,
        paths,
        read_ground_truth(paths, setup.plan.dialect, setup.classes),
        classes=setup.classes,
        interval=options.map_epochs * len(setup.paths) // (net.minibatch * net.subdivisions),
        thresh=options.thresh,
        iou_thresh=options.iou_thresh,
    )


def _judge(validation: Validation, checkpoints: Checkpoints, watch: Monitor | None, chart: Chart | None) -> None:
    mean = validation.judge().mean
    click.echo(f" mean_average_precision (mAP@{validation.iou_thresh:.2f}) = {mean:f} ")
    if checkpoints.keep_best(mean):
        click.echo("New best mAP!")
    for listener in (watch, chart):
        if listener is not None:
            listener.judge(checkpoints.trainer.batch_num, mean)
