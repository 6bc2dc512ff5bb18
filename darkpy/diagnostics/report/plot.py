"""Plots: scales with ticks, axes, curves and legends, for the page of a run and for the chart of a training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from darkpy.diagnostics.report.drawing import Dot, Drawing, Line, Text

MAX_LINEAR_RATIO = 30
"""Ratio of the largest to the smallest value above which a scale is logarithmic."""
LEGEND_LINE_PX, LEGEND_CHARACTER_PX = 18.0, 6.5
"""Length of a line in a legend, and the mean width of a character after it."""

Points = Sequence[tuple[float, float]]
"""Number of an update, and a value after it; or any x and y."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Scale of an axis: `low` is at pixel `start`, `high` at pixel `end`."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Pixel of a value; values beyond an end are clamped to it."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, low))
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def ticks(self, most: int = 5) -> list[float]:
        """Round numbers between both ends."""
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.floor(math.log10(self.high) + 1e-9) + 1)
            for factors in ((1, 2, 5), (1, 3), (1,)):
                values = (factor * 10.0**power for power in powers for factor in factors)
                low, high = self.low * (1 - 1e-9), self.high * (1 + 1e-9)
                ticks = [value for value in values if low <= value <= high]
                if len(ticks) <= most + 1:
                    return ticks
            return ticks[:: math.ceil((len(ticks) - 1) / most)]
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        step = 10 ** math.floor(math.log10(span / most))
        step = next(step * factor for factor in (1, 2, 5, 10) if span / (step * factor) <= most)
        first = math.ceil(self.low / step - 1e-9)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def scale_for(values: Iterable[float], start: float, end: float, *, from_zero: bool = False) -> Scale:
    """Choose a scale for all finite values; logarithmic if they are far apart.

    from_zero: begin at 0 if it is linear.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return Scale(0, 1, start, end)
    low, high = min(finite), max(finite)
    if low > 0 and high / low > MAX_LINEAR_RATIO:
        return Scale(low, high, start, end, logarithmic=True)
    low = min(0.0, low) if from_zero else low
    margin = 0.05 * (high - low) or abs(high) * 0.1 or 1
    return Scale(low if from_zero and low == 0 else low - margin, high + margin, start, end)


def format_tick(value: float) -> str:
    """Format a number as short as it can be read."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")


@dataclass(frozen=True, slots=True)
class Curve:
    """dotted: mark each point with a dot, for curves of a few points."""

    name: str
    color: str
    points: Points
    width: float = 1.5
    dotted: bool = False


def draw_axes(
    drawing: Drawing, x_scale: Scale, y_scale: Scale, *, ticks: int = 5, x_label: str = "update", x_whole: bool = True
) -> None:
    """Draw horizontal grid lines with their numbers on the left, and the numbers of `x_label` below.

    x_whole: whole numbers only.
    """
    left, right, bottom = x_scale.start, x_scale.end, y_scale.start
    for value in y_scale.ticks(ticks):
        y = y_scale(value)
        drawing.items.append(Line(((left, y), (right, y)), "grid", 1))
        drawing.items.append(Text(left - 8, y + 4, format_tick(value), "muted", "end"))
    for value in x_scale.ticks(8):
        if value == int(value) or not x_whole:
            x = x_scale(value)
            drawing.items.append(Line(((x, bottom), (x, bottom + 4)), "muted", 1))
            drawing.items.append(
                Text(x, bottom + 18, f"{value:.0f}" if x_whole else format_tick(value), "muted", "middle")
            )
    drawing.items.append(Line(((left, bottom), (right, bottom)), "muted", 1))
    drawing.items.append(Text(right, bottom + 32, x_label, "muted", "end"))


def draw_right_axis(
    drawing: Drawing, x_scale: Scale, scale: Scale, color: str, to_text: Callable[[float], str] = format_tick
) -> None:
    """Draw the numbers of a second scale on the right, in the color of its curve."""
    for value in scale.ticks():
        y = scale(value)
        drawing.items.append(Line(((x_scale.end, y), (x_scale.end + 4, y)), color, 1))
        drawing.items.append(Text(x_scale.end + 8, y + 4, to_text(value), color))


def draw_curve(drawing: Drawing, curve: Curve, x_scale: Scale, y_scale: Scale, *, columns: int) -> None:
    """Draw a curve, interrupted where values are not finite. columns: bins of updates, as in `envelope`."""
    for piece in envelope(curve.points, columns):
        places = [(x_scale(batch_num), y_scale(value)) for batch_num, value in piece]
        if curve.dotted:
            drawing.items += [Dot(x, y, curve.color) for x, y in places]
        if len(places) == 1:  # a line of one point would be invisible
            (x, y) = places[0]
            places = [(x - 1, y), (x + 1, y)]
        drawing.items.append(Line(places, curve.color, curve.width))


def draw_legend(drawing: Drawing, x: float, y: float, curves: Sequence[Curve]) -> None:
    """Draw the names of curves side by side, each behind a line of its color; y: the baseline."""
    for curve in curves:
        drawing.items.append(Line(((x, y - 4), (x + LEGEND_LINE_PX, y - 4)), curve.color, 3))
        drawing.items.append(Text(x + LEGEND_LINE_PX + 6, y, curve.name, "ink"))
        x += LEGEND_LINE_PX + 22 + LEGEND_CHARACTER_PX * len(curve.name)


def envelope(points: Points, columns: int) -> list[list[tuple[float, float]]]:
    """Reduce a curve to about 2 * `columns` points, with all its peaks; interrupted where values are not finite.

    Of each bin of updates the smallest and the largest value stay, in their order.
    """
    size = max(1, -(-len(points) // columns))
    pieces: list[list[tuple[float, float]]] = [[]]
    for start in range(0, len(points), size):
        chunk = points[start : start + size]
        finite = [point for point in chunk if math.isfinite(point[1])]
        if finite:
            ends = {min(finite, key=lambda point: point[1]), max(finite, key=lambda point: point[1])}
            pieces[-1] += sorted(ends)
        if len(finite) < len(chunk) and pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]
