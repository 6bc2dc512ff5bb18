"""`darkpy dataset split`, `stats` and `draw`: a data set cut up, counted, and seen."""

from __future__ import annotations

import json
from pathlib import Path

import click

from darkpy.cli import console
from darkpy.cli.commands.dataset_out import LISTS
from darkpy.cli.options import FILE_PATH, dialect_option, force_option, require_writable
from darkpy.cli.parsing import Command
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.files import make_folder, write_atomic

SPLIT_HELP = """Deal the images of a list at random into several.

\b
  darkpy dataset split photos.txt lists
  darkpy dataset split my.data lists --parts train=.7,valid=.2,test=.1 --seed 7

SOURCE is a list of images, a folder of images, or a .data file, whose train= counts. DIR gets a list for each part;
and of a .data file one more that names them, without difficult= of lists that are others now. The same images and the
same --seed give the same parts, in whatever order the images come, and of a set that has grown a little few images
change their part.
"""
STATS_HELP = """Count what is in a data set.

\b
  darkpy dataset stats my.data
  darkpy dataset stats my.data --json | jq .train.classes

SOURCE is a .data file, whose train=, valid= and test= are counted one by one, or a list or folder of images. Told are
images without labels and without boxes, boxes of each class and how many images they are on, how large boxes are and
how many an image has, boxes that are not as they should be, and images that two lists have in common.
"""
DRAW_HELP = """Draw a contact sheet: images of a data set with their boxes.

\b
  darkpy dataset draw my.data sheet.png
  darkpy dataset draw my.data sheet.png --images 60 --columns 10 --seed 2 --list valid

SOURCE is a .data file, or a list or folder of images. The images are drawn at random; the same --seed shows the same
ones. The last tile tells the colors of the classes.
"""


@click.command("split", cls=Command, help=SPLIT_HELP, short_help="Deal the images of a list into several.")
@click.argument("source", metavar="SOURCE", type=FILE_PATH)
@click.argument("folder", metavar="DIR", type=FILE_PATH)
@click.option(
    "--parts", metavar="NAME=SHARE,...", default="train=.8,valid=.2", show_default=True, help="What to deal into."
)
@click.option("--seed", type=click.IntRange(0), metavar="N", default=0, show_default=True, help="Which images.")
@force_option
def split(source: Path, folder: Path, parts: str, seed: int, overwrite: bool) -> None:
    from darkpy.data.lists.image_list import open_list
    from darkpy.data.lists.splitting import split_files

    files = split_files(source, open_list(source), folder, _shares(parts), seed)
    for file in files:
        require_writable(file, source, overwrite=overwrite)
    make_folder(folder)
    for file, lines in files.items():
        write_atomic(file, ["".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")])
        click.echo(f"{file}" if file.suffix == ".data" else f"{file}: {len(lines)} images")


def _shares(text: str) -> dict[str, float]:
    """`train=.8,valid=.2` in numbers."""
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = (word.strip() for word in part.partition("="))
        try:
            share = float(value)
        except ValueError:
            share = 0.0
        if not equals or not share > 0 or not name.isidentifier() or name in shares:
            raise DarkpyError(f"--parts: {part!r} is no name and share", hint="--parts train=.8,valid=.2")
        shares[name] = share
    return shares


@click.command("stats", cls=Command, help=STATS_HELP, short_help="Count what is in a data set.")
@click.argument("source", metavar="SOURCE", type=FILE_PATH)
@click.option("--json", "is_json", is_flag=True, help="Print JSON.")
@dialect_option
def stats(source: Path, is_json: bool, dialect: str | None) -> None:
    from darkpy.data.lists.image_list import open_lists
    from darkpy.data.lists.statistics import count_list, shared_images, text_lines

    lists = open_lists(source, LISTS)
    rule = Dialect(dialect) if dialect else None
    counted = {key: count_list(listed, listed.read_labels(rule)) for key, listed in lists.items()}
    shared = shared_images(lists)
    if is_json:
        record = {key: one.as_record() for key, one in counted.items()}
        pairs = [{"lists": list(pair), "images": count} for pair, count in shared.items()]
        click.echo(json.dumps({**record, "shared": pairs}))
        return
    for key, one in counted.items():
        click.echo("\n".join(text_lines(key, one)))
    for (first, second), count in shared.items():
        click.echo(f"{count} images are in {first} and in {second}")


@click.command("draw", cls=Command, help=DRAW_HELP, short_help="Draw images of a data set with their boxes.")
@click.argument("source", metavar="SOURCE", type=FILE_PATH)
@click.argument("target", metavar="PNG", type=FILE_PATH)
@click.option("--images", type=click.IntRange(1, 1000), metavar="N", default=23, show_default=True, help="How many.")
@click.option("--columns", type=click.IntRange(1, 100), metavar="N", default=6, show_default=True, help="In a row.")
@click.option("--seed", type=click.IntRange(0), metavar="N", default=0, show_default=True, help="Which images.")
@click.option(
    "--list", "key", metavar="KEY", default="train", show_default=True, help="Which list of a .data file: train, valid."
)
@force_option
@dialect_option
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

    require_writable(target, source, overwrite=overwrite)
    listed = open_list(source, key)
    table = listed.read_labels(Dialect(dialect) if dialect else None)
    sheet, numbers = LabelSheet(), choose(len(listed.images), images, seed)
    for _ in console.track(fill_sheet(sheet, listed, table, numbers), len(numbers)):
        pass
    console.warn_many("images cannot be read", sheet.bad)
    if not sheet.tiles:
        raise DarkpyError("none of the images can be read", hint=sheet.bad[0])
    write_atomic(target, [sheet.to_png(listed, columns)])
    click.echo(f"{target}: {len(sheet.tiles)} of {len(listed.images)} images")
