"""Scales: from numbers to pixels, with the few numbers that are written beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDE = 30
"""Largest number by smallest from which only logarithms show both."""


@dataclass(frozen=True, slots=True)
class Scale:
    """low and high are at the pixels `start` and `end`. is_log: equal factors are equally far apart."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a number; what lies beyond an end is at that end."""
        low, high, value = (self._flat(one) for one in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def _flat(self, value: float) -> float:
        return math.log10(max(value, self.low)) if self.is_log else value

    def ticks(self, most: int = 5) -> list[float]:
        """Round numbers between both ends."""
        if self.is_log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            if last - first >= 1:
                return [10.0**power for power in range(first, last + 1, max(1, -(-(last - first) // most)))]
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        step = 10 ** math.floor(math.log10(span / most))
        step = next(step * factor for factor in (1, 2, 5, 10) if span / (step * factor) <= most)
        first = math.ceil(self.low / step - 1e-9)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def scale_for(values: Iterable[float], start: float, end: float, *, from_zero: bool = False) -> Scale:
    """A scale on which all finite numbers have a place; of logarithms where they are far apart.

    from_zero: begin at 0 where it is not of logarithms.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return Scale(0, 1, start, end)
    low, high = min(finite), max(finite)
    if low > 0 and high / low > WIDE:
        return Scale(low, high, start, end, is_log=True)
    low = min(0.0, low) if from_zero else low
    margin = 0.05 * (high - low) or abs(high) * 0.1 or 1
    return Scale(low if from_zero and low == 0 else low - margin, high + margin, start, end)


def shown(value: float) -> str:
    """A number as short as it can be read."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")


def envelope(points: Sequence[tuple[int, float]], most: int) -> list[list[tuple[int, float]]]:
    """A curve of at most some 2 * `most` points with all its peaks; broken where there is no number.

    Of each bin of updates the smallest and the largest number stay, in their order.
    """
    size = max(1, -(-len(points) // most))
    pieces: list[list[tuple[int, float]]] = [[]]
    for start in range(0, len(points), size):
        several = points[start : start + size]
        finite = [point for point in several if math.isfinite(point[1])]
        if finite:
            ends = {min(finite, key=lambda point: point[1]), max(finite, key=lambda point: point[1])}
            pieces[-1] += sorted(ends)
        if len(finite) < len(several) and pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]
