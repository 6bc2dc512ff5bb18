"""Drawings of lines, text and rasters, rendered as SVG in the colors of a page's reader, or as PNG on white.

Units: pixels from the upper left corner.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

import PIL.Image
from PIL import ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from darkpy.files import PROGRAM_MARK

Point = tuple[float, float]

LIGHT_COLORS: Mapping[str, str] = {
    "paper": "#ffffff",
    "ink": "#1c2430",
    "muted": "#5a6675",
    "grid": "#dfe4ea",
    "first": "#1f5fbf",
    "second": "#d1700a",
    "bad": "#c0262d",
    "good": "#2b8a4b",
    "third": "#7a4fc4",
    "fourth": "#0f8f96",
    "fifth": "#b0307f",
}
"""Colors by their purpose. SVG refers to the name, which the page defines for light and dark; a PNG is light."""
DARK_COLORS: Mapping[str, str] = {
    "paper": "#14181f",
    "ink": "#e8ecf2",
    "muted": "#a3afbe",
    "grid": "#303845",
    "first": "#74a9f7",
    "second": "#f0a04b",
    "bad": "#ff7b7b",
    "good": "#6fd08c",
    "third": "#b79cf2",
    "fourth": "#5cc9cf",
    "fifth": "#ee86c4",
}
PNG_SCALE = 2
"""PNG pixels for each pixel of the drawing."""
SUPERSAMPLING_FACTOR = 2
"""A PNG is drawn this much larger and scaled down, because Pillow draws lines without antialiasing."""
DASH_PX = 4.0
"""Length of a dash and of the gap after it."""


@dataclass(frozen=True, slots=True)
class Line:
    points: Sequence[Point]
    color: str
    width: float = 1.5
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """anchor: start, middle or end of the text is at x; y is its baseline. size: of the font, in pixels."""

    x: float
    y: float
    text: str
    color: str = "muted"
    anchor: str = "start"
    size: float = 12.0


@dataclass(frozen=True, slots=True)
class Raster:
    """Image whose pixels are cells, stretched to a rectangle without smoothing."""

    x: float
    y: float
    w: float
    h: float
    image: PIL.Image.Image


@dataclass(frozen=True, slots=True)
class Cross:
    """Small cross with a tooltip."""

    x: float
    y: float
    color: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Dot:
    x: float
    y: float
    color: str
    radius: float = 2.5


Item = Line | Text | Raster | Cross | Dot


@dataclass
class Drawing:
    """Items in drawing order. label: text alternative for readers who do not see it."""

    w: float
    h: float
    label: str
    items: list[Item] = field(default_factory=list)

    def svg(self) -> str:
        inner = "".join(map(_svg_item, self.items))
        box = f'viewBox="0 0 {self.w:g} {self.h:g}" width="{self.w:g}" height="{self.h:g}"'
        return f'<svg role="img" aria-label="{escape(self.label)}" {box}>{inner}</svg>'

    def png(self) -> bytes:
        scale = PNG_SCALE * SUPERSAMPLING_FACTOR
        image = PIL.Image.new("RGB", (round(self.w * scale), round(self.h * scale)), LIGHT_COLORS["paper"])
        pen = ImageDraw.Draw(image)
        for item in self.items:
            _paint(item, image, pen, scale)
        stream = io.BytesIO()
        info = PngInfo()
        info.add_text("Software", PROGRAM_MARK)
        image.reduce(SUPERSAMPLING_FACTOR).save(stream, "PNG", pnginfo=info)
        return stream.getvalue()


def as_uri(image: PIL.Image.Image, *, form: str = "PNG") -> str:
    """Data URI of an image."""
    stream = io.BytesIO()
    image.save(stream, form, **({"quality": 82} if form == "JPEG" else {"optimize": True}))
    return f"data:image/{form.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _svg_item(item: Item) -> str:
    if isinstance(item, Line):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in item.points)
        dashes = f' stroke-dasharray="{DASH_PX:g} {DASH_PX:g}"' if item.dashed else ""
        return f'<polyline class="l-{item.color}" stroke-width="{item.width:g}"{dashes} points="{points}"/>'
    if isinstance(item, Text):
        place = f'x="{item.x:.1f}" y="{item.y:.1f}" text-anchor="{item.anchor}"'
        size = f' style="font-size:{item.size:g}px"' if item.size != 12 else ""
        return f'<text class="t-{item.color}" {place}{size}>{escape(item.text)}</text>'
    if isinstance(item, Raster):
        place = f'x="{item.x:.1f}" y="{item.y:.1f}" width="{item.w:.1f}" height="{item.h:.1f}"'
        return f'<image {place} preserveAspectRatio="none" href="{as_uri(item.image)}"/>'
    if isinstance(item, Dot):
        return f'<circle class="t-{item.color}" cx="{item.x:.1f}" cy="{item.y:.1f}" r="{item.radius:g}"/>'
    title = f"<title>{escape(item.title)}</title>" if item.title else ""
    path = f"M{item.x - 4:.1f} {item.y - 4:.1f}l8 8m0 -8l-8 8"
    return f'<path class="l-{item.color}" stroke-width="2" d="{path}">{title}</path>'


def _paint(item: Item, image: PIL.Image.Image, pen: ImageDraw.ImageDraw, scale: float) -> None:
    if isinstance(item, Line):
        points = [(x * scale, y * scale) for x, y in item.points]
        for piece in _dashes(points, DASH_PX * scale) if item.dashed else [points]:
            width = max(1, round(item.width * scale))
            pen.line(piece, fill=LIGHT_COLORS[item.color], width=width, joint="curve")
    elif isinstance(item, Text):
        anchor = {"start": "ls", "middle": "ms", "end": "rs"}[item.anchor]
        place = (item.x * scale, item.y * scale)
        pen.text(place, item.text, LIGHT_COLORS[item.color], ImageFont.load_default(item.size * scale), anchor)
    elif isinstance(item, Raster):
        size = (max(1, round(item.w * scale)), max(1, round(item.h * scale)))
        cells = item.image.resize(size, PIL.Image.Resampling.NEAREST)
        image.paste(cells, (round(item.x * scale), round(item.y * scale)), cells)
    elif isinstance(item, Dot):
        pen.circle((item.x * scale, item.y * scale), item.radius * scale, fill=LIGHT_COLORS[item.color])
    else:
        for slope in (1, -1):
            start = ((item.x - 4) * scale, (item.y - 4 * slope) * scale)
            end = ((item.x + 4) * scale, (item.y + 4 * slope) * scale)
            pen.line((start, end), fill=LIGHT_COLORS[item.color], width=round(2 * scale))


def _dashes(points: Sequence[Point], length: float) -> Iterator[list[Point]]:
    """Dashes of a polyline; each of its segments begins with one."""
    for (x, y), (x_end, y_end) in pairwise(points):
        distance = math.hypot(x_end - x, y_end - y)
        dx, dy = ((x_end - x) / distance, (y_end - y) / distance) if distance else (0.0, 0.0)
        for start in range(0, math.ceil(distance), round(2 * length)):
            end = min(start + length, distance)
            yield [(x + start * dx, y + start * dy), (x + end * dx, y + end * dy)]
