"""`darkpy dataset to-...`: convert darknet's data sets to other programs' formats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from darkpy.cli import console
from darkpy.cli.options import (
    FILE_PATH,
    OUTPUT_PATH,
    Command,
    copy_option,
    corners_option,
    dialect_option,
    force_option,
    max_pixels_option,
    require_writable,
)
from darkpy.dialect import Dialect
from darkpy.files import make_folder, write_atomic

if TYPE_CHECKING:
    from darkpy.data.formats.annotations import AnnotatedDataset

TO_COCO_HELP = """Convert the labels of a data set to COCO JSON.

\b
  darkpy dataset to-coco my.data annotations
  darkpy dataset to-coco photos.txt photos.json

SOURCE is a .data file: TARGET is then a folder, which gets a file for each list (train.json, valid.json, ...). Or it is
one list or folder of images: TARGET is then a JSON file. The images are opened for their sizes, and named relative to
the common folder of all, which darkpy dataset from-coco takes as --images. Objects of difficult= (for valid=),
difficult_train= and difficult_test= become crowds.
"""
TO_VOC_HELP = """Convert the labels of a data set to PASCAL VOC XML.

\b
  darkpy dataset to-voc my.data voc

SOURCE is a .data file, or a list or folder of images. DIR gets Annotations, JPEGImages (links to the images) and a list
in ImageSets/Main for each list of the .data file. Objects of difficult= (for valid=), difficult_train= and
difficult_test= are marked as difficult. Boxes keep their fractions of pixels. --corners is the meaning of the written
numbers, as in darkpy dataset from-voc.
"""
TO_YOLO_HELP = """Convert a data set to ultralytics' format.

\b
  darkpy dataset to-yolo my.data pets
  yolo train data=pets/data.yaml

SOURCE is a .data file, or a list or folder of images. DIR gets images (links) and labels with a folder for each list,
valid= as val, and data.yaml. Without a valid= list, val is the same as train. Difficult objects, which the format does
not have, become ordinary ones; boxes are cut off at the edge of their image.
"""


@click.command("to-coco", cls=Command, help=TO_COCO_HELP)
@click.argument("source", metavar="SOURCE", type=FILE_PATH)
@click.argument("target", metavar="TARGET", type=OUTPUT_PATH)
@force_option
@dialect_option
@max_pixels_option
def to_coco(source: Path, target: Path, overwrite: bool, dialect: str | None) -> None:
    from darkpy.data.formats.coco_writer import coco_content

    dataset = _read_source(source, dialect)
    to_folder = source.suffix == ".data"
    files = {key: target / f"{key}.json" if to_folder else target for key in dataset.splits}
    for file in files.values():
        require_writable(file, overwrite=overwrite)
    if to_folder:
        make_folder(target)
    for key, file in files.items():
        content = coco_content(dataset, dataset.splits[key])
        if content.empty:
            console.warn(f"{content.empty} boxes of {key} have no size and are left out")
        write_atomic(file, content.to_json())
        console.echo(f"{file}: {len(content.images)} images, {len(content.annotations)} boxes")


@click.command("to-voc", cls=Command, help=TO_VOC_HELP)
@click.argument("source", metavar="SOURCE", type=FILE_PATH)
@click.argument("folder", metavar="DIR", type=OUTPUT_PATH)
@corners_option
@copy_option
@force_option
@dialect_option
@max_pixels_option
def to_voc(source: Path, folder: Path, corners: str, copy: bool, overwrite: bool, dialect: str | None) -> None:
    from darkpy.data.formats.voc import Corners
    from darkpy.data.formats.voc_writer import write_voc

    dataset = _read_source(source, dialect)
    for _ in console.track(
        write_voc(dataset, folder, Corners(corners), copy=copy, overwrite=overwrite), len(dataset.images)
    ):
        pass
    boxes = sum(len(image.objects) for image in dataset.images.values())
    console.echo(f"{folder}: {len(dataset.images)} images, {boxes} boxes")


@click.command("to-yolo", cls=Command, help=TO_YOLO_HELP)
@click.argument("source", metavar="SOURCE", type=FILE_PATH)
@click.argument("folder", metavar="DIR", type=OUTPUT_PATH)
@copy_option
@force_option
@dialect_option
@max_pixels_option
def to_yolo(source: Path, folder: Path, copy: bool, overwrite: bool, dialect: str | None) -> None:
    from darkpy.data.formats.darknet_writer import ImportStats, label_texts
    from darkpy.data.formats.yolo_writer import write_yolo

    dataset = _read_source(source, dialect)
    stats = ImportStats()
    labels = label_texts(dataset, dataset.class_names(), stats, difficult="keep")
    writing = write_yolo(dataset, labels, folder, copy=copy, overwrite=overwrite)
    for _ in console.track(writing, sum(map(len, dataset.splits.values()))):
        pass
    console.warn_many("boxes without a size are left out", stats.empty)
    console.warn_many("boxes outside their image are left out", stats.outside)
    difficult = sum(item.is_difficult for image in dataset.images.values() for item in image.objects)
    if difficult:
        console.warn(f"{difficult} difficult objects become ordinary ones")
    console.echo(f"{folder / 'data.yaml'}: {len(dataset.images)} images, {stats.boxes.total()} boxes")


def _read_source(source: Path, dialect: str | None) -> AnnotatedDataset:
    from darkpy.data.formats.darknet_reader import read_darknet

    dataset = read_darknet(source, Dialect(dialect) if dialect else None)
    for description, locations in dataset.losses.items():
        console.warn_many(description, locations)
    return dataset
