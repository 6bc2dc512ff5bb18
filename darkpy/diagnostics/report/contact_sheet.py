"""Contact sheet: many images in one, with their boxes and captions.

Letters: H height, W width; N boxes.
"""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageDraw, ImageFont

from darkpy.evaluation.draw import class_color, truncate_text

if TYPE_CHECKING:
    from torch import Tensor

SHEET_FILE = "sheet.png"
"""Name of the contact sheet among the artifacts of a finding."""
SHEET_COLUMNS = 4
TILE_SIZE = (260, 220)
"""Width and height of the largest image, in pixels."""
MARGIN_PX, LINE_HEIGHT, LEGEND_LINE_HEIGHT, FONT_SIZE = 10, 16, 18, 12
PAPER_RGB, INK_RGB, HIGHLIGHT_RGB = (250, 250, 250), (20, 20, 20), (200, 30, 30)


@dataclass(frozen=True, slots=True)
class Tile:
    """Image, (H, W, 3) uint8 or None if it is missing, and the lines of text below it.

    boxes_N5: center x, y, w, h as fractions of the image, then the class.
    highlighted: draw a frame around it, and the text in the same color.
    """

    pixels_HW3: NDArray[np.uint8] | None
    boxes_N5: Tensor | NDArray[np.float64]
    caption: Sequence[str]
    highlighted: bool = False


def contact_sheet(
    tiles: Sequence[Tile], *, columns: int = SHEET_COLUMNS, tile_size: tuple[int, int] = TILE_SIZE
) -> PIL.Image.Image:
    """Draw the images side by side with their boxes, each class in the color in which `detect` draws it."""
    tile_w, tile_h = tile_size
    lines = max((len(tile.caption) for tile in tiles), default=0)
    cell_w, cell_h = tile_w + MARGIN_PX, tile_h + lines * LINE_HEIGHT + MARGIN_PX
    columns = max(1, min(columns, len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    sheet = PIL.Image.new("RGB", (columns * cell_w + MARGIN_PX, max(1, rows) * cell_h + MARGIN_PX), PAPER_RGB)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        left, top = MARGIN_PX + column * cell_w, MARGIN_PX + row * cell_h
        image = _thumbnail(tile, tile_w, tile_h)
        sheet.paste(image, (left + (tile_w - image.width) // 2, top + (tile_h - image.height) // 2))
        if tile.highlighted:
            pen.rectangle((left - 3, top - 3, left + tile_w + 2, top + tile_h + 2), outline=HIGHLIGHT_RGB, width=3)
        for line, text in enumerate(tile.caption):
            place = (left, top + tile_h + 2 + line * LINE_HEIGHT)
            shown = truncate_text(text, font, tile_w, keep_end=True)  # of a path, the end is more informative
            pen.text(place, shown, fill=HIGHLIGHT_RGB if tile.highlighted else INK_RGB, font=font)
    return sheet


def legend_tile(classes: Counter[int], names: Sequence[str]) -> Tile:
    """Legend of the classes in their colors, the most frequent first. names: as far as known; else the number."""
    image = PIL.Image.new("RGB", TILE_SIZE, PAPER_RGB)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    most = TILE_SIZE[1] // LEGEND_LINE_HEIGHT - 1
    for line, (class_id, _) in enumerate(classes.most_common(most)):
        top = 4 + line * LEGEND_LINE_HEIGHT
        pen.rectangle((4, top, 16, top + 12), fill=class_color(class_id))
        name = names[class_id] if class_id < len(names) else str(class_id)
        pen.text((22, top - 2), truncate_text(name, font, TILE_SIZE[0] - 26), fill=INK_RGB, font=font)
    rest = len(classes) - most
    return Tile(np.asarray(image), np.zeros((0, 5)), (f"and {rest} more classes" if rest > 0 else "classes",))


def as_png(image: PIL.Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def _thumbnail(tile: Tile, tile_w: int, tile_h: int) -> PIL.Image.Image:
    """Scale an image to the tile and draw its boxes; small images are enlarged to whole pixels without smoothing."""
    if tile.pixels_HW3 is None:
        empty = PIL.Image.new("RGB", (tile_w, tile_h), (225, 225, 225))
        ImageDraw.Draw(empty).text((tile_w // 2, tile_h // 2), "no image", fill=INK_RGB, anchor="mm")
        return empty
    pixels_HW3 = tile.pixels_HW3
    image = PIL.Image.fromarray(pixels_HW3 if pixels_HW3.shape[2] == 3 else pixels_HW3[:, :, 0]).convert("RGB")
    scale = min(tile_w / image.width, tile_h / image.height)
    enlarge = scale >= 2
    scale = math.floor(scale) if enlarge else scale
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(size, PIL.Image.Resampling.NEAREST if enlarge else PIL.Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    for x, y, w, h, class_id in tile.boxes_N5[:, :5].tolist():
        corner = ((x - w / 2) * image.width, (y - h / 2) * image.height)
        opposite = ((x + w / 2) * image.width, (y + h / 2) * image.height)
        pen.rectangle((*corner, *map(max, corner, opposite)), outline=class_color(int(class_id)), width=2)
    return image
