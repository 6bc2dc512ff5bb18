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

LINE_WIDTH_SHARE, FONT_SIZE_SHARE = 0.004, 0.026
"""Line width and font size, as shares of the side of a square with the image's area."""
MIN_FONT_SIZE, MIN_FITTED_FONT_SIZE = 11, 8
"""Smallest font sizes: for a small image, and for a label too long for its image."""
GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True)
class _Label:
    text: str
    font: Font
    rect: Rect
    color: Color


def draw(image_HW3: NDArray[np.uint8], objects: Sequence[Object]) -> Image.Image:
    """Draw a box and a label for each object, those with the highest confidence on top.

    A box of several classes is drawn once, in the color of the best one, with all of them on its label. A label that
    does not fit into the image, or would be half hidden by better ones, is omitted, and so is a box outside the image.

    Returns: a new image.
    """
    image = Image.fromarray(image_HW3)  # a copy: Pillow keeps RGB in four bytes
    pen = ImageDraw.Draw(image)
    side = math.sqrt(image.width * image.height)
    line, font_size = max(1, round(LINE_WIDTH_SHARE * side)), max(MIN_FONT_SIZE, round(FONT_SIZE_SHARE * side))

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
    labels: list[_Label] = []
    for rect, classes in boxes:
        if label := _place_label(rect, classes, [other.rect for other in labels], image.size, font_size):
            labels.append(label)
    for label in reversed(labels):
        red, green, blue = label.color
        is_light = 0.299 * red + 0.587 * green + 0.114 * blue > 140  # ITU-R BT.601 luma
        pen.rectangle(label.rect, fill=label.color)
        left, top, right, bottom = label.rect
        middle = ((left + right + 1) / 2, (top + bottom + 1) / 2)
        pen.text(middle, label.text, fill="black" if is_light else "white", font=label.font, anchor="mm")
    return image


def class_color(class_id: int) -> Color:
    """Color of a class, the same in every image.

    Hues advance by the golden ratio, so that any number of successive classes are spread evenly over the color circle.
    """
    red, green, blue = colorsys.hsv_to_rgb(class_id * GOLDEN_RATIO % 1, 0.85, 0.95)
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
    rect: Rect, classes: Sequence[Object], taken: Sequence[Rect], size: tuple[int, int], font_size: int
) -> _Label | None:
    """Place a label at a corner of a box, inside the image, where the labels already there hide least of it."""
    text = ", ".join(f"{detected.name}: {detected.confidence:.2f}" for detected in classes)
    text, font, width, height = _fit(text, size[0], font_size)
    if not text or height > size[1]:
        return None
    left, top, right, bottom = rect
    candidates = []
    for y in (top - height, bottom + 1, top, bottom + 1 - height):
        for x in (left, right + 1 - width):
            x_inside, y_inside = min(max(x, 0), size[0] - width), min(max(y, 0), size[1] - height)
            candidates.append((x_inside, y_inside, x_inside + width - 1, y_inside + height - 1))
    hidden = [sum(_shared_pixels(candidate, other) for other in taken) for candidate in candidates]
    best = candidates[hidden.index(min(hidden))]
    if 2 * min(hidden) > width * height:
        return None
    return _Label(text, font, best, class_color(classes[0].class_id))


def _fit(text: str, max_width: int, font_size: int) -> tuple[str, Font, int, int]:
    """Fit a text into a width, smaller or truncated if need be. Returns: text, font, width and height of the label."""
    font, pad = _font(font_size)
    length = font.getlength(text) + 2 * pad
    if length > max_width:
        font, pad = _font(max(MIN_FITTED_FONT_SIZE, math.floor(font_size * max_width / length)))
    prefix = text
    while text and font.getlength(text) + 2 * pad > max_width:
        prefix = prefix[:-1]
        text = prefix and prefix + "…"
    _, _, _, height = font.getbbox("Agjpqy|")
    return text, font, math.ceil(font.getlength(text)) + 2 * pad, math.ceil(height) + 2 * pad


def _font(size: int) -> tuple[Font, int]:
    """Pillow's built-in font, which needs no file, and the margin around its text."""
    return ImageFont.load_default(size), max(1, size // 8)


def _shared_pixels(a: Rect, b: Rect) -> int:
    """Number of pixels that two rectangles have in common."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    return max(0, width) * max(0, height)
