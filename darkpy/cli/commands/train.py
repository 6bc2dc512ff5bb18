"""`darkpy train`, and darknet's own `detector train` and `classifier train`.

Terminal output of a training, as callbacks of `darkpy.train`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import click

from darkpy.cli import console
from darkpy.cli.options import Command, Decorator, compose, require_own
from darkpy.cli.serving_options import serving_dashboard
from darkpy.cli.training_options import (
    TrainOptions,
    cfg_argument,
    data_argument,
    data_cfg_weights,
    map_options,
    train_options,
    weights_argument,
)
from darkpy.errors import DarkpyError
from darkpy.process import format_clock

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from darkpy.finding import Finding
    from darkpy.training.checkpoints import Resume
    from darkpy.training.darknet_log import DarknetLog, LogLine
    from darkpy.training.reports import CheckpointReport, UpdateReport, ValidationReport
    from darkpy.training_session import TrainingRun


HELP_BODY = """DATA is darknet's .data file: train= lists the images, backup= is the folder for the weights{more}.

WEIGHTS is what training starts from: nothing, a part of a network (darknet53.conv.74), any weights, or a checkpoint of
a run that was stopped or killed. A checkpoint has a file BASE_N.resume beside it; with that the run continues as if it
had never been interrupted.

Several GPUs (-gpus 0,1, or torchrun ... -m darkpy train ... on one machine or many) share each minibatch: with the same
batch and learning_rate the training is the same with any number of them.

A monitor reports problems, with the layer or image and the keys to try. Updates with NaN values or loss spikes
are skipped: the weights stay unchanged, the images are kept in backup/evidence/, and the run continues.

--dashboard shows the run in a browser (http://127.0.0.1:8090/) while it goes on.

Checkpoints have the names and intervals of the cfg's dialect; Ctrl-C also saves one. Progress goes to standard error;
--darknet-log prints darknet's own lines instead.
"""
TRAIN_HELP = f"""Train a network, or continue a training.

\b
  darkpy train my.cfg my.data darknet53.conv.74
  darkpy train my.cfg my.data backup/my_last.weights
  darkpy train my.cfg my.data yolov3.weights -clear
  darkpy train my.cfg my.data darknet53.conv.74 -map --patience 10 --resume auto

A network with a detection layer learns boxes, one with [iseg] masks of instances. One whose output is a map learns
masks of classes, unless DATA has labels= or tag=; any other learns classes.

{HELP_BODY.format(more=", labels= the classes of a classifier")}"""
DETECTOR_HELP = f"""darknet's `detector train`: train a detection network, or continue a training.

\b
  darkpy detector train my.data my.cfg darknet53.conv.74 -map
  darkpy detector train my.data my.cfg backup/my_last.weights

{HELP_BODY.format(more="")}"""
CLASSIFIER_HELP = f"""darknet's `classifier train`: train an image classifier.

\b
  darkpy classifier train cifar.data cifar.cfg
  darkpy classifier train cifar.data cifar.cfg backup/cifar.backup

The class of an image is the line of labels= that its path contains.

{HELP_BODY.format(more="")}"""


def train_command(
    kind: str | None, help: str, arguments: Decorator = data_cfg_weights, options: Decorator = train_options
) -> click.Command:
    """Return a command that trains networks of a kind, None for any.

    arguments: cfg, data and weights, in any order. options: their values are TrainOptions.
    """

    @click.command(cls=Command, help=help)
    @arguments
    @options
    def train(cfg: Path, data: Path, weights: Path | None, **options: Unpack[TrainOptions]) -> int:
        return run_command(cfg, data, weights, kind, options)

    return train


train = train_command(
    None,
    TRAIN_HELP,
    compose(cfg_argument, data_argument, weights_argument),
    compose(map_options, train_options),
)
train_detector = train_command("detector", DETECTOR_HELP, options=compose(map_options, train_options))
train_classifier = train_command("classifier", CLASSIFIER_HELP)


def run_command(cfg: Path, data: Path, weights: Path | None, kind: str | None, options: TrainOptions) -> int:
    """Train, in several processes if several GPUs are given. Returns: the exit code."""
    from darkpy.cli.processes import StopRequest, check_gpus, launch, own_device
    from darkpy.distributed import is_launched
    from darkpy.process import keep_freed_memory
    from darkpy.training_run import DEFAULT_MAP_EPOCHS
    from darkpy.training_run import train as run_training

    gpus = tuple(options["gpus"].split(",")) if options["gpus"] is not None else ()
    device, chart = options["device"], options["chart"]
    if chart is not None:
        require_own(chart, overwrite=False, hint="name a new file: -chart FILE")
    if device is not None and gpus:
        raise DarkpyError("--device and -gpus both name the device: give one")
    if gpus:
        gpus = check_gpus(gpus)
    if len(gpus) > 1 and not is_launched():
        return launch(click.get_current_context().find_root().obj, len(gpus))
    map_epochs = options.get("map_epochs")
    if options.get("validate"):
        map_epochs = map_epochs or DEFAULT_MAP_EPOCHS
    elif not (options["patience"] or options["best_by"]):
        map_epochs = None  # counts with what makes evaluations only
    keep_freed_memory()
    output = TrainOutput(
        darknet_log=options["darknet_log"], show_imgs=options["show_imgs"] or options.get("display", False)
    )
    has_monitor = not (options["no_monitor"] or options["no_watch"])
    page: AbstractContextManager[Sequence[object]] = nullcontext(())
    if (port := options["dashboard"]) is not None:
        page = serving_dashboard(port, options["host"], has_monitor=has_monitor)
    with StopRequest() as stop_request, output, page as page_callbacks:
        result = run_training(
            cfg,
            data,
            weights,
            kind=kind,
            device=own_device(device, gpus),
            dialect=options["dialect"],
            strict=options["strict"],
            precision=options["precision"],
            seed=options["seed"],
            clear=options["clear"],
            auto_resume=options["resume"] == "auto",
            freeze=options["freeze"],
            auto_batch=options["auto_batch"],
            workers=options["workers"],
            draft=options["draft"],
            monitor=has_monitor,
            max_bad_updates=options["max_bad_updates"],
            allow_empty=options["allow_empty"],
            overwrite=options["overwrite"],
            rescue=options["rescue"],
            chart=chart or True,
            map_epochs=map_epochs or 0,
            patience=options["patience"],
            best_by=options["best_by"],
            iou_thresh=options.get("iou_thresh", 0.5),
            thresh=options.get("thresh", 0.25),
            callbacks=(output, stop_request, *page_callbacks),
        )
    if result.stop_reason and not result.stop_code:
        console.info(result.stop_reason)
    return result.stop_code


TERMINAL_INTERVAL_SECONDS = 0.2
"""Between two changes of the progress line on a terminal."""
FILE_INTERVAL_SECONDS = 10.0
"""Between two progress lines where stderr is not a terminal."""
MAX_NAMED_CHANGES = 10
"""Changed settings of a resumed run that are named."""
_PACE_SMOOTHING = 0.9  # weight of the updates before in the average duration of an update


class TrainOutput:
    """Prints progress, or darknet's own lines, and warnings, findings and the files written."""

    def __init__(self, *, darknet_log: bool, show_imgs: bool = False) -> None:
        self.darknet_log, self.show_imgs = darknet_log, show_imgs
        self.log: DarknetLog | None = None
        self.progress: ProgressLine | None = None
        self._lost_streams: set[str] = set()
        self.findings = 0
        """Findings of the run itself."""

    def __enter__(self) -> TrainOutput:
        return self

    def __exit__(self, *error: object) -> None:
        """Close with the way to the report, if the run had findings."""
        if self.findings and (log := getattr(self.run.trainer.monitor, "log_path", None)) is not None:
            self._clear_line()
            count = f"{self.findings} finding{'s' * (self.findings > 1)}"
            console.info(f"{count}: {shlex.join(['darkpy', 'report', str(log)])}")

    def on_start(self, run: TrainingRun) -> None:
        self.run = run
        if not run.is_main:
            console.silence()
            return
        if run.resume is not None:
            console.info(_resume_note(run.resume, run.changes))
        if self.show_imgs:
            from darkpy.cli.commands.dataset_preview import DEFAULT_COUNT, write_previews

            seed, seen = run.trainer.seed, run.trainer.seen
            folder = run.folder / f"preview_{run.base}"
            page = write_previews(run.setup, folder, None, count=DEFAULT_COUNT, seed=seed, seen=seen)
            console.info(f"{page}: samples of this training")
        if self.darknet_log:
            from darkpy.training.darknet_log import DarknetLog

            setup, net = run.setup, run.trainer.net
            heads = run.trainer.network.heads
            self.log = DarknetLog(
                run.trainer.network,
                images=None if setup.is_detector else len(setup.paths),
                random=getattr(heads[-1], "random", 0) if heads else net.random,
                map_interval=run.map_interval,
                map_names=setup.class_names,
                gpus=run.trainer.process_group.world_size,
            )
            save_every, save_last_every = setup.intervals.asked
            self._print(self.log.first_lines(run.base, save_every=save_every, save_last_every=save_last_every))
        else:
            self.progress = ProgressLine(run.trainer.net.max_batches)

    def on_update(self, report: UpdateReport) -> None:
        if self.progress is not None:
            self.progress.show(report)
        if self.log is not None:
            self._print(self.log.loading_lines(report))
            self._print(self.log.layer_lines(report))
            self._print(self.log.update_lines(report))

    def on_validation(self, report: ValidationReport) -> None:
        self._clear_line()
        if self.log is not None:
            self._print(self.log.validation_lines(report))
            return
        if report.result is not None:
            self._echo(f" mean_average_precision (mAP@{report.iou_thresh:.2f}) = {report.mean:f} ")
        if report.ema_mean is not None:
            value = f"{100 * report.ema_mean:.2f} %"
            if report.result is not None:
                value = f"mAP@{report.iou_thresh:.2f} = {report.ema_mean:f}"
            self._echo(f" of the averaged weights (EMA): {value} ")
        if not report.is_by_map:
            self._echo(f" {report.value} ")
        if report.overlaps:
            pairs = zip(self.run.setup.class_names, report.overlaps, strict=True)
            ious = [f"{name} {100 * overlap.iou:.2f} %" for name, overlap in pairs if overlap.true]
            self._echo(f" IoU: {', '.join((*ious, f'mean {100 * report.mean:.2f} %'))} ")
        if report.is_best:
            weights = " The averaged weights have it." if report.is_ema_best else ""
            self._echo(f"New best {'mAP' if report.is_by_map else report.metric}!{weights}")

    def on_checkpoint(self, report: CheckpointReport) -> None:
        if self.log is not None:
            self._print(self.log.checkpoint_lines(report))
        elif report.is_last:
            self._clear_line()
            console.info(f"{report.paths[0]} written after update {report.batch_num}")

    def on_finding(self, finding: Finding) -> None:
        if not finding.batch_num:  # of the cfg, or of a check before the run
            (console.info if finding.is_note else console.warn)(str(finding))
            return
        self.findings += 1
        lines = [f"{finding.text} ({finding.name})", *(f"  try {hint}" for hint in finding.hints)]
        if finding.evidence:
            folder = self.run.folder / finding.evidence
            lines.append(f"  see {folder}: sheet.png, samples.csv, images, labels")
        console.warn("\n".join(lines))

    def on_warning(self, message: str) -> None:
        console.warn(message)

    def _print(self, lines: Iterable[LogLine]) -> None:
        """Print darknet's lines; a terminal is not cleared, which would hide what darkpy has found."""
        for line in lines:
            if line.control and not sys.stdout.isatty():
                self._echo(line.text, control=True)
            self._echo("" if line.control else line.text, nl=bool(line.end), err=line.stderr)

    def _echo(self, text: str, *, nl: bool = True, err: bool = False, control: bool = False) -> None:
        """Print text. A full disk or closed pipe behind a stream ends its lines, not the training."""
        stream = "stderr" if err else "stdout"
        if stream in self._lost_streams:
            return
        try:
            if control:
                console.control(text)
            else:
                console.echo(text, nl=nl, err=err)
        except (OSError, ValueError, console.StandardOutputError) as error:
            self._lost_streams.add(stream)
            reason = getattr(error.__cause__ or error, "strerror", None) or error
            console.warn(f"standard {'error' if err else 'output'}: {reason}: the training continues without it")
            # keeps Python from flushing the failed output once more at exit
            setattr(sys, stream, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123

    def _clear_line(self) -> None:
        if self.progress is not None:
            self.progress.clear()


def _resume_note(resume: Resume, changes: Sequence[str]) -> str:
    """Tell whether a resumed run is still the same training, and if not, what has changed."""
    start = f"{resume.path} belongs to these weights: the run continues"
    if not resume.fingerprint:
        return f"{start} where it was, if the cfg, the data and the options are the same"
    if not changes:
        return f"{start} exactly where it was"
    more = f" and {len(changes) - MAX_NAMED_CHANGES} more" if len(changes) > MAX_NAMED_CHANGES else ""
    return f"{start}, but not as the same training; changed: {', '.join(changes[:MAX_NAMED_CHANGES])}{more}"


class ProgressLine:
    """Progress of a training in one line that changes, or line by line where stderr is not a terminal.

    unit: plural of what a minibatch consists of.
    """

    def __init__(self, max_batches: int, unit: str = "images") -> None:
        self.max_batches, self.unit = max_batches, unit
        self.is_terminal = sys.stderr is not None and sys.stderr.isatty()
        self.pace = 0.0  # seconds for an update
        self.waiting = 0.0  # seconds of them for images
        self.shown_at = -FILE_INTERVAL_SECONDS

    def show(self, report: UpdateReport) -> None:
        smoothing = _PACE_SMOOTHING if self.pace else 0.0
        self.pace = smoothing * self.pace + (1 - smoothing) * report.seconds
        self.waiting = smoothing * self.waiting + (1 - smoothing) * report.waited
        now = perf_counter()
        interval = TERMINAL_INTERVAL_SECONDS if self.is_terminal else FILE_INTERVAL_SECONDS
        if now - self.shown_at < interval and report.batch_num != self.max_batches:
            return
        self.shown_at = now
        line = self.line(report, shutil.get_terminal_size().columns - 1 if self.is_terminal else None)
        if self.is_terminal:
            console.write_progress(f"{console.ERASE_LINE}{line}")
        else:
            console.write_progress(f"{line}\n")

    def line(self, report: UpdateReport, width: int | None = None) -> str:
        """Return `120/6000  loss 12.3  average 15.2  rate 0.001  31.2 images/s  1:02:10 left`.

        width: characters that fit; parts are left out to meet it, the least important first.
        """
        end = f"/{self.max_batches}" if self.max_batches else ""
        parts = [
            f"{report.batch_num}{end}",
            f"loss {report.loss:.4g}",
            f"average {report.average:.4g}",
            f"rate {report.rate:.3g}",
            f"{report.images / self.pace:.3g} {self.unit}/s",
        ]
        optional = [parts[3], parts[1], parts[4]]
        if self.max_batches:
            parts.append(f"{format_clock(self.pace * (self.max_batches - report.batch_num))} left")
        if self.waiting > 0.1 * self.pace:
            parts.append(f"{100 * self.waiting / self.pace:.0f}% waiting for images")
            optional.insert(1, parts[-1])
        for part in optional:
            if width is None or len("  ".join(parts)) <= width:
                break
            parts.remove(part)
        return "  ".join(parts)[:width]

    def clear(self) -> None:
        """Erase the line, for other output."""
        if self.is_terminal:
            console.write_progress(console.ERASE_LINE)
