"""Those who listen to a training and tell of it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import click

from darkpy.cli.console import ERASE_LINE, warn
from darkpy.errors import DarkpyError
from darkpy.process import format_clock

if TYPE_CHECKING:
    from darkpy.diagnostics.report.chart import Chart
    from darkpy.finding import Finding
    from darkpy.training.checkpoints import Checkpoints
    from darkpy.training.darknet_log import DarknetLog
    from darkpy.training.loop import UpdateReport

EVERY = 0.2
"""Seconds between two looks at the line on a terminal."""
EVERY_IN_FILES = 10.0
"""Seconds between two lines where stderr is no terminal."""
SHOWN = 10
"""Files that are complained of by name; their lists hold the others, too."""
_RECENT = 0.9  # of the pace, what stays after an update


class Progress:
    """How far the training is, in one line that changes; line by line where stderr is no terminal."""

    def __init__(self, max_batches: int) -> None:
        self.max_batches = max_batches
        self.is_terminal = sys.stderr.isatty()
        self.pace = 0.0  # seconds for an update
        self.waiting = 0.0  # seconds of them for images
        self.told = -EVERY_IN_FILES

    def __call__(self, report: UpdateReport) -> None:
        share = _RECENT if self.pace else 0.0
        self.pace = share * self.pace + (1 - share) * report.seconds
        self.waiting = share * self.waiting + (1 - share) * report.waited
        now = perf_counter()
        if now - self.told < (EVERY if self.is_terminal else EVERY_IN_FILES) and report.batch_num != self.max_batches:
            return
        self.told = now
        line = self.line(report)
        if self.is_terminal:
            sys.stderr.write(f"{ERASE_LINE}{line[: shutil.get_terminal_size().columns - 1]}")
            sys.stderr.flush()
        else:
            click.echo(line, err=True)

    def line(self, report: UpdateReport) -> str:
        """`120/6000  loss 12.3  average 15.2  rate 0.001  31.2 images/s  1:02:10 left`."""
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
        """Make room for a line of somebody else's."""
        if self.is_terminal:
            sys.stderr.write(ERASE_LINE)


class Problems:
    """What cannot be used of the data is told once."""

    def __init__(self) -> None:
        self.met: set[str] = set()

    def __call__(self, report: UpdateReport) -> None:
        for batch in report.batches:
            for problem in batch.problems:
                if problem.entry not in self.met:
                    self.met.add(problem.entry)
                    self._tell(problem.message)

    def _tell(self, message: str) -> None:
        if len(self.met) <= SHOWN:
            warn(message)
        elif len(self.met) == SHOWN + 1:
            warn("more files are not as they should be: bad.list and bad_label.list name them all")


class Findings:
    """What the watch finds is said at once, with what to try; `folder` is the run's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, finding: Finding) -> None:
        lines = [f"{finding.text} ({finding.name})", *(f"  try {hint}" for hint in finding.hints)]
        if finding.evidence:
            lines.append(f"  see {self.folder / finding.evidence}: sheet.png, samples.csv, images, labels")
        warn("\n".join(lines))


class DarknetLines:
    """darknet's own lines."""

    def __init__(self, log: DarknetLog, base: str) -> None:
        self.log = log
        for line in log.first_lines(base):
            click.echo(line)

    def __call__(self, report: UpdateReport) -> None:
        for line in self.log.loading_lines(report):
            click.echo(line)
        for line in self.log.layer_lines(report):
            click.echo(line, err=not self.log.is_pjreddie)
        click.echo(self.log.update_line(report))


def open_chart(checkpoints: Checkpoints, path: Path | None, *, is_logged: bool) -> Chart | None:
    """A chart where one is asked for, or where the library that draws is there: it lies beside the weights then.

    is_logged: whether the run has a log; the chart begins with what it tells.
    """
    from darkpy.diagnostics.monitor.log_reader import log_path, read_log
    from darkpy.diagnostics.report.chart import Chart, check_available, is_available

    if path is not None:
        check_available()
    elif not is_available():
        return None
    folder, base, trainer = checkpoints.folder, checkpoints.base, checkpoints.trainer
    history = None
    if is_logged and trainer.batch_num:
        try:
            history = read_log(log_path(folder, base))
        except DarkpyError as error:
            warn(f"{error.message}: the chart begins with update {trainer.batch_num + 1}")
    return Chart(path or folder / f"chart_{base}.png", trainer.net, history)
