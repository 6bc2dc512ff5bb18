"""Chart of a training, updated while it runs: the average loss, and validation metrics such as the mAP."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from darkpy.config.net import NetSpec
from darkpy.diagnostics.monitor.run_log import LoggedMap, RunLog
from darkpy.diagnostics.report.drawing import Drawing, Text
from darkpy.diagnostics.report.plot import (
    Curve,
    Points,
    Scale,
    draw_axes,
    draw_curve,
    draw_legend,
    draw_right_axis,
)
from darkpy.files import write_atomic

if TYPE_CHECKING:
    from darkpy.training.reports import UpdateReport

DRAW_EVERY_UPDATES = 100
"""Updates between two drawings, as in AlexeyAB's program."""
MIN_SECONDS_BETWEEN = 20.0
"""Seconds between two drawings: one takes a fifth of a second, in which a small network makes many updates."""
CHART_SIDE_PX = 500.0
"""Width and height; the PNG has 1000 x 1000 pixels, as AlexeyAB's."""
LEFT, RIGHT, TOP, BOTTOM = 48.0, 48.0, 76.0, 44.0
CURVE_COLUMNS = 400
LOSS_COLOR, MAP_COLOR, EMA_COLOR = "first", "second", "third"


class Chart:
    """Collects the loss and the validations of a run, and redraws them to a PNG.

    history: the log of the updates before.
    Source: AlexeyAB/darknet src/detector.c train_detector, src/image_opencv.cpp draw_train_loss
    """

    def __init__(self, path: Path, net: NetSpec, history: RunLog | None = None) -> None:
        self.path, self.net = path, net
        self.averages = [(update.batch_num, update.average) for update in history.updates] if history else []
        self.maps = list(history.maps) if history else []
        self.drawn_at = -math.inf

    def __call__(self, report: UpdateReport) -> None:
        batch_num = report.batch_num
        self.averages.append((batch_num, report.average))
        is_due = batch_num % DRAW_EVERY_UPDATES == 0 and perf_counter() - self.drawn_at >= MIN_SECONDS_BETWEEN
        if is_due or batch_num == self.net.max_batches:
            self.draw()

    def judge(self, validation: LoggedMap) -> None:
        """Add a validation."""
        self.maps.append(validation)
        self.draw()

    def draw(self) -> None:
        """Write the PNG, whole."""
        drawing = draw_chart(
            self.averages,
            self.maps,
            max_batches=self.net.max_batches,
            max_loss=self.net.max_chart_loss,
            title=self.path.stem.removeprefix("chart_"),
        )
        write_atomic(self.path, [drawing.png()])
        self.drawn_at = perf_counter()


def draw_chart(
    averages: Points, maps: Sequence[LoggedMap], *, max_batches: int, max_loss: float, title: str
) -> Drawing:
    """Draw the loss from 0 to `max_loss` with its scale on the left, and the mAP or another metric in percent.

    That of the averaged weights (EMA) is a curve of its own. The scale of a loss that was always above `max_loss`,
    whose curve would not be seen, ends at its highest value.
    """
    finite = [average for _, average in averages if math.isfinite(average)]
    if finite and min(finite) > max_loss:
        max_loss = max(finite)
    last = max(
        max_batches,
        *(batch_num for batch_num, _ in averages[-1:]),
        *(validation.batch_num for validation in maps[-1:]),
        1,
    )
    x_scale = Scale(0, last, LEFT, CHART_SIDE_PX - RIGHT)
    loss_scale, map_scale = (Scale(0, high, CHART_SIDE_PX - BOTTOM, TOP) for high in (max_loss, 1))
    metric = maps[-1].name if maps else "mAP"
    curves = [Curve("average loss", LOSS_COLOR, averages, 1.3)]
    facts = [f"update {averages[-1][0]}", f"loss {averages[-1][1]:.4g}"] if averages else []
    for name, color, points in (
        (metric, MAP_COLOR, [(validation.batch_num, validation.mean) for validation in maps]),
        ("EMA", EMA_COLOR, [(validation.batch_num, validation.ema) for validation in maps]),
    ):
        if means := [mean for _, mean in points if math.isfinite(mean)]:
            curves.append(Curve(name, color, points, 1.5, dotted=True))
            facts.append(f"{name} {100 * means[-1]:.2f} %, best {100 * max(means):.2f} %")
    drawing = Drawing(CHART_SIDE_PX, CHART_SIDE_PX, f"Loss of {title}: {', '.join(facts)}")
    drawing.items.append(Text(LEFT, 24, title, "ink", size=16))
    drawing.items.append(Text(LEFT, 42, "   ".join(facts), "muted"))
    draw_legend(drawing, LEFT, 62, curves)
    draw_axes(drawing, x_scale, loss_scale, ticks=10)
    if curves[1:]:
        draw_right_axis(drawing, x_scale, map_scale, MAP_COLOR, lambda value: f"{100 * value:.0f} %")
    for curve, scale in zip(curves, (loss_scale, map_scale, map_scale), strict=False):
        draw_curve(drawing, curve, x_scale, scale, columns=CURVE_COLUMNS)
    return drawing
