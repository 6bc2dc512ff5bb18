"""`darkpy sample`: create a small synthetic data set."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from darkpy.cli import console
from darkpy.cli.options import OUTPUT_PATH, Command

MAX_IMAGES = 100_000
IMAGE_SIDES_PX = (64, 1024)

SAMPLE_HELP = """Create a small synthetic data set to try darkpy on.

DIR gets images of circles, squares, triangles and crosses on textures with their labels (train/, valid/ and their
lists), sample.data, sample.names, and sample.cfg, a network that learns them in one or two minutes without a GPU.

\b
  darkpy sample shapes
  darkpy train shapes/sample.cfg shapes/sample.data
  darkpy detector map shapes/sample.data shapes/sample.cfg shapes/backup/sample_final.weights

The same --seed gives the same images.
"""


@click.command(cls=Command, help=SAMPLE_HELP)
@click.argument("folder", metavar="DIR", type=OUTPUT_PATH)
@click.option(
    "--images",
    type=click.IntRange(1, MAX_IMAGES),
    metavar="N",
    default=400,
    show_default=True,
    help="Number of training images.",
)
@click.option(
    "--valid",
    type=click.IntRange(1, MAX_IMAGES),
    metavar="N",
    default=80,
    show_default=True,
    help="Number of validation images.",
)
@click.option(
    "--size",
    type=click.IntRange(*IMAGE_SIDES_PX),
    metavar="N",
    default=160,
    show_default=True,
    help="Width and height of the images in pixels.",
)
@click.option("--seed", type=click.IntRange(0), metavar="N", default=0, show_default=True, help="Random seed.")
@click.option("--voc-xml", is_flag=True, help="Also write PASCAL VOC XML beside the labels.")
@click.option("--force", "overwrite", is_flag=True, help="Write into a non-empty folder, overwriting files there.")
def sample(folder: Path, images: int, valid: int, size: int, seed: int, voc_xml: bool, overwrite: bool) -> None:
    from darkpy.data.synthetic import SyntheticConfig, write_synthetic_dataset

    config = SyntheticConfig(images=images, valid=valid, size=size, seed=seed)
    writing = write_synthetic_dataset(config, folder, voc_xml=voc_xml, overwrite=overwrite)
    for _ in console.track(writing, images + valid):
        pass
    cfg, data, names, weights, valid_folder, drawn = (
        shlex.quote(str(folder / name))
        for name in ("sample.cfg", "sample.data", "sample.names", "backup/sample_final.weights", "valid", "drawn")
    )
    console.echo(f"{folder}: {images} images to train on, {valid} for validation. Next:")
    console.echo(f"  darkpy train {cfg} {data}")
    console.echo(f"  darkpy detector map {data} {cfg} {weights}")
    console.echo(f"  darkpy detect {cfg} {weights} {valid_folder} --names {names} --out {drawn}")
