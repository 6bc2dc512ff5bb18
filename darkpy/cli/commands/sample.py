"""`darkpy sample`: a small data set, drawn on the spot."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from darkpy.cli import console
from darkpy.cli.options import FILE_PATH
from darkpy.cli.parsing import Command

MAX_IMAGES = 100_000
SIZES = (64, 1024)

HELP = """Draw a small data set to try everything on.

DIR gets images of circles, squares, triangles and crosses on textures, with labels beside them: train/, valid/ and
their lists, sample.data, sample.names, and sample.cfg, a network that learns them in a minute or two without a GPU.

\b
  darkpy sample shapes
  darkpy train shapes/sample.cfg shapes/sample.data
  darkpy detector map shapes/sample.data shapes/sample.cfg shapes/backup/sample_final.weights

The same --seed draws the same images.
"""


@click.command(cls=Command, help=HELP, short_help="Draw a small data set to try everything on.")
@click.argument("folder", metavar="DIR", type=FILE_PATH)
@click.option(
    "--images",
    type=click.IntRange(1, MAX_IMAGES),
    metavar="N",
    default=400,
    show_default=True,
    help="Images to train on.",
)
@click.option(
    "--valid",
    type=click.IntRange(1, MAX_IMAGES),
    metavar="N",
    default=80,
    show_default=True,
    help="Images to judge by.",
)
@click.option(
    "--size",
    type=click.IntRange(*SIZES),
    metavar="N",
    default=160,
    show_default=True,
    help="Width and height of an image in pixels.",
)
@click.option("--seed", type=click.IntRange(0), metavar="N", default=0, show_default=True, help="Which images.")
@click.option("--voc-xml", is_flag=True, help="Write PASCAL VOC's XML beside the labels, too.")
@click.option("--force", is_flag=True, help="Write into a folder that is not empty, over files of the same names.")
def sample(folder: Path, images: int, valid: int, size: int, seed: int, voc_xml: bool, force: bool) -> None:
    from darkpy.data.synthetic import SyntheticConfig, write_synthetic_dataset

    drawn = SyntheticConfig(images=images, valid=valid, size=size, seed=seed)
    for _ in console.track(write_synthetic_dataset(drawn, folder, voc_xml=voc_xml, overwrite=force), images + valid):
        pass
    click.echo(f"{folder}: {images} images to train on, {valid} to judge by. Now try:")
    for line in _next_commands(folder):
        click.echo(f"  {line}")


def _next_commands(folder: Path) -> list[str]:
    cfg, data, weights, pictures = (
        shlex.quote(str(folder / name))
        for name in ("sample.cfg", "sample.data", "backup/sample_final.weights", "valid")
    )
    names, drawn = shlex.quote(str(folder / "sample.names")), shlex.quote(str(folder / "drawn"))
    return [
        f"darkpy train {cfg} {data}",
        f"darkpy detector map {data} {cfg} {weights}",
        f"darkpy detect {cfg} {weights} {pictures} --names {names} --out {drawn}",
    ]
