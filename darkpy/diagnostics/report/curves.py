"""Curves over a run's updates: loss, rate, gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from darkpy.diagnostics.monitor.log_reader import RunLog
from darkpy.diagnostics.report.axes import Scale, envelope, scale_for, shown
from darkpy.diagnostics.report.drawing import Drawing, Line, Mark, Word

W, H = 860.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 16.0, 30.0, 34.0
COLUMNS = 400
"""Bins of a curve: more would be less than two pixels each."""
MARKED = 200
"""Refused updates that are marked, at most."""

Points = Sequence[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class Curve:
    name: str
    color: str
    points: Points
    width: float = 1.5


def updates_scale(log: RunLog, start: float, end: float) -> Scale:
    """From the first update to the last, those that were refused included."""
    numbers = [one.batch_num for one in (*log.updates, *log.refused)] or [0]
    return Scale(min(numbers), max(numbers), start, end)


def draw_curves(log: RunLog, label: str, curves: Sequence[Curve], *, from_zero: bool = False) -> Drawing:
    """Curves with one scale, a legend, a cross for each refused update and a dashed line for each finding's update."""
    drawing = Drawing(W, H, _told(label, curves))
    across = updates_scale(log, LEFT, W - RIGHT)
    values = [value for curve in curves for _, value in curve.points]
    down = scale_for(values, H - BOTTOM, TOP, from_zero=from_zero)
    _draw_axes(drawing, across, down)
    for number in sorted({one.batch_num for one in log.findings})[:MARKED]:
        x = across(number)
        drawing.items.append(Line(((x, TOP), (x, H - BOTTOM)), "bad", 0.7, is_dashed=True))
    for curve in curves:
        for piece in envelope(curve.points, COLUMNS):
            places = [(across(n), down(value)) for n, value in piece]
            places = places if len(places) > 1 else [(places[0][0] - 1, places[0][1]), (places[0][0] + 1, places[0][1])]
            drawing.items.append(Line(places, curve.color, curve.width))
    for one in log.refused[:MARKED]:
        said = f"update {one.batch_num} was refused, loss {one.loss:g}"
        drawing.items.append(Mark(across(one.batch_num), TOP + 4, "bad", said))
    x = LEFT
    for curve in curves:
        drawing.items.append(Line(((x, 14), (x + 18, 14)), curve.color, 3))
        drawing.items.append(Word(x + 24, 18, curve.name, "ink"))
        x += 40 + 7 * len(curve.name)
    if down.is_log:
        drawing.items.append(Word(W - RIGHT, 18, "logarithmic", "muted", "end"))
    return drawing


def draw_loss(log: RunLog) -> Drawing:
    curves = [
        Curve("loss of an update", "second", [(one.batch_num, one.loss) for one in log.updates], 1.0),
        Curve("average", "first", [(one.batch_num, one.average) for one in log.updates], 2.0),
    ]
    return draw_curves(log, "Loss", curves, from_zero=True)


def draw_rate(log: RunLog) -> Drawing:
    rates = [(one.batch_num, one.rate) for one in log.updates]
    return draw_curves(log, "Learning rate", [Curve("learning rate", "first", rates, 2.0)], from_zero=True)


def draw_gradient(log: RunLog) -> Drawing:
    curves = [
        Curve("2-norm of all gradients", "first", [(one.batch_num, one.norm) for one in log.updates]),
        Curve("the largest one", "second", [(one.batch_num, one.largest) for one in log.updates]),
    ]
    return draw_curves(log, "Gradients", curves)


def draw_map(log: RunLog) -> Drawing:
    means = [(one.batch_num, one.mean) for one in log.maps]
    return draw_curves(log, "mAP", [Curve("mean average precision", "first", means, 2.0)], from_zero=True)


def _draw_axes(drawing: Drawing, across: Scale, down: Scale) -> None:
    for value in down.ticks():
        y = down(value)
        drawing.items.append(Line(((LEFT, y), (W - RIGHT, y)), "grid", 1))
        drawing.items.append(Word(LEFT - 8, y + 4, shown(value), "muted", "end"))
    for value in across.ticks(8):
        if value == int(value):
            drawing.items.append(Word(across(value), H - BOTTOM + 18, f"{int(value)}", "muted", "middle"))
    drawing.items.append(Word(W - RIGHT, H - 2, "update", "muted", "end"))


def _told(label: str, curves: Sequence[Curve]) -> str:
    """What the curves show, in words."""
    said = []
    for curve in curves:
        finite = [value for _, value in curve.points if math.isfinite(value)]
        if finite:
            last = curve.points[-1][1]
            said.append(f"{curve.name} from {min(finite):.4g} to {max(finite):.4g}, at the end {last:.4g}")
    return f"{label} over updates: {'; '.join(said) or 'no numbers'}"
