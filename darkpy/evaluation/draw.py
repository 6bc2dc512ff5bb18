"""Boxes and labels on an image, legible whatever its size."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from darkpy.evaluation.objects import BoxFrac, Object

Color = tuple[int, int, int]
Rect = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; the pixels of right and bottom belong to it."""
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

LINE, FONT = 0.004, 0.026
"""Line width and font size, as shares of the side of a square as large as the image."""
READABLE, SMALLEST = 11, 8
"""Font sizes: the least for a small image, and the least for a label too long for its image."""
GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True)
class _Label:
    text: str
    font: Font
    rect: Rect
    color: Color


def draw(image_HW3: NDArray[np.uint8], objects: Sequence[Object]) -> Image.Image:
    """The image with a box around each object and a label that says what it is, the surest on top.

    A box of several classes is drawn once, in the color of the best one, with all of them on its label. A label that
    finds no room inside the image, or only under better ones, is left out, and so is a box outside the image.

    Returns: a new image; the array given is left as it was.
    """
    image = Image.fromarray(image_HW3)  # a copy: Pillow keeps RGB in four bytes
    pen = ImageDraw.Draw(image)
    side = math.sqrt(image.width * image.height)
    line, font_size = max(1, round(LINE * side)), max(READABLE, round(FONT * side))

    shown = [
        (rect, seen)
        for box_frac, seen in _by_box(objects).items()
        if (rect := _pixels(box_frac, image.width, image.height))
    ]
    for rect, seen in reversed(shown):
        pen.rectangle(rect, outline=class_color(seen[0].class_id), width=line)
    labels: list[_Label] = []
    for rect, seen in shown:
        if label := _label(rect, seen, [other.rect for other in labels], image.size, font_size):
            labels.append(label)
    for label in reversed(labels):
        _write(pen, label)
    return image


def class_color(class_id: int) -> Color:
    """The color of a class, the same in every image; one class is far in hue from the next."""
    red, green, blue = colorsys.hsv_to_rgb(class_id * GOLDEN_RATIO % 1, 0.85, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def _by_box(objects: Sequence[Object]) -> dict[BoxFrac, list[Object]]:
    """What each box shows: surest box first, surest class of a box first."""
    seen: dict[BoxFrac, list[Object]] = {}
    for one in sorted(objects, key=lambda one: -one.confidence):
        seen.setdefault(one.box_frac, []).append(one)
    return seen


def _pixels(box_frac: BoxFrac, width: int, height: int) -> Rect | None:
    """The pixels of a box, clipped to the image; None for a box outside it or of NaN."""
    x, y, w, h = box_frac
    left, right = (x - w / 2) * width, (x + w / 2) * width
    top, bottom = (y - h / 2) * height, (y + h / 2) * height
    if not (left < width and right > 0 and top < height and bottom > 0):
        return None
    first_x, first_y = math.floor(max(left, 0)), math.floor(max(top, 0))
    last_x, last_y = math.ceil(min(right, width)) - 1, math.ceil(min(bottom, height)) - 1
    return first_x, first_y, max(first_x, last_x), max(first_y, last_y)


def _label(
    rect: Rect, seen: Sequence[Object], taken: Sequence[Rect], size: tuple[int, int], font_size: int
) -> _Label | None:
    """A label beside a box, inside the image, as clear of the labels already there as can be."""
    text = ", ".join(f"{one.name}: {one.confidence:.2f}" for one in seen)
    text, font, width, height = _fit(text, size[0], font_size)
    if not text or height > size[1]:
        return None
    left, top, right, bottom = rect
    places = []
    for y in (top - height, bottom + 1, top, bottom + 1 - height):
        for x in (left, right + 1 - width):
            x_inside, y_inside = min(max(x, 0), size[0] - width), min(max(y, 0), size[1] - height)
            places.append((x_inside, y_inside, x_inside + width - 1, y_inside + height - 1))
    hidden = [sum(_shared(place, other) for other in taken) for place in places]
    best = places[hidden.index(min(hidden))]
    if 2 * min(hidden) > width * height:
        return None
    return _Label(text, font, best, class_color(seen[0].class_id))


def _fit(text: str, room: int, font_size: int) -> tuple[str, Font, int, int]:
    """A text that fits into so many pixels, smaller or cut where it must be, its font, and the size of its label."""
    font, pad = _font(font_size)
    length = font.getlength(text) + 2 * pad
    if length > room:
        font, pad = _font(max(SMALLEST, math.floor(font_size * room / length)))
    whole = text
    while text and font.getlength(text) + 2 * pad > room:
        whole = whole[:-1]
        text = whole and whole + "…"
    _, _, _, height = font.getbbox("Agjpqy|")
    return text, font, math.ceil(font.getlength(text)) + 2 * pad, math.ceil(height) + 2 * pad


def _font(size: int) -> tuple[Font, int]:
    """Pillow's own font, which needs no file, and the margin around its text."""
    return ImageFont.load_default(size), max(1, size // 8)


def _shared(a: Rect, b: Rect) -> int:
    """How many pixels two rectangles have in common."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    return max(0, width) * max(0, height)


def _write(pen: ImageDraw.ImageDraw, label: _Label) -> None:
    red, green, blue = label.color
    is_light = 0.299 * red + 0.587 * green + 0.114 * blue > 140
    pen.rectangle(label.rect, fill=label.color)
    left, top, right, bottom = label.rect
    middle = ((left + right + 1) / 2, (top + bottom + 1) / 2)
    pen.text(middle, label.text, fill="black" if is_light else "white", font=label.font, anchor="mm")
