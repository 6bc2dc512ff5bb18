"""What is said on stderr, so that stdout holds nothing but results."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from darkpy.errors import ConfigError

ERASE = "\r\033[K"
"""Empties the line that a terminal's cursor is in."""

_SILENT = "darkpy.silent"


def complain(error: Exception) -> None:
    """A line for each thing that is wrong, with its hint below it."""
    if not isinstance(error, ConfigError):
        _say(f"error: {error}")
        return
    for fault in error.shown:
        _say(f"{fault.severity.value}: {fault}")
    if error.rest:
        _say(error.rest)


def warn(message: object) -> None:
    if not _is_silent():
        _say(f"warning: {message}")


def note(message: str) -> None:
    if not _is_silent():
        _say(f"note: {message}")


def tell_of(what: str, places: Sequence[str]) -> None:
    """One warning for many places, of which it names some."""
    if places:
        shown = ", ".join(places[:5])
        warn(f"{len(places)} {what}: {shown}{', ...' if len(places) > 5 else ''}")


def be_silent() -> None:
    """Say nothing more in this command but what ends it: another process of the same command speaks."""
    click.get_current_context().meta[_SILENT] = True


def _is_silent() -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and _SILENT in context.meta


def _say(text: str) -> None:
    """In a line of its own, also where a bar stands."""
    if sys.stderr.isatty():
        sys.stderr.write(ERASE)
    click.echo(text, err=True)
