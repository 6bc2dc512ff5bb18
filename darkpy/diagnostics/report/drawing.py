"""Lines, rectangles and words that become SVG for a page, in the colors of its reader, or a PNG on white.

Units: pixels from the upper left corner.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import PIL.Image
from PIL import ImageDraw, ImageFont

Point = tuple[float, float]

LIGHT: Mapping[str, str] = {
    "paper": "#ffffff",
    "ink": "#1c2430",
    "muted": "#5a6675",
    "grid": "#dfe4ea",
    "first": "#1f5fbf",
    "second": "#d1700a",
    "bad": "#c0262d",
}
DARK: Mapping[str, str] = {
    "paper": "#14181f",
    "ink": "#e8ecf2",
    "muted": "#a3afbe",
    "grid": "#303845",
    "first": "#74a9f7",
    "second": "#f0a04b",
    "bad": "#ff7b7b",
}
"""A color has a name for what it is for; a page looks it up in its reader's scheme, a PNG is light."""
SCALE = 2
"""Dots of a PNG for each pixel."""
FONT = 12


@dataclass(frozen=True, slots=True)
class Line:
    points: Sequence[Point]
    color: str
    width: float = 1.5
    is_dashed: bool = False


@dataclass(frozen=True, slots=True)
class Word:
    """anchor: start, middle or end of the text is at x; y is its base line."""

    x: float
    y: float
    text: str
    color: str = "muted"
    anchor: str = "start"


@dataclass(frozen=True, slots=True)
class Patch:
    """An image, each of whose pixels is a cell; stretched to a rectangle without being smoothed."""

    x: float
    y: float
    w: float
    h: float
    image: PIL.Image.Image


@dataclass(frozen=True, slots=True)
class Mark:
    """A small cross, with what it says to those who point at it."""

    x: float
    y: float
    color: str
    title: str = ""


@dataclass
class Drawing:
    """What is drawn, in this order. label: what it shows, for those who do not see it."""

    w: float
    h: float
    label: str
    items: list[Line | Word | Patch | Mark] = field(default_factory=list)

    def svg(self) -> str:
        inner = "".join(map(_svg_item, self.items))
        box = f'viewBox="0 0 {self.w:g} {self.h:g}" width="{self.w:g}" height="{self.h:g}"'
        return f'<svg role="img" aria-label="{escape(self.label)}" {box}>{inner}</svg>'

    def png(self) -> bytes:
        sheet = PIL.Image.new("RGB", (round(self.w * SCALE), round(self.h * SCALE)), LIGHT["paper"])
        pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT * SCALE)
        for item in self.items:
            _paint(item, sheet, pen, font)
        stream = io.BytesIO()
        sheet.save(stream, "PNG")
        return stream.getvalue()


def as_uri(image: PIL.Image.Image, *, form: str = "PNG") -> str:
    """The image as an address that holds all of it."""
    stream = io.BytesIO()
    image.save(stream, form, **({"quality": 82} if form == "JPEG" else {"optimize": True}))
    return f"data:image/{form.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _svg_item(item: Line | Word | Patch | Mark) -> str:
    if isinstance(item, Line):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in item.points)
        dashes = ' stroke-dasharray="4 4"' if item.is_dashed else ""
        return f'<polyline class="l-{item.color}" stroke-width="{item.width:g}"{dashes} points="{points}"/>'
    if isinstance(item, Word):
        place = f'x="{item.x:.1f}" y="{item.y:.1f}" text-anchor="{item.anchor}"'
        return f'<text class="t-{item.color}" {place}>{escape(item.text)}</text>'
    if isinstance(item, Patch):
        place = f'x="{item.x:.1f}" y="{item.y:.1f}" width="{item.w:.1f}" height="{item.h:.1f}"'
        return f'<image {place} preserveAspectRatio="none" href="{as_uri(item.image)}"/>'
    x, y, title = item.x, item.y, f"<title>{escape(item.title)}</title>" if item.title else ""
    path = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"
    return f'<path class="l-{item.color}" stroke-width="2" d="{path}">{title}</path>'


def _paint(
    item: Line | Word | Patch | Mark,
    sheet: PIL.Image.Image,
    pen: ImageDraw.ImageDraw,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
) -> None:
    if isinstance(item, Line):
        points = [(x * SCALE, y * SCALE) for x, y in item.points]
        pen.line(points, fill=LIGHT[item.color], width=max(1, round(item.width * SCALE)))
    elif isinstance(item, Word):
        anchor = {"start": "ls", "middle": "ms", "end": "rs"}[item.anchor]
        pen.text((item.x * SCALE, item.y * SCALE), item.text, fill=LIGHT[item.color], font=font, anchor=anchor)
    elif isinstance(item, Patch):
        size = (max(1, round(item.w * SCALE)), max(1, round(item.h * SCALE)))
        cells = item.image.resize(size, PIL.Image.Resampling.NEAREST)
        sheet.paste(cells, (round(item.x * SCALE), round(item.y * SCALE)), cells)
    else:
        for slope in (1, -1):
            start = ((item.x - 4) * SCALE, (item.y - 4 * slope) * SCALE)
            end = ((item.x + 4) * SCALE, (item.y + 4 * slope) * SCALE)
            pen.line((start, end), fill=LIGHT[item.color], width=2 * SCALE)
