"""Heat maps: one figure of every layer, from the first measurement to the last.

Letters: R layers, L looks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from darkpy.diagnostics.monitor.run_log import RunLog
from darkpy.diagnostics.report.drawing import Drawing, Raster, Text
from darkpy.diagnostics.report.plot import format_tick

W, LEFT, RIGHT, TOP, BOTTOM = 860.0, 150.0, 96.0, 12.0, 34.0
MAX_COLUMNS = 240
"""Columns of a map; of more measurements several make one column, with the highest value."""
ROW_LEAST, ROW_MOST = 6.0, 18.0
MAX_MAP_HEIGHT = 520.0
"""Pixels of a map of many layers, unless its rows would be too low."""
LABEL_H = 13.0
_VIRIDIS_RGB = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
"""Colors of viridis from low to high, distinct for the color-blind and in gray."""


@dataclass(frozen=True, slots=True)
class HeatMapFigure:
    """Figure of the layers in a log.

    name: in the log. low, high: ends of the color scale; None for the smallest and the largest value.

    is_log: equal factors are equal steps of color.
    """

    name: str
    title: str
    description: str
    low: float | None = None
    high: float | None = None
    is_log: bool = False


HEAT_MAP_FIGURES = (
    HeatMapFigure("zero", "Zeros", "Share of a layer's outputs that are 0.", 0, 1),
    HeatMapFigure("clamped", "Clamped deltas", "Share of the deltas at a layer's output that constrain= clamps.", 0, 1),
    HeatMapFigure(
        "ratio", "Update to weight", "Norm of an update over the norm of the weights; .001 is usual.", is_log=True
    ),
    HeatMapFigure("gradient", "Gradients", "The 2-norm of a layer's gradients.", is_log=True),
    HeatMapFigure("dead", "Dead units", "Share of units whose output has not changed for long.", 0, 1),
)


@dataclass(frozen=True, slots=True)
class Heat:
    """rows: indices of the layers; looks: the last update of each column; value_RL: NaN where there is no value.

    looks_per_column: measurements whose highest value a column shows.
    """

    figure: HeatMapFigure
    rows: tuple[int, ...]
    looks: tuple[int, ...]
    value_RL: NDArray[np.float64]
    looks_per_column: int = 1

    @property
    def is_zero(self) -> bool:
        """True if all values are 0."""
        return not np.nan_to_num(self.value_RL, nan=0, posinf=1, neginf=1).any()


def gather(log: RunLog, figure: HeatMapFigure) -> Heat | None:
    """Collect one figure of all layers from a log; None if it has none."""
    looked = [one for one in log.updates if figure.name in one.layers]
    layers = len(log.run.layers)
    if not looked or not layers:
        return None
    size = -(-len(looked) // MAX_COLUMNS)
    columns = []
    for start in range(0, len(looked), size):
        table = np.full((len(looked[start : start + size]), layers), np.nan)
        for row, update in zip(table, looked[start : start + size], strict=True):
            values = [math.nan if value is None else value for value in update.layers[figure.name][:layers]]
            row[: len(values)] = values
        columns.append(np.fmax.reduce(table, axis=0))  # the highest of several, NaN if none of them has a value
    value_RL = np.stack(columns, axis=1)
    rows = np.flatnonzero(~np.isnan(value_RL).all(axis=1))
    if not len(rows):
        return None
    looks = tuple(looked[min(start + size, len(looked)) - 1].batch_num for start in range(0, len(looked), size))
    return Heat(figure, tuple(map(int, rows)), looks, value_RL[rows], size)


def draw_heat(log: RunLog, heat: Heat) -> Drawing:
    """Draw layers from top to bottom, updates from left to right, and the color scale."""
    row_h = min(ROW_MOST, max(ROW_LEAST, MAX_MAP_HEIGHT / len(heat.rows)))
    map_w, map_h = W - LEFT - RIGHT, row_h * len(heat.rows)
    figure, values = heat.figure, heat.value_RL[np.isfinite(heat.value_RL)]
    if figure.is_log:
        values = values[values > 0]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    low = low if figure.low is None else figure.low
    high = high if figure.high is None else figure.high
    last = [(float(value), row) for value, row in zip(heat.value_RL[:, -1], heat.rows, strict=True) if value == value]
    highest = ", ".join(
        f"{value:.3g} in layer {row} [{log.run.layers[row].type}]" for value, row in sorted(last, reverse=True)[:3]
    )
    label = f"{figure.title} of {len(heat.rows)} layers over updates; highest at the end: {highest or 'no values'}"
    drawing = Drawing(W, max(map_h, 80) + TOP + BOTTOM, label)
    drawing.items.append(Raster(LEFT, TOP, map_w, map_h, color(_shares(heat.value_RL, low, high, figure.is_log))))
    every = max(1, math.ceil(LABEL_H / row_h))
    for row in range(0, len(heat.rows), every):
        layer = log.run.layers[heat.rows[row]]
        y = TOP + (row + 0.5) * row_h + 4
        drawing.items.append(Text(LEFT - 8, y, f"{layer.index} {layer.type[:16]}", "muted", "end"))
    for column in sorted({0, len(heat.looks) // 2, len(heat.looks) - 1}):
        x = LEFT + (column + 0.5) / len(heat.looks) * map_w
        drawing.items.append(Text(x, TOP + map_h + 18, f"{heat.looks[column]}", "muted", "middle"))
    columns = "a measurement" if heat.looks_per_column == 1 else f"the highest of {heat.looks_per_column} measurements"
    unequal = ", at unequal distances" if np.unique(np.diff(heat.looks)).size > 1 else ""
    caption = f"update; each column is {columns}{unequal}"
    drawing.items.append(Text(LEFT + map_w, TOP + map_h + 32, caption, "muted", "end"))
    # the color scale beside the map, with the values of both ends
    x, h = W - RIGHT + 18, min(160.0, drawing.h - TOP - BOTTOM)
    drawing.items.append(Raster(x, TOP, 12, h, color(np.linspace(1, 0, 64)[:, None])))
    drawing.items.append(Text(x + 18, TOP + 10, format_tick(high), "ink"))
    drawing.items.append(Text(x + 18, TOP + h, format_tick(low), "ink"))
    return drawing


def color(share_RL: NDArray[np.float64]) -> PIL.Image.Image:
    """Color each share from 0 to 1; transparent for NaN, magenta for infinite values."""
    stops = np.array(_VIRIDIS_RGB, dtype=float)
    place_RL = np.clip(np.nan_to_num(share_RL, posinf=1, neginf=0), 0, 1) * (len(stops) - 1)
    below_RL = np.minimum(place_RL.astype(int), len(stops) - 2)
    part_RL1 = (place_RL - below_RL)[..., None]
    rgb_RL3 = stops[below_RL] * (1 - part_RL1) + stops[below_RL + 1] * part_RL1
    rgb_RL3[np.isinf(share_RL)] = (255, 0, 255)
    alpha_RL1 = np.where(np.isnan(share_RL), 0, 255)[..., None]
    return PIL.Image.fromarray(np.concatenate((rgb_RL3, alpha_RL1), axis=2).round().astype(np.uint8), "RGBA")


def _shares(value_RL: NDArray[np.float64], low: float, high: float, is_log: bool) -> NDArray[np.float64]:
    if high <= low:
        return np.where(np.isfinite(value_RL), 0.5, value_RL)
    if not is_log or low <= 0:
        return (value_RL - low) / (high - low)
    return np.asarray(np.log(np.maximum(value_RL, low) / low) / math.log(high / low))
