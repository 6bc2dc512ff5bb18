"""Boxes and labels on an image, legible whatever its size."""

from __future__ import annotations

import colorsys
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from darkpy.finding import printable

if TYPE_CHECKING:
    from darkpy.evaluation.counting import RegionCount
    from darkpy.evaluation.result import BoxFrac, Object

Color = tuple[int, int, int]
Rect = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; the pixels of right and bottom belong to it."""
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

LINE_WIDTH_SHARE, FONT_SIZE_SHARE = 0.004, 0.026
"""Line width and font size, as shares of the side of a square with the image's area."""
MIN_FONT_SIZE, MIN_FITTED_FONT_SIZE = 11, 8
"""Smallest font sizes: for a small image, and for a label too long for its image."""
GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
COLOR_TIERS, CLASSES_PER_TIER = ((0.85, 0.95), (0.45, 1.0), (0.95, 0.6)), 5
"""Saturation and value of the first classes, of the next ones, and so on in turn."""
REGION_COLOR, REGION_EDGE_COLOR = (255, 255, 255), (0, 0, 0)
MAX_COMPARED_BOXES = 64
"""Boxes up to which each label is compared with each of them."""
MAX_COVERAGE_CELLS = 1 << 20
"""Cells of the grid in which the pixels under boxes are counted; each is one pixel of smaller images."""


@dataclass(frozen=True, slots=True)
class _Label:
    text: str
    font: Font
    rect: Rect
    color: Color


def draw(
    image_HW3: NDArray[np.uint8],
    objects: Sequence[Object],
    counts: Sequence[RegionCount] = (),
    *,
    line_width: int | None = None,
    labels: bool = True,
    scores: bool = True,
) -> Image.Image:
    """Draw a box and a label for each object, those with the highest confidence on top.

    A box of several classes is drawn once, in the color of the best one, with all of them on its label. A label that
    does not fit into the image, or would be half hidden by better ones, is omitted, and so is a box outside the image.

    counts: lines and zones to draw above the boxes, with their counts as labels.
    line_width: in pixels; None fits the image's size. labels: write the names. scores: write the scores beside them.
    Returns: a new image.
    """
    image = Image.fromarray(image_HW3)  # a copy: Pillow keeps RGB in four bytes
    pen = ImageDraw.Draw(image)
    side = math.sqrt(image.width * image.height)
    line = line_width or max(1, round(LINE_WIDTH_SHARE * side))
    font_size = max(MIN_FONT_SIZE, round(FONT_SIZE_SHARE * side))

    by_box: dict[BoxFrac, list[Object]] = {}
    for detected in sorted(objects, key=lambda detected: -detected.confidence):
        by_box.setdefault(detected.box_frac, []).append(detected)
    boxes = [
        (rect, classes)
        for box_frac, classes in by_box.items()
        if (rect := _pixels(box_frac, image.width, image.height))
    ]
    for rect, classes in reversed(boxes):
        pen.rectangle(rect, outline=class_color(classes[0].class_id), width=line)
    placed: list[_Label] = []
    taken, coverage = _Rects(), _Coverage([rect for rect, _ in boxes] if labels else [], image.size)
    for rect, classes in boxes if labels else ():
        names = [f"{detected.label}: {detected.confidence:.2f}" if scores else detected.label for detected in classes]
        color = class_color(classes[0].class_id)
        if label := _place_label(rect, ", ".join(names), color, taken, coverage, image.size, font_size):
            placed.append(label)
            taken.append(label.rect)
    for count in counts:
        corners = [*count.region.corners, count.region.corners[0]]
        for color, width in ((REGION_EDGE_COLOR, line + 2), (REGION_COLOR, line)):
            pen.line(corners, fill=color, width=width)
        text, font, width, height = _fit(str(count), image.width, font_size)
        if labels and text:
            x, y = (
                round(min(max(place, 0), limit))
                for place, limit in zip(corners[0], (image.width - width, image.height - height), strict=True)
            )
            placed.insert(0, _Label(text, font, (x, y, x + width - 1, y + height - 1), REGION_COLOR))
    for label in reversed(placed):
        _write_label(pen, label)
    return image


def draw_masks(
    image_HW3: NDArray[np.uint8], best_HW: NDArray[np.integer[Any]], legend: Sequence[tuple[int, str]]
) -> Image.Image:
    """Color the pixels of each class, and write a legend into the upper left corner as far as it fits.

    best_HW: class of each pixel, -1 for none. legend: class and text of each line.
    """
    colors_K3 = np.array([(0, 0, 0), *(class_color(class_id) for class_id in range(int(best_HW.max()) + 1))], np.uint16)
    pixels_HW3 = image_HW3.copy()
    for row_W3, best_W in zip(pixels_HW3, best_HW, strict=True):  # by rows: sums of a whole image need much memory
        is_class_W = best_W >= 0
        row_W3[is_class_W] = (row_W3[is_class_W] + colors_K3[best_W[is_class_W] + 1]) // 2
    image = Image.fromarray(pixels_HW3)
    pen = ImageDraw.Draw(image)
    font_size = max(MIN_FONT_SIZE, round(FONT_SIZE_SHARE * math.sqrt(image.width * image.height)))
    top = 0
    for class_id, name in legend:
        text, font, width, height = _fit(name, image.width, font_size)
        if not text or top + height > image.height:
            break
        _write_label(pen, _Label(text, font, (0, top, width - 1, top + height - 1), class_color(class_id)))
        top += height
    return image


def class_color(class_id: int) -> Color:
    """Color of a class, the same in every image.

    Hues advance by the golden ratio, so that any number of successive classes are spread evenly over the color circle.
    After five classes they come near to former ones, which saturation and value then tell apart.
    """
    saturation, value = COLOR_TIERS[class_id // CLASSES_PER_TIER % len(COLOR_TIERS)]
    red, green, blue = colorsys.hsv_to_rgb(class_id * GOLDEN_RATIO % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _pixels(box_frac: BoxFrac, width: int, height: int) -> Rect | None:
    """Pixels of a box, clipped to the image; None for a box outside it or with NaN."""
    x, y, w, h = box_frac
    left, right = (x - w / 2) * width, (x + w / 2) * width
    top, bottom = (y - h / 2) * height, (y + h / 2) * height
    if not (left < width and right > 0 and top < height and bottom > 0):
        return None
    first_x, first_y = math.floor(max(left, 0)), math.floor(max(top, 0))
    last_x, last_y = math.ceil(min(right, width)) - 1, math.ceil(min(bottom, height)) - 1
    return first_x, first_y, max(first_x, last_x), max(first_y, last_y)


def _place_label(
    rect: Rect, text: str, color: Color, taken: _Rects, coverage: _Coverage, size: tuple[int, int], font_size: int
) -> _Label | None:
    """Place a label at a corner of a box, inside the image, where it hides least of labels and objects."""
    text, font, width, height = _fit(text[: size[0]], size[0], font_size)  # a letter is at least a pixel wide
    if not text or height > size[1]:
        return None
    left, top, right, bottom = rect
    candidates = []
    for y in (top - height, bottom + 1, top, bottom + 1 - height):
        for x in (left, right + 1 - width):
            x_inside, y_inside = min(max(x, 0), size[0] - width), min(max(y, 0), size[1] - height)
            candidates.append((x_inside, y_inside, x_inside + width - 1, y_inside + height - 1))
    hidden_C = taken.shared_pixels(candidates)
    is_legible_C = 2 * hidden_C <= width * height
    if not is_legible_C.any():
        return None
    # a label of which a tenth is hidden is as bad as one that covers a whole object
    cost_C = (10 * hidden_C / (width * height) + coverage.hidden_objects(candidates)).round(6)
    best = int(np.where(is_legible_C, cost_C, np.inf).argmin())
    return _Label(text, font, candidates[best], color)


def _write_label(pen: ImageDraw.ImageDraw, label: _Label) -> None:
    red, green, blue = label.color
    is_light = 0.299 * red + 0.587 * green + 0.114 * blue > 140  # ITU-R BT.601 luma
    pen.rectangle(label.rect, fill=label.color)
    left, top, right, bottom = label.rect
    middle = ((left + right + 1) / 2, (top + bottom + 1) / 2)
    pen.text(middle, label.text, fill="black" if is_light else "white", font=label.font, anchor="mm")


@functools.lru_cache(maxsize=4096)
def _fit(text: str, max_width: int, font_size: int) -> tuple[str, Font, int, int]:
    """Fit a text into a width, smaller or truncated if need be. Returns: text, font, width and height of the label."""
    font, pad = _font(font_size)
    # a letter is at least a quarter as wide as it is high: more letters than this get the smallest font anyway
    length = font.getlength(text[: max_width // 2 + 1]) + 2 * pad
    if length > max_width:
        font, pad = _font(max(MIN_FITTED_FONT_SIZE, math.floor(font_size * max_width / length)))
    text = truncate_text(text, font, max_width - 2 * pad)
    return text, font, math.ceil(font.getlength(text)) + 2 * pad, _line_height(font) + 2 * pad


def truncate_text(text: str, font: Font, max_width: float, *, keep_end: bool = False) -> str:
    """Shorten a text to a width with an ellipsis at its end, or at its start; empty if not one letter fits.

    Only about twice as many letters as fit are measured, however long the text is. What is not printable is escaped.
    """
    text = printable(text)

    def shortened(letters: int) -> str:
        return f"…{text[len(text) - letters :]}" if keep_end else f"{text[:letters]}…"

    fits, too_long = 0, 32
    while too_long < len(text) and font.getlength(shortened(too_long)) <= max_width:
        fits, too_long = too_long, 2 * too_long
    if too_long >= len(text):
        if font.getlength(text) <= max_width:
            return text
        too_long = len(text)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if font.getlength(shortened(middle)) <= max_width:
            fits = middle
        else:
            too_long = middle
    return shortened(fits) if fits else ""


@functools.cache
def _font(size: int) -> tuple[Font, int]:
    """Pillow's built-in font, which needs no file, and the margin around its text."""
    return ImageFont.load_default(size), max(1, size // 8)


@functools.cache
def _line_height(font: Font) -> int:
    return math.ceil(font.getbbox("Agjpqy|")[3])


class _Rects:
    """Rectangles in an array that grows, so that many are compared at once.

    On an image there are at most twice as many labels as fit beside each other: each hides at most half of itself.
    """

    def __init__(self) -> None:
        self._rect_N4: NDArray[np.int64] = np.empty((64, 4), np.int64)
        self._count = 0

    def append(self, rect: Rect) -> None:
        if self._count == len(self._rect_N4):
            self._rect_N4 = np.concatenate((self._rect_N4, np.empty_like(self._rect_N4)))
        self._rect_N4[self._count] = rect
        self._count += 1

    def shared_pixels(self, rects: Sequence[Rect]) -> NDArray[np.int64]:
        """Sum of the pixels that each of some rectangles has in common with these."""
        shared_R: NDArray[np.int64] = _shared_pixels(rects, self._rect_N4[: self._count]).sum(axis=1)
        return shared_R


def _shared_pixels(rects: Sequence[Rect], rect_N4: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pixels that each of some rectangles has in common with each of others, (R, N)."""
    rect_R14 = np.array(rects)[:, None]
    sides_RN2 = np.minimum(rect_R14[..., 2:], rect_N4[:, 2:]) - np.maximum(rect_R14[..., :2], rect_N4[:, :2]) + 1
    shared_RN: NDArray[np.int64] = sides_RN2.clip(0).prod(axis=2)
    return shared_RN


class _Coverage:
    """Share of each object that is under a pixel, summed over rectangles in a time that does not grow with the boxes.

    Of many boxes each spreads 1 over its cells (a difference array, summed), and a summed-area table answers for
    rectangles; few are compared with them, which is faster than the sums.
    """

    def __init__(self, rects: Sequence[Rect], size: tuple[int, int]) -> None:
        self._few_N4 = np.array(rects, np.int64).reshape(-1, 4) if len(rects) <= MAX_COMPARED_BOXES else None
        if self._few_N4 is not None:
            return
        self._cell = max(1, math.ceil(math.sqrt(size[0] * size[1] / MAX_COVERAGE_CELLS)))
        rows, columns = (side // self._cell + 2 for side in reversed(size))
        table_YX = np.zeros((rows, columns))
        left_N, top_N, right_N, bottom_N = self._cells(rects)
        share_N = 1 / ((right_N - left_N) * (bottom_N - top_N))
        for y_N, x_N in ((top_N, left_N), (bottom_N, right_N)):
            np.add.at(table_YX, (y_N, x_N), share_N)
        for y_N, x_N in ((top_N, right_N), (bottom_N, left_N)):
            np.subtract.at(table_YX, (y_N, x_N), share_N)
        table_YX = table_YX.cumsum(0).cumsum(1).cumsum(0).cumsum(1)
        self._sum_YX = np.pad(table_YX, ((1, 0), (1, 0)))

    def hidden_objects(self, rects: Sequence[Rect]) -> NDArray[np.float64]:
        """Sum of the shares of all objects under each of some rectangles."""
        if self._few_N4 is not None:
            area_N = (self._few_N4[:, 2:] - self._few_N4[:, :2] + 1).prod(axis=1)
            hidden_R: NDArray[np.float64] = (_shared_pixels(rects, self._few_N4) / area_N).sum(axis=1)
            return hidden_R
        left_R, top_R, right_R, bottom_R = self._cells(rects)
        table = self._sum_YX
        return table[bottom_R, right_R] - table[top_R, right_R] - table[bottom_R, left_R] + table[top_R, left_R]

    def _cells(self, rects: Sequence[Rect]) -> tuple[NDArray[np.int64], ...]:
        """First column and row, and those after the last, of rectangles in the grid."""
        left_N, top_N, right_N, bottom_N = np.array(rects).T // self._cell
        return left_N, top_N, right_N + 1, bottom_N + 1
