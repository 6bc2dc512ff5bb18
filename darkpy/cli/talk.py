"""What is said on stderr, so that stdout holds nothing but results."""

from __future__ import annotations

import click

from darkpy.errors import ConfigError


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
    _say(f"warning: {message}")


def note(message: str) -> None:
    _say(f"note: {message}")


def _say(text: str) -> None:
    click.echo(text, err=True)
