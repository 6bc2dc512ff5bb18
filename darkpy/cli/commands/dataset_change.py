"""`darkpy dataset remap` and `merge`: new data sets with other classes, or of several data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from darkpy.cli import console
from darkpy.cli.commands.dataset_import import WriteOptions, write_dataset
from darkpy.cli.options import (
    FILE_PATH,
    OUTPUT_PATH,
    Command,
    copy_option,
    dialect_option,
    force_option,
    max_pixels_option,
)
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError

if TYPE_CHECKING:
    from darkpy.data.formats.annotations import AnnotatedDataset

REMAP_HELP = """Rename, merge and drop classes of a data set.

\b
  darkpy dataset remap coco.data pets --map cat=pet,dog=pet,drop=*
  darkpy dataset remap my.data renamed --map 0=car,lorry=truck --map drop=background

SOURCE is a .data file, or a list or folder of images; its files are not changed. DIR gets the same files as from darkpy
dataset from-voc, with the new names. Classes are named by name or number. OLD=NEW renames a class; classes that get one
name become one; drop=OLD drops a class, drop=* all that --map does not name. Other classes stay. Images that lose all
of their objects stay as images without objects.
"""
MERGE_HELP = """Merge data sets.

\b
  darkpy dataset merge mine.data voc/voc.data both
  darkpy dataset merge mine.data new_images/ both

SOURCE is a .data file, or a list or folder of images, which is added to train; their files are not changed. DIR gets
the same files as from darkpy dataset from-voc. Lists with the same key become one, and so do classes with the same
name; darkpy dataset remap renames those that differ. Images with the same name get different ones; an image that is in
several of the data sets has the objects of all.
"""


@click.command("remap", cls=Command, help=REMAP_HELP)
@click.argument("source", metavar="SOURCE", type=FILE_PATH)
@click.argument("folder", metavar="DIR", type=OUTPUT_PATH)
@click.option(
    "--map",
    "maps",
    metavar="OLD=NEW,...",
    multiple=True,
    required=True,
    help="New names; drop=OLD drops a class.",
)
@copy_option
@force_option
@dialect_option
@max_pixels_option
def remap(source: Path, folder: Path, maps: tuple[str, ...], copy: bool, overwrite: bool, dialect: str | None) -> None:
    from darkpy.data.formats.set_operations import parse_class_map, remap_classes

    dataset = _read(source, dialect)
    new_names = parse_class_map(maps, dataset.class_names())
    write_dataset(remap_classes(dataset, new_names), folder, WriteOptions(copy=copy, overwrite=overwrite))


@click.command("merge", cls=Command, help=MERGE_HELP)
@click.argument("sources", metavar="SOURCE...", type=FILE_PATH, nargs=-1, required=True)
@click.argument("folder", metavar="DIR", type=OUTPUT_PATH)
@copy_option
@force_option
@dialect_option
@max_pixels_option
def merge(sources: tuple[Path, ...], folder: Path, copy: bool, overwrite: bool, dialect: str | None) -> None:
    from darkpy.data.formats.set_operations import merge_datasets

    if len(set(sources)) < 2:
        raise DarkpyError("merging needs at least two data sets", hint="name two data sets or more, and the new folder")
    datasets = {source: _read(source, dialect) for source in sources}
    unnamed = [str(source) for source, dataset in datasets.items() if all(map(str.isdecimal, dataset.class_names()))]
    console.warn_many("data sets have no names: their classes are called by their numbers", unnamed)
    write_dataset(merge_datasets(datasets), folder, WriteOptions(copy=copy, overwrite=overwrite))


def _read(source: Path, dialect: str | None) -> AnnotatedDataset:
    from darkpy.data.formats.darknet_reader import read_darknet

    return read_darknet(source, Dialect(dialect) if dialect else None)
