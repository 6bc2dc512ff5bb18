"""Files that a command is to write: what may be written over, and what may not."""

from __future__ import annotations

from pathlib import Path

import click

from darkpy.errors import DarkpyError

force_option = click.option("--force", "is_forced", is_flag=True, help="Write over files that are there.")


def check_target(target: Path, *sources: str | Path | None) -> None:
    """Refuse to write over what a command was given. Raises: DarkpyError."""
    for source in sources:
        if source is not None and target.exists() and Path(source).exists() and target.samefile(source):
            raise DarkpyError(f"{target}: would be written over, and it was given", hint="write to another place")


def check_new(target: Path, *sources: str | Path | None, is_forced: bool, hint: str = "--force writes over it") -> None:
    """Refuse to write over what a command was given, and unless it is forced, over any file; a device is none.

    Raises: DarkpyError.
    """
    check_target(target, *sources)
    if target.is_file() and not is_forced:
        raise DarkpyError(f"{target}: is there already", hint=hint)
