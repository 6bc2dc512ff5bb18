"""Terminal output of a training, as callbacks of `darkpy.train`."""

from __future__ import annotations

import shutil
import sys
from time import perf_counter
from typing import TYPE_CHECKING

import click

from darkpy.cli import console
from darkpy.process import format_clock

if TYPE_CHECKING:
    from darkpy.finding import Finding
    from darkpy.training.darknet_log import DarknetLog
    from darkpy.training.reports import CheckpointReport, UpdateReport, ValidationReport
    from darkpy.training_run import TrainingRun

TERMINAL_INTERVAL_SECONDS = 0.2
"""Between two changes of the progress line on a terminal."""
FILE_INTERVAL_SECONDS = 10.0
"""Between two progress lines where stderr is not a terminal."""
_PACE_SMOOTHING = 0.9  # weight of the updates before in the average duration of an update


class TrainOutput:
    """Prints progress, or darknet's own lines, and warnings, findings and the files written."""

    def __init__(self, *, darknet_log: bool) -> None:
        self.darknet_log = darknet_log
        self.log: DarknetLog | None = None
        self.progress: ProgressLine | None = None

    def on_start(self, run: TrainingRun) -> None:
        self.run = run
        if not run.is_main:
            console.silence()
            return
        if run.resume is not None:
            console.info(f"{run.resume.path} belongs to these weights: the run continues exactly where it was")
        if self.darknet_log:
            from darkpy.training.darknet_log import DarknetLog

            images = None if run.setup.is_detector else len(run.setup.paths)
            self.log = DarknetLog(run.trainer.network, images)
            for line in self.log.first_lines(run.base):
                console.echo(line)
        else:
            self.progress = ProgressLine(run.trainer.net.max_batches)

    def on_update(self, report: UpdateReport) -> None:
        if self.progress is not None:
            self.progress.show(report)
        if self.log is not None:
            for line in self.log.loading_lines(report):
                console.echo(line)
            for line in self.log.layer_lines(report):
                console.echo(line, err=not self.log.is_pjreddie)
            console.echo(self.log.update_line(report))

    def on_validation(self, report: ValidationReport) -> None:
        self._clear_line()
        console.echo(f" mean_average_precision (mAP@{report.iou_thresh:.2f}) = {report.mean:f} ")
        if report.is_best:
            console.echo("New best mAP!")

    def on_checkpoint(self, report: CheckpointReport) -> None:
        if report.is_last:
            self._clear_line()
            console.info(f"{report.paths[0]} written after update {report.batch_num}")

    def on_finding(self, finding: Finding) -> None:
        if not finding.batch_num:  # of the cfg, or of a check before the run
            (console.info if finding.is_note else console.warn)(str(finding))
            return
        lines = [f"{finding.text} ({finding.name})", *(f"  try {hint}" for hint in finding.hints)]
        if finding.evidence:
            folder = self.run.folder / finding.evidence
            lines.append(f"  see {folder}: sheet.png, samples.csv, images, labels")
        console.warn("\n".join(lines))

    def on_warning(self, message: str) -> None:
        console.warn(message)

    def _clear_line(self) -> None:
        if self.progress is not None:
            self.progress.clear()


class ProgressLine:
    """Progress of a training in one line that changes, or line by line where stderr is not a terminal."""

    def __init__(self, max_batches: int) -> None:
        self.max_batches = max_batches
        self.is_terminal = sys.stderr.isatty()
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
        line = self.line(report)
        if self.is_terminal:
            sys.stderr.write(f"{console.ERASE_LINE}{line[: shutil.get_terminal_size().columns - 1]}")
            sys.stderr.flush()
        else:
            click.echo(line, err=True)

    def line(self, report: UpdateReport) -> str:
        """Return `120/6000  loss 12.3  average 15.2  rate 0.001  31.2 images/s  1:02:10 left`."""
        end = f"/{self.max_batches}" if self.max_batches else ""
        parts = [
            f"{report.batch_num}{end}",
            f"loss {report.loss:.4g}",
            f"average {report.average:.4g}",
            f"rate {report.rate:.3g}",
            f"{report.images / self.pace:.3g} images/s",
        ]
        if self.max_batches:
            parts.append(f"{format_clock(self.pace * (self.max_batches - report.batch_num))} left")
        if self.waiting > 0.1 * self.pace:
            parts.append(f"{100 * self.waiting / self.pace:.0f}% waiting for images")
        return "  ".join(parts)

    def clear(self) -> None:
        """Erase the line, for other output."""
        if self.is_terminal:
            sys.stderr.write(console.ERASE_LINE)
