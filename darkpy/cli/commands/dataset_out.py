"""`darkpy dataset to-coco`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from darkpy.cli import console
from darkpy.cli.options import FILE_PATH, dialect_option, force_option, require_writable
from darkpy.cli.parsing import Command
from darkpy.data.lists.data_file import DIFFICULT_KEYS
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.files import make_folder, write_atomic

if TYPE_CHECKING:
    from darkpy.data.formats.coco_writer import CocoContent
    from darkpy.data.lists.image_list import ImageList

TO_COCO_HELP = """Write the labels of a data set as COCO's JSON.

\b
  darkpy dataset to-coco my.data annotations
  darkpy dataset to-coco photos.txt photos.json

SOURCE is a .data file: TARGET is a folder, which gets a file for each of its lists, train.json, valid.json, ... Or it
is one list of images, or a folder of images: then TARGET is a JSON file. The images are opened for their sizes, and
named from the folder that all of them lie in. The objects of difficult= (of valid=), difficult_train= and
difficult_test= become crowds.
"""
LISTS = ("train", "valid", "test")


@click.command("to-coco", cls=Command, help=TO_COCO_HELP, short_help="Write labels as COCO's JSON.")
@click.argument("source", metavar="SOURCE", type=FILE_PATH)
@click.argument("target", metavar="TARGET", type=FILE_PATH)
@force_option
@dialect_option
def to_coco(source: Path, target: Path, overwrite: bool, dialect: str | None) -> None:
    from darkpy.data.lists.image_list import open_lists

    lists = open_lists(source, (*LISTS, *DIFFICULT_KEYS.values()))
    difficult = {key: lists.pop(name) for key, name in DIFFICULT_KEYS.items() if name in lists}
    is_folder = source.suffix == ".data"
    files = {key: target / f"{key}.json" if is_folder else target for key in lists}
    for file in files.values():
        require_writable(file, source, overwrite=overwrite)
    rule = Dialect(dialect) if dialect else None
    made = {key: _convert(key, listed, difficult.get(key), rule) for key, listed in lists.items()}
    for key, one in made.items():
        if is_folder:
            make_folder(target)
        write_atomic(files[key], one.to_json())
        click.echo(f"{files[key]}: {len(one.images)} images, {len(one.annotations)} boxes")


def _convert(key: str, listed: ImageList, difficult: ImageList | None, rule: Dialect | None) -> CocoContent:
    from darkpy.data.formats.coco_writer import fill_coco, start_coco

    plain = listed.read_labels(rule)
    crowds = None if difficult is None else difficult.read_labels(rule)
    if difficult is not None and len(difficult.images) != len(listed.images):
        raise DarkpyError(f"{DIFFICULT_KEYS[key]}= lists {len(difficult.images)} images, {key}= {len(listed.images)}")
    tables = (plain,) if crowds is None else (plain, crowds)
    made = start_coco(listed, *tables)
    for _ in console.track(fill_coco(made, listed, *tables), len(listed.images)):
        pass
    missing = [table.files[index] for table in tables for index in table.missing]
    console.warn_many(f"images of {key} without labels", missing)
    console.warn_many(f"invalid label lines in {key}", [problem for table in tables for problem in table.problems])
    console.warn_many(f"images of {key} cannot be read and are left out", made.bad)
    if made.empty:
        console.warn(f"{made.empty} boxes without a size are left out")
    if not made.images:
        raise DarkpyError(f"no image of {key} can be read; the first: {made.bad[0]}")
    return made
