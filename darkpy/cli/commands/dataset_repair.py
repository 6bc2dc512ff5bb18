"""`darkpy dataset repair`: correct a systematic mistake in label files, in a new data set."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from darkpy.cli import console
from darkpy.cli.options import (
    FILE_PATH,
    OUTPUT_PATH,
    Command,
    copy_option,
    dialect_option,
    force_option,
    max_pixels_option,
)
from darkpy.data.formats.darknet_writer import data_path, write_set
from darkpy.data.formats.label_repair import LabelMistake, repair_labels
from darkpy.dialect import Dialect

REPAIR_HELP = """Correct a systematic mistake in the label files of a data set.

\b
  darkpy dataset repair my.data --mistake pixels --out my-repaired
  darkpy train my.cfg my-repaired/my-repaired.data

SOURCE is a .data file, or a list or folder of images; its files are not changed. DIR gets the same files as from darkpy
dataset from-voc, with corrected labels. darkpy doctor names the mistake. Lists that clearly do not have it are copied
unchanged. Images without labels are left out.

\b
--mistake            the labels have
  classes-from-1     classes counted from 1 instead of 0
  pixels             x y w h in pixels instead of fractions of the image
  percent            x y w h in percent of the image
  corner-pixels      x1 y1 x2 y2 in pixels
  corners            x1 y1 x2 y2 as fractions of the image
  top-left           x and y of the top left corner instead of the center
"""


@click.command("repair", cls=Command, help=REPAIR_HELP)
@click.argument("source", metavar="SOURCE", type=FILE_PATH)
@click.option(
    "--mistake",
    type=click.Choice([mistake.value for mistake in LabelMistake]),
    required=True,
    help="Systematic mistake.",
)
@click.option("--out", "folder", type=OUTPUT_PATH, metavar="DIR", required=True, help="Folder of the new data set.")
@copy_option
@force_option
@dialect_option
@max_pixels_option
def repair(source: Path, mistake: str, folder: Path, copy: bool, overwrite: bool, dialect: str | None) -> None:
    repaired = repair_labels(source, LabelMistake(mistake), Dialect(dialect) if dialect else None)
    for description, locations in repaired.losses.items():
        console.warn_many(description, locations)
    for key in repaired.unchanged:
        console.warn(f"{key}: the labels do not have the mistake {mistake} and are kept as they are")
    dataset = repaired.dataset
    for _ in console.track(write_set(dataset, folder, copy=copy, overwrite=overwrite), len(dataset.images)):
        pass
    boxes = sum(texts.plain.count("\n") + texts.difficult.count("\n") for texts in dataset.labels.values())
    console.echo(f"{folder}: {len(dataset.images)} images, {boxes} boxes. Train with:")
    console.echo(f"  darkpy train CFG {shlex.quote(str(data_path(folder)))}")
