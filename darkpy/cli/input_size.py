"""The type of options that give the size of a network's input."""

from __future__ import annotations

import re

import click


class InputSize(click.ParamType["tuple[int, int]"]):
    """Width and height: `416` or `608x352`."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", str(value))
        if match is None or not int(match[1]) or not int(match[2] or 1):
            self.fail(f"{value!r} is not a size such as 416 or 608x352 (width x height)", param, ctx)
        return int(match[1]), int(match[2] or match[1])
