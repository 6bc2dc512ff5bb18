"""The chart of a training that grows while it runs: the average loss, and with -map the mean average precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from darkpy.config.net import NetSpec
from darkpy.diagnostics.monitor.log_reader import RunLog
from darkpy.errors import DarkpyError
from darkpy.files import write_atomic

if TYPE_CHECKING:
    from darkpy.training.reports import UpdateReport

EVERY = 100
"""Updates between two drawings, as in AlexeyAB's program."""
LEAST_SECONDS = 20.0
"""Between two drawings: one takes a fifth of a second, in which a small network makes many updates."""
SIDE, DPI = 10.0, 100
"""Inches and dots for each: 1000 x 1000 pixels, AlexeyAB's size."""
POINTS = 4000
"""Of a curve, at most; more than there are pixels across."""
LOSS_COLOR, MAP_COLOR = "#1f5fbf", "#c0392b"

Point = tuple[int, float]
"""An update's number, and a value after it."""


def is_available() -> bool:
    return find_spec("matplotlib") is not None


def check_available() -> None:
    """Raises: DarkpyError when the library that draws is not there."""
    if not is_available():
        raise DarkpyError("a chart is drawn by matplotlib, which is not installed", hint="pip install darkpy[chart]")


class Chart:
    """Collects a run's figures and draws them to a PNG again and again.

    history: what the run's log tells of the updates before.
    Source: AlexeyAB/darknet src/detector.c train_detector, src/image_opencv.cpp draw_train_loss
    """

    def __init__(self, path: Path, net: NetSpec, history: RunLog | None = None) -> None:
        self.path, self.net = path, net
        self.averages: list[Point] = [(one.batch_num, one.average) for one in history.updates] if history else []
        self.means: list[Point] = [(one.batch_num, one.mean) for one in history.maps] if history else []
        self.drawn_at = -math.inf

    def __call__(self, report: UpdateReport) -> None:
        n = report.batch_num
        self.averages.append((n, report.average))
        is_due = n % EVERY == 0 and perf_counter() - self.drawn_at >= LEAST_SECONDS
        if is_due or n == self.net.max_batches:
            self.draw()

    def judge(self, batch_num: int, mean: float) -> None:
        """Take in the mean average precision, 0 to 1, after an update."""
        self.means.append((batch_num, mean))
        self.draw()

    def draw(self) -> None:
        """Write the PNG, whole."""
        image = draw_chart(
            self.averages,
            self.means,
            max_batches=self.net.max_batches,
            max_loss=self.net.max_chart_loss,
            title=self.path.stem.removeprefix("chart_"),
        )
        write_atomic(self.path, [image])
        self.drawn_at = perf_counter()


def draw_chart(
    averages: Sequence[Point], means: Sequence[Point], *, max_batches: int, max_loss: float, title: str
) -> bytes:
    """A PNG: the loss from 0 to `max_loss` on the left, the mean average precision in percent on the right."""
    check_available()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SIDE, SIDE), dpi=DPI, layout="constrained")
    left = figure.add_subplot()
    shown = averages[:: -(-len(averages) // POINTS) or 1]
    left.plot(*_columns(shown), color=LOSS_COLOR, linewidth=1.2)
    left.set(xlim=(0, max_batches or None), ylim=(0, max_loss), xlabel="update")
    left.set_ylabel("average loss", color=LOSS_COLOR)
    left.grid(alpha=0.25)
    told = [title]
    if averages:
        told.append(f"update {averages[-1][0]}, average loss {averages[-1][1]:.4g}")
    if means:
        right = left.twinx()
        right.plot(*_columns(means), color=MAP_COLOR, linewidth=1.5, marker="o", markersize=4)
        right.set(ylim=(0, 1))
        right.set_ylabel("mAP", color=MAP_COLOR)
        right.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        told.append(f"mAP {100 * means[-1][1]:.2f} %, best {100 * max(mean for _, mean in means):.2f} %")
    left.set_title("   ".join(told))
    stream = BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def _columns(points: Sequence[Point]) -> tuple[list[int], list[float]]:
    return [n for n, _ in points], [value for _, value in points]
