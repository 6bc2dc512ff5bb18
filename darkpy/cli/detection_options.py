"""Options of the commands that show detections: tiles, tracks and counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from darkpy.cli.options import collect


class _TilesText(click.types.StringParamType):
    """Tiles as text, checked before a network is loaded. Raises: DarkpyError."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from darkpy.evaluation.tiles import TileGrid

        TileGrid.parse(value)
        return str(value)


class _RegionText(click.types.StringParamType):
    """A line or zone as text, checked before a network is loaded. Raises: DarkpyError."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from darkpy.evaluation.counting import Region

        Region.parse(value)
        return str(value)


@dataclass(frozen=True, kw_only=True)
class FrameOptions:
    """Work on each frame besides detection: the values of `frame_options`."""

    tiles: str | None
    track: bool
    regions: tuple[str, ...]


tiles_option = click.option(
    "--tiles",
    type=_TilesText(),
    metavar="auto|NxM",
    help="Detect on overlapping tiles of large images, N columns and M rows, or as many as make each about the "
    "network's size; boxes that cross edges are joined.",
)
frame_options = collect(
    FrameOptions,
    "per_frame",
    tiles_option,
    click.option("--track", is_flag=True, help="Follow objects from each image or frame to the next, and number them."),
    click.option(
        "--count",
        "regions",
        type=_RegionText(),
        multiple=True,
        metavar="line:X1,Y1,X2,Y2|zone:X1,Y1,...",
        help="Count the objects that cross a line, in both directions (with --track), or that are in a zone of three "
        "or more corners, in pixels; may be given several times.",
    ),
)
"""Tiles, tracks and counts; the command gets a FrameOptions as `per_frame`."""
