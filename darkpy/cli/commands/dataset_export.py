"""`darkpy dataset to-...`: convert darknet's data sets to other programs' formats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from darkpy.cli import console
from darkpy.cli.commands.dataset import LIST_KEYS
from darkpy.cli.options import FILE_PATH, OUTPUT_PATH, Command, dialect_option, force_option, require_writable
from darkpy.data.lists.text_files import DIFFICULT_KEYS
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.files import make_folder, write_atomic

if TYPE_CHECKING:
    from darkpy.data.formats.coco_writer import CocoContent
    from darkpy.data.lists.image_list import ImageList

TO_COCO_HELP = """Convert the labels of a data set to COCO JSON.

\b
  darkpy dataset to-coco my.data annotations
  darkpy dataset to-coco photos.txt photos.json

SOURCE is a .data file: TARGET is then a folder, which gets a file for each list (train.json, valid.json, ...). Or it is
one list or folder of images: TARGET is then a JSON file. The images are opened for their sizes, and named relative to
their common folder. Objects of difficult= (for valid=), difficult_train= and difficult_test= become crowds.
"""


@click.command("to-coco", cls=Command, help=TO_COCO_HELP)
@click.argument("source", metavar="SOURCE", type=FILE_PATH)
@click.argument("target", metavar="TARGET", type=OUTPUT_PATH)
@force_option
@dialect_option
def to_coco(source: Path, target: Path, overwrite: bool, dialect: str | None) -> None:
    from darkpy.data.lists.image_list import open_lists

    lists = open_lists(source, (*LIST_KEYS, *DIFFICULT_KEYS.values()))
    difficult = {key: lists.pop(name) for key, name in DIFFICULT_KEYS.items() if name in lists}
    to_folder = source.suffix == ".data"
    files = {key: target / f"{key}.json" if to_folder else target for key in lists}
    for file in files.values():
        require_writable(file, overwrite=overwrite)
    label_dialect = Dialect(dialect) if dialect else None
    coco_sets = {key: _coco_set(key, images, difficult.get(key), label_dialect) for key, images in lists.items()}
    for key, coco_set in coco_sets.items():
        if to_folder:
            make_folder(target)
        write_atomic(files[key], coco_set.to_json())
        console.echo(f"{files[key]}: {len(coco_set.images)} images, {len(coco_set.annotations)} boxes")


def _coco_set(key: str, images: ImageList, difficult: ImageList | None, dialect: Dialect | None) -> CocoContent:
    from darkpy.data.formats.coco_writer import fill_coco, start_coco

    tables = [images.read_labels(dialect)]
    if difficult is not None:
        tables.append(difficult.read_labels(dialect))
        if len(difficult.images) != len(images.images):
            counts = f"{len(difficult.images)} images, {key}= {len(images.images)}"
            raise DarkpyError(f"{DIFFICULT_KEYS[key]}= lists {counts}")
    coco_set = start_coco(images, *tables)
    for _ in console.track(fill_coco(coco_set, images, *tables), len(images.images)):
        pass
    missing = [table.files[index] for table in tables for index in table.missing]
    console.warn_many(f"images of {key} without labels", missing)
    console.warn_many(f"invalid label lines in {key}", [problem for table in tables for problem in table.problems])
    console.warn_many(f"images of {key} cannot be read and are left out", coco_set.bad)
    if coco_set.empty:
        console.warn(f"{coco_set.empty} boxes without a size are left out")
    if not coco_set.images:
        raise DarkpyError(f"no image of {key} can be read; first: {coco_set.bad[0]}")
    return coco_set
