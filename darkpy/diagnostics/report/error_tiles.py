"""Tiles of an evaluation page: a part of an image around an error, enlarged by a click without a script.

Letters: H height, W width.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageDraw

from darkpy.data.loading.images import load_image
from darkpy.diagnostics.report.html_frame import html_text
from darkpy.errors import ImageError

TILE_PX = (440, 330)
"""Width and height of the largest tile in the file; the page shows it smaller until it is clicked."""
CONTEXT_FACTOR = 3.0
"""Sides of the part that is shown, in those of the box."""
MIN_SOURCE_PX = 80
MAX_EMBEDDED_BYTES = 3 << 20
"""Bytes of all tiles of a page, at most; the others are left out."""
TILE_QUALITY = 80
TRUTH_RGB, DETECTION_RGB, MISSED_RGB, HALO_RGB = (64, 156, 255), (255, 159, 28), (255, 70, 70), (0, 0, 0)

BoxFrac = Sequence[float]


@dataclass(frozen=True, slots=True)
class ErrorTile:
    """An image, or the part of it around `focus`, with boxes in a color each, and the text below.

    focus: center x, y, w, h as fractions of the image; None for the whole image.
    """

    path: str
    boxes: Sequence[tuple[BoxFrac, tuple[int, int, int]]]
    title: str
    text: str
    focus: BoxFrac | None = None


class TileSheet:
    """Sheets of tiles of one page, all of them no larger than MAX_EMBEDDED_BYTES.

    omitted: tiles without an image: it cannot be read, or the page is full.
    """

    def __init__(self) -> None:
        self.omitted = 0
        self._bytes = 0

    def html(self, tiles: Sequence[ErrorTile], prefix: str) -> str:
        """Draw tiles as list items; each image is decoded once. prefix: of their identifiers on the page."""
        by_path: dict[str, list[int]] = {}
        for index, tile in enumerate(tiles):
            by_path.setdefault(tile.path, []).append(index)
        drawn = dict(self._draw(tiles, by_path))
        self.omitted += len(tiles) - len(drawn)
        items = (tile_item(tiles[index], f"{prefix}{index}", drawn[index], prefix) for index in sorted(drawn))
        return f'<ul class="tiles" id="{prefix}">{"".join(items)}</ul>' if drawn else ""

    def _draw(self, tiles: Sequence[ErrorTile], by_path: Mapping[str, Iterable[int]]) -> Iterator[tuple[int, bytes]]:
        for path, indices in by_path.items():
            try:
                pixels_HW3 = load_image(path).pixels_HWC
            except ImageError:
                continue
            for index in indices:
                jpeg = draw_tile(pixels_HW3, tiles[index])
                if self._bytes + len(jpeg) <= MAX_EMBEDDED_BYTES:
                    self._bytes += len(jpeg)
                    yield index, jpeg


def draw_tile(pixels_HW3: NDArray[np.uint8], tile: ErrorTile) -> bytes:
    """Cut the part around the focus, scale it to the tile's size and draw the boxes, as a JPEG."""
    image = PIL.Image.fromarray(pixels_HW3)
    left, top, right, bottom = visible_part(image.size, tile.focus)
    scale = min(TILE_PX[0] / (right - left), TILE_PX[1] / (bottom - top))
    size = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
    part = image.crop((left, top, right, bottom)).resize(size, PIL.Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(part)
    for (x, y, w, h), color in tile.boxes:
        corners = ((x - w / 2) * image.width - left, (y - h / 2) * image.height - top)
        opposite = ((x + w / 2) * image.width - left, (y + h / 2) * image.height - top)
        near = [min(max(corner * scale, -9), side + 9) for corner, side in zip(corners, size, strict=True)]
        far = [min(max(corner * scale, -9), side + 9) for corner, side in zip(opposite, size, strict=True)]
        if far[0] >= near[0] and far[1] >= near[1]:
            pen.rectangle((near[0] - 1, near[1] - 1, far[0] + 1, far[1] + 1), outline=HALO_RGB, width=5)
            pen.rectangle((*near, *far), outline=color, width=3)
    stream = io.BytesIO()
    part.save(stream, "JPEG", quality=TILE_QUALITY)
    return stream.getvalue()


def visible_part(size: tuple[int, int], focus: BoxFrac | None) -> tuple[int, int, int, int]:
    """Left, top, right and bottom pixel of the part to show, in the tile's aspect ratio where the image has room."""
    image_w, image_h = size
    if focus is None:
        return 0, 0, image_w, image_h
    x, y, w, h = (min(max(value, 0.0), 1.0) for value in focus)
    width = max(CONTEXT_FACTOR * w * image_w, MIN_SOURCE_PX)
    height = max(CONTEXT_FACTOR * h * image_h, MIN_SOURCE_PX)
    width, height = max(width, height * TILE_PX[0] / TILE_PX[1]), max(height, width * TILE_PX[1] / TILE_PX[0])
    part_w, part_h = max(1, min(image_w, round(width))), max(1, min(image_h, round(height)))
    left = min(max(round(x * image_w - part_w / 2), 0), image_w - part_w)
    top = min(max(round(y * image_h - part_h / 2), 0), image_h - part_h)
    return left, top, left + part_w, top + part_h


def tile_item(tile: ErrorTile, identifier: str, jpeg: bytes, prefix: str) -> str:
    """List item of a tile. identifier, prefix: of the item and of its list on the page."""
    uri = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
    name, title = html_text(tile.path.replace("\\", "/").rpartition("/")[2]), html_text(tile.title)
    return (
        f'<li id="{identifier}"><a class="enlarge" href="#{identifier}"><img loading="lazy" alt="{title}, {name}" '
        f'src="{uri}"></a><a class="close" href="#{prefix}" aria-label="Close">&times;</a>'
        f"<p><b>{title}</b> {html_text(tile.text)}<br>"
        f'<span class="muted" title="{html_text(tile.path)}">{name}</span></p></li>'
    )
