"""What is said on stderr, so that stdout holds nothing but results."""

from __future__ import annotations

import click

from darkpy.errors import ConfigError


def complain(error: Exception) -> None:
    """A line for each thing that is wrong, with its hint below it."""
    for fault in error.faults if isinstance(error, ConfigError) else (error,):
        _say(f"error: {fault}")


def warn(message: object) -> None:
    _say(f"warning: {message}")


def note(message: str) -> None:
    _say(f"note: {message}")


def _say(text: str) -> None:
    click.echo(text, err=True)
