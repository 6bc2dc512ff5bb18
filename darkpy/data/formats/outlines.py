"""Boxes around outlines that are not upright boxes: points, rotated rectangles, ellipses and run-length masks.

Letters: N runs, values or bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpy.data.formats.annotations import BoxPx

RGBA_CHANNELS = 4


def box_around(points: Iterable[tuple[float, float]]) -> BoxPx:
    """Return the smallest box around at least one point."""
    x_N, y_N = zip(*points, strict=True)
    return BoxPx(min(x_N), min(y_N), max(x_N), max(y_N))


def box_around_rectangle(x: float, y: float, w: float, h: float, degrees: float) -> BoxPx:
    """Return the box around a rectangle that is rotated clockwise around its upper left corner, x and y."""
    if not degrees:
        return BoxPx(x, y, x + w, y + h)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return box_around((x + a * cos - b * sin, y + a * sin + b * cos) for a in (0, w) for b in (0, h))


def box_around_ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0) -> BoxPx:
    """Return the box around an ellipse that is rotated around its center, x and y."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    half_w, half_h = math.hypot(radius_x * cos, radius_y * sin), math.hypot(radius_x * sin, radius_y * cos)
    return BoxPx(x - half_w, y - half_h, x + half_w, y + half_h)


def box_around_coco_mask(mask: Mapping[str, Any]) -> BoxPx | None:
    """Return the box around the pixels of COCO's run-length mask, a list or a string; None if it is malformed or empty.

    Letters of a string have 5 bits of a number each, the lowest first; from the third run on they are differences.

    Source: cocodataset/cocoapi common/maskApi.c rleFrString
    """
    size, counts = mask.get("size"), mask.get("counts")
    if (
        not isinstance(size, list)
        or len(size) != 2
        or not all(type(side) is int and 0 < side < 1 << 20 for side in size)
    ):
        return None
    rows, columns = size
    if isinstance(counts, str):
        decoded: list[int] = []
        value = shift = 0
        for letter in counts:
            bits = ord(letter) - 48
            if not 0 <= bits < 64 or shift > 40:
                return None
            value |= (bits & 31) << shift
            shift += 5
            if not bits & 32:
                value -= (bits & 16) and 1 << shift
                decoded.append(value + (decoded[-2] if len(decoded) > 2 else 0))
                value = shift = 0
        counts = decoded
    if not isinstance(counts, list) or not all(type(count) is int and 0 <= count <= 1 << 40 for count in counts):
        return None
    ends_N = np.cumsum(np.array(counts, np.int64)) if len(counts) < 1 << 20 else np.zeros(1, np.int64)
    if not len(ends_N) or ends_N[-1] != rows * columns:
        return None
    # pixels are counted down the columns; runs of background and object alternate
    start_N, end_N = ends_N[:-1:2], ends_N[1::2]
    start_N, end_N = start_N[: len(end_N)][end_N > start_N], end_N[end_N > start_N]
    if not len(start_N):
        return None
    column_N, last_N = start_N // rows, (end_N - 1) // rows
    is_whole_N = last_N > column_N  # a run over the end of a column
    top_N = np.where(is_whole_N, 0, start_N % rows)
    bottom_N = np.where(is_whole_N, rows, (end_N - 1) % rows + 1)
    return BoxPx(float(column_N.min()), float(top_N.min()), float(last_N.max() + 1), float(bottom_N.max()))


class BitReader:
    """Reads integers from a stream of bits. Raises: ValueError at its end."""

    def __init__(self, data: bytes) -> None:
        self._bits_N = np.unpackbits(np.frombuffer(data, np.uint8))
        self._position = 0

    def read(self, bits: int, count: int = 1) -> NDArray[np.int64]:
        end = self._position + count * bits
        if end > len(self._bits_N):
            raise ValueError("the mask ends early")
        rows = self._bits_N[self._position : end].reshape(count, bits)
        self._position = end
        values: NDArray[np.int64] = rows @ (1 << np.arange(bits - 1, -1, -1, dtype=np.int64))
        return values


def box_around_studio_mask(data: bytes, w: int, h: int) -> BoxPx | None:
    """Return the box around the pixels of Label Studio's mask that are not transparent; None if there is none.

    The stream of bits starts with the number of values (32 bits), their size less 1 (5 bits), and four sizes of lengths
    less 1 (4 bits each). Runs of RGBA values follow: 1 bit for a repeated value, 2 bits that choose the size of its
    length, the length less 1, and the value, or all values of the run.

    Raises: ValueError when the mask is malformed, or not of w x h pixels.
    """
    reader = BitReader(data)
    total, value_bits = int(reader.read(32)[0]), int(reader.read(5)[0]) + 1
    length_bits = reader.read(4, 4) + 1
    if total != w * h * RGBA_CHANNELS:
        raise ValueError(f"the mask is not of {w} x {h} pixels")
    left, top, right, bottom = w, h, 0, 0
    position = 0
    while position < total:
        is_repeated, choice = reader.read(1)[0], reader.read(2)[0]
        length = int(reader.read(int(length_bits[choice]))[0]) + 1
        if position + length > total:
            raise ValueError("the mask is larger than its image")
        values_N = reader.read(value_bits, 1 if is_repeated else length)
        offset = (RGBA_CHANNELS - 1 - position) % RGBA_CHANNELS  # of the first alpha value, the last of a pixel
        alphas = len(range(offset, length, RGBA_CHANNELS))
        visible_N = np.flatnonzero(np.full(alphas, values_N[0]) if is_repeated else values_N[offset::RGBA_CHANNELS])
        if len(visible_N):
            row_N, column_N = np.divmod((position + offset) // RGBA_CHANNELS + visible_N, w)
            left, right = min(left, int(column_N.min())), max(right, int(column_N.max()) + 1)
            top, bottom = min(top, int(row_N[0])), max(bottom, int(row_N[-1]) + 1)
        position += length
    return BoxPx(left, top, right, bottom) if right else None
