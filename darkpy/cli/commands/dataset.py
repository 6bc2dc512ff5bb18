"""`darkpy dataset split`, `stats` and `draw`: split, count and draw data sets."""

from __future__ import annotations

import json
from pathlib import Path

import click

from darkpy.cli import console
from darkpy.cli.options import (
    FILE_PATH,
    OUTPUT_PATH,
    Command,
    dialect_option,
    force_option,
    json_option,
    max_pixels_option,
    require_writable,
)
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.files import make_folder, write_atomic

LIST_KEYS = ("train", "valid", "test")

SPLIT_HELP = """Split a list of images at random.

\b
  darkpy dataset split photos.txt lists
  darkpy dataset split my.data lists --parts train=.7,valid=.2,test=.1 --seed 7

SOURCE is a list of images, a folder of images, or a .data file, whose train= is split. DIR gets a list for each part
and, for a .data file, a new .data file that names them, without the difficult= of replaced lists. The same images and
--seed give the same parts, whatever the order of the images; when a set grows, few images change parts.
"""
STATS_HELP = """Count images, boxes and classes of a data set.

\b
  darkpy dataset stats my.data
  darkpy dataset stats my.data --json | jq .train.classes

SOURCE is a .data file, whose train=, valid= and test= are counted separately, or a list or folder of images. Counted
are images without labels or boxes, boxes and images per class, box sizes, boxes per image, invalid boxes, and images
that two lists share.
"""
DRAW_HELP = """Draw a contact sheet: images of a data set with their boxes.

\b
  darkpy dataset draw my.data sheet.png
  darkpy dataset draw my.data sheet.png --images 60 --columns 10 --seed 2 --list valid

SOURCE is a .data file, or a list or folder of images. The images are chosen at random; the same --seed chooses the same
images. The last tile is the legend of class colors.
"""


@click.command("split", cls=Command, help=SPLIT_HELP)
@click.argument("source", metavar="SOURCE", type=FILE_PATH)
@click.argument("folder", metavar="DIR", type=OUTPUT_PATH)
@click.option(
    "--parts",
    metavar="NAME=SHARE,...",
    default="train=.8,valid=.2",
    show_default=True,
    help="Names and shares of the parts.",
)
@click.option("--seed", type=click.IntRange(0), metavar="N", default=0, show_default=True, help="Random seed.")
@force_option
def split(source: Path, folder: Path, parts: str, seed: int, overwrite: bool) -> None:
    from darkpy.data.lists.image_list import open_list
    from darkpy.data.lists.splitting import split_files

    files = split_files(source, open_list(source), folder, _parse_shares(parts), seed)
    for file in files:
        require_writable(file, overwrite=overwrite)
    make_folder(folder)
    for file, lines in files.items():
        write_atomic(file, ["".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")])
        console.echo(f"{file}" if file.suffix == ".data" else f"{file}: {len(lines)} images")


def _parse_shares(text: str) -> dict[str, float]:
    """Shares by name, from `train=.8,valid=.2`. Raises: DarkpyError."""
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = (word.strip() for word in part.partition("="))
        try:
            share = float(value)
        except ValueError:
            share = 0.0
        if not equals or not share > 0 or not name.isidentifier() or name in shares:
            raise DarkpyError(f"--parts: {part!r} is not NAME=SHARE", hint="--parts train=.8,valid=.2")
        shares[name] = share
    return shares


@click.command("stats", cls=Command, help=STATS_HELP)
@click.argument("source", metavar="SOURCE", type=FILE_PATH)
@json_option
@dialect_option
def stats(source: Path, as_json: bool, dialect: str | None) -> None:
    from darkpy.data.lists.image_list import open_lists
    from darkpy.data.lists.statistics import count_list, shared_images, text_lines

    lists = open_lists(source, LIST_KEYS)
    label_dialect = Dialect(dialect) if dialect else None
    counts = {key: count_list(images, images.read_labels(label_dialect)) for key, images in lists.items()}
    shared = shared_images(lists)
    if as_json:
        record = {key: count.as_record() for key, count in counts.items()}
        pairs = [{"lists": list(pair), "images": count} for pair, count in shared.items()]
        console.echo(json.dumps({**record, "shared": pairs}))
        return
    for key, statistics in counts.items():
        console.echo("\n".join(text_lines(key, statistics)))
    for (first, second), count in shared.items():
        console.echo(f"{count} images are in {first} and in {second}")


@click.command("draw", cls=Command, help=DRAW_HELP)
@click.argument("source", metavar="SOURCE", type=FILE_PATH)
@click.argument("target", metavar="PNG", type=OUTPUT_PATH)
@click.option(
    "--images", type=click.IntRange(1, 1000), metavar="N", default=23, show_default=True, help="Number of images."
)
@click.option(
    "--columns", type=click.IntRange(1, 100), metavar="N", default=6, show_default=True, help="Images per row."
)
@click.option("--seed", type=click.IntRange(0), metavar="N", default=0, show_default=True, help="Random seed.")
@click.option(
    "--list", "key", metavar="KEY", default="train", show_default=True, help="List of a .data file: train or valid."
)
@force_option
@dialect_option
@max_pixels_option
def draw(
    source: Path,
    target: Path,
    images: int,
    columns: int,
    seed: int,
    key: str,
    overwrite: bool,
    dialect: str | None,
) -> None:
    from darkpy.data.lists.image_list import open_list
    from darkpy.diagnostics.report.label_sheet import LabelSheet, choose, fill_sheet

    require_writable(target, overwrite=overwrite)
    image_list = open_list(source, key)
    labels = image_list.read_labels(Dialect(dialect) if dialect else None)
    sheet, indices = LabelSheet(), choose(len(image_list.images), images, seed)
    for _ in console.track(fill_sheet(sheet, image_list, labels, indices), len(indices)):
        pass
    console.warn_many("images cannot be read", sheet.bad)
    if not sheet.tiles:
        raise DarkpyError("none of the images can be read", hint=sheet.bad[0])
    write_atomic(target, [sheet.to_png(image_list, columns)])
    console.echo(f"{target}: {len(sheet.tiles)} of {len(image_list.images)} images")
