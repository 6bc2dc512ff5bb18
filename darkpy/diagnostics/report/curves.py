"""Curves of a run over its updates, for its page: loss, learning rate, gradients, mAP."""

from __future__ import annotations

import math
from collections.abc import Sequence

from darkpy.diagnostics.monitor.run_log import RunLog
from darkpy.diagnostics.report.drawing import Cross, Drawing, Line, Text
from darkpy.diagnostics.report.plot import Curve, Scale, draw_axes, draw_curve, draw_legend, scale_for

WIDTH, HEIGHT = 860.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 16.0, 30.0, 34.0
CURVE_COLUMNS = 400
"""Bins of a curve: more would be less than two pixels each."""
MAX_MARKS = 200
"""Refused updates and findings that are marked, at most."""


def draw_curves(log: RunLog, label: str, curves: Sequence[Curve], *, from_zero: bool = False) -> Drawing:
    """Draw curves with one scale and a legend, a cross for each refused update, a dashed line for each finding."""
    ranges = []
    for curve in curves:
        finite = [value for _, value in curve.points if math.isfinite(value)]
        if finite:
            last = curve.points[-1][1]
            ranges.append(f"{curve.name} from {min(finite):.4g} to {max(finite):.4g}, at the end {last:.4g}")
    drawing = Drawing(WIDTH, HEIGHT, f"{label} over updates: {'; '.join(ranges) or 'no values'}")
    batch_nums = [update.batch_num for update in (*log.updates, *log.refused)] or [0]
    x_scale = Scale(min(batch_nums), max(batch_nums), LEFT, WIDTH - RIGHT)
    values = [value for curve in curves for _, value in curve.points]
    y_scale = scale_for(values, HEIGHT - BOTTOM, TOP, from_zero=from_zero)
    draw_axes(drawing, x_scale, y_scale)
    for batch_num in sorted({finding.batch_num for finding in log.findings})[:MAX_MARKS]:
        x = x_scale(batch_num)
        drawing.items.append(Line(((x, TOP), (x, HEIGHT - BOTTOM)), "bad", 0.7, dashed=True))
    for curve in curves:
        draw_curve(drawing, curve, x_scale, y_scale, columns=CURVE_COLUMNS)
    for update in log.refused[:MAX_MARKS]:
        title = f"update {update.batch_num} was refused, loss {update.loss:g}"
        drawing.items.append(Cross(x_scale(update.batch_num), TOP + 4, "bad", title))
    draw_legend(drawing, LEFT, 18, curves)
    if y_scale.logarithmic:
        drawing.items.append(Text(WIDTH - RIGHT, 18, "logarithmic", "muted", "end"))
    return drawing


def draw_loss(log: RunLog) -> Drawing:
    curves = [
        Curve("loss of an update", "second", [(update.batch_num, update.loss) for update in log.updates], 1.0),
        Curve("average", "first", [(update.batch_num, update.average) for update in log.updates], 2.0),
    ]
    return draw_curves(log, "Loss", curves, from_zero=True)


def draw_rate(log: RunLog) -> Drawing:
    rates = [(update.batch_num, update.rate) for update in log.updates]
    return draw_curves(log, "Learning rate", [Curve("learning rate", "first", rates, 2.0)], from_zero=True)


def draw_gradient(log: RunLog) -> Drawing:
    curves = [
        Curve("2-norm of all gradients", "first", [(update.batch_num, update.norm) for update in log.updates]),
        Curve("largest gradient", "second", [(update.batch_num, update.largest) for update in log.updates]),
    ]
    return draw_curves(log, "Gradients", curves)


def draw_map(log: RunLog) -> Drawing:
    means = [(validation.batch_num, validation.mean) for validation in log.maps]
    averaged = [(validation.batch_num, validation.ema) for validation in log.maps if not math.isnan(validation.ema)]
    name = log.maps[-1].name
    lines = [Curve("mean average precision" if name == "mAP" else name, "first", means, 2.0, dotted=True)]
    if averaged:
        lines.append(Curve("of the averaged weights (EMA)", "second", averaged, 2.0, dotted=True))
    return draw_curves(log, name, lines, from_zero=True)
