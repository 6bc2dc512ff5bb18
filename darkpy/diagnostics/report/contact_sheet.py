"""Many images on one, with what is known of them: what the guilty samples look like.

Letters: H height, W width; N boxes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageDraw, ImageFont

from darkpy.evaluation.draw import class_color

if TYPE_CHECKING:
    from torch import Tensor

COLUMNS = 4
TILE_W, TILE_H, MARGIN, LINE = 260, 220, 10, 16
"""In pixels: the largest image, what is around it, and a line of text."""
PAPER, INK = (250, 250, 250), (20, 20, 20)


@dataclass(frozen=True, slots=True)
class Tile:
    """An image, (H, W, 3) uint8 or None where there is none, and the lines below it.

    boxes_N5: center x, y, w, h as fractions of the image, then the class.
    """

    pixels_HW3: NDArray[np.uint8] | None
    boxes_N5: Tensor | NDArray[np.float64]
    caption: Sequence[str]


def contact_sheet(tiles: Sequence[Tile], *, columns: int = COLUMNS) -> PIL.Image.Image:
    """The images side by side with their boxes, each class in the color that `detect` draws it in."""
    lines = max((len(tile.caption) for tile in tiles), default=0)
    cell_w, cell_h = TILE_W + MARGIN, TILE_H + lines * LINE + MARGIN
    columns = max(1, min(columns, len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    sheet = PIL.Image.new("RGB", (columns * cell_w + MARGIN, max(1, rows) * cell_h + MARGIN), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        left, top = MARGIN + column * cell_w, MARGIN + row * cell_h
        image = _thumbnail(tile)
        sheet.paste(image, (left + (TILE_W - image.width) // 2, top + (TILE_H - image.height) // 2))
        for line, text in enumerate(tile.caption):
            pen.text((left, top + TILE_H + 2 + line * LINE), _fit(text, font), fill=INK, font=font)
    return sheet


def as_png(image: PIL.Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def _thumbnail(tile: Tile) -> PIL.Image.Image:
    """The image as large as fits, its boxes drawn on it with lines of two pixels."""
    if tile.pixels_HW3 is None:
        empty = PIL.Image.new("RGB", (TILE_W, TILE_H), (225, 225, 225))
        ImageDraw.Draw(empty).text((TILE_W // 2, TILE_H // 2), "no image", fill=INK, anchor="mm")
        return empty
    pixels_HW3 = tile.pixels_HW3
    image = PIL.Image.fromarray(pixels_HW3 if pixels_HW3.shape[2] == 3 else pixels_HW3[:, :, 0]).convert("RGB")
    scale = min(TILE_W / image.width, TILE_H / image.height)
    image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    pen = ImageDraw.Draw(image)
    for x, y, w, h, class_id in tile.boxes_N5[:, :5].tolist():
        corners = ((x - w / 2) * image.width, (y - h / 2) * image.height)
        others = ((x + w / 2) * image.width, (y + h / 2) * image.height)
        pen.rectangle((*corners, *map(max, corners, others)), outline=class_color(int(class_id)), width=2)
    return image


def _fit(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """The end of a text that is too long: of a path it tells more than the beginning."""
    whole = text
    while text and font.getlength(text) > TILE_W:
        whole = whole[1:]
        text = f"…{whole}"
    return text
