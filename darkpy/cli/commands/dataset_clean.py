"""`darkpy dataset clean`: move what cannot be used out of a data set, and bring it back."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from darkpy.cli import console
from darkpy.cli.options import FILE_PATH, Command, dialect_option, max_pixels_option
from darkpy.data.lists.text_files import read_data
from darkpy.dialect import Dialect

CLEAN_HELP = """Move unusable images and labels out of a data set.

\b
  darkpy dataset clean my.data --dry-run
  darkpy dataset clean my.data
  darkpy dataset clean my.data --undo my-removed

Moved into a new folder beside DATA, my-removed, are images of train=, valid= and test= that do not exist or cannot be
read, copies of other images of their list (the same bytes), and images of valid= and test= that are trained on (also
re-encoded), with their label files. Label files lose wrong lines and repeated objects, and lists the lines of the
images; their originals are in the folder, too. Nothing is deleted.

manifest.json in the folder has the origin of each file, and the reason for its removal. --undo restores all of them,
unless one was changed since.

If most images or label files are faulty, nothing is cleaned: darkpy doctor names such a systematic mistake, and darkpy
dataset repair may correct it.
"""


@click.command("clean", cls=Command, help=CLEAN_HELP)
@click.argument("data", metavar="DATA", type=FILE_PATH)
@click.option("--dry-run", is_flag=True, help="Only print what would be moved.")
@click.option("--undo", type=FILE_PATH, metavar="DIR", help="Restore the files of a folder of removed ones.")
@dialect_option
@max_pixels_option
def clean(data: Path, dry_run: bool, undo: Path | None, dialect: str | None) -> None:
    from darkpy.diagnostics.cleaning import Cleaner, move_files, removed_folder, undo_moves

    if undo is not None:
        console.echo(f"{undo}: {undo_moves(undo)} files are back where they were")
        return
    cleaner = Cleaner(read_data(data), Dialect(dialect) if dialect else None)
    for _ in console.track(cleaner.survey(), cleaner.total):
        pass
    files = cleaner.plan()
    for file in files:
        console.echo(f"{file.path}: {file.reason}")
    if not files:
        console.echo(f"{data}: nothing to clean, {cleaner.total} images")
        return
    replaced = sum(file.new_content is not None for file in files)
    counts = f"{len(files) - replaced} files moved, {replaced} rewritten"
    if dry_run:
        console.echo(f"{data}: {counts} if run without --dry-run")
        return
    folder = removed_folder(data)
    move_files(files, folder)
    console.echo(f"{folder}: {counts}. Undo with:")
    console.echo(f"  darkpy dataset clean {shlex.quote(str(data))} --undo {shlex.quote(str(folder))}")
