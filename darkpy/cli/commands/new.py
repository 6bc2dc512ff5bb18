"""`darkpy new`: a cfg for one's own data."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from darkpy.cli import console
from darkpy.cli.input_size import InputSize
from darkpy.cli.options import FILE_PATH, OUTPUT_PATH, Command, dialect_option, force_option, require_writable
from darkpy.files import note_input, write_atomic

NEW_HELP = """Write a cfg for your data, from a published one.

\b
  darkpy new yolov4-tiny --data my.data
  darkpy new yolov4-tiny --data my.data --size 608x352 --out my.cfg
  darkpy doctor my.cfg my.data

TEMPLATE is the name of a network (darkpy models lists them) or the path of any detector's cfg. The new cfg has batch=64
and subdivisions=16, the classes of DATA in every head with the filters= before it, anchors computed from DATA's boxes
with masks that give the smallest ones to the finest map, and the length and steps that AlexeyAB's README advises:
max_batches is 2000 for each class, at least 6000 and at least the number of images, and the rate falls at 80 % and
90 %. Every changed line is printed with its reason; all others, comments included, stay.

Heads start untrained with new classes or anchors: begin with weights that end before them, such as yolov4-tiny.conv.29.
"""


@click.command(cls=Command, help=NEW_HELP)
@click.argument("template")
@click.option("--data", type=FILE_PATH, metavar="DATA", required=True, help="The .data file.")
@click.option("--size", type=InputSize(), metavar="N|WxH", help="Input size.  [default: TEMPLATE's]")
@click.option("--out", type=OUTPUT_PATH, metavar="CFG", help="File to write.  [default: TEMPLATE-DATA.cfg]")
@click.option("--seed", type=click.IntRange(0), metavar="N", default=0, show_default=True, help="Random seed.")
@force_option
@dialect_option
def new(
    template: str,
    data: Path,
    size: tuple[int, int] | None,
    out: Path | None,
    seed: int,
    overwrite: bool,
    dialect: str | None,
) -> None:
    from darkpy.custom_cfg import describe, find_template, make_custom_cfg

    path = find_template(template)
    note_input(path)
    target = out or Path(f"{path.stem}-{data.stem}.cfg")
    require_writable(target, overwrite=overwrite)
    custom = make_custom_cfg(path, data, size=size, dialect=dialect, seed=seed)
    for line in describe(custom):
        console.echo(line)
    write_atomic(target, [custom.text.encode("utf-8", "surrogateescape")])
    cfg, data_name = shlex.quote(str(target)), shlex.quote(str(data))
    console.echo(f"{target}: {len(custom.changes)} keys changed. Next:")
    console.echo(f"  darkpy doctor {cfg} {data_name}")
    console.echo(f"  darkpy train {cfg} {data_name}")
