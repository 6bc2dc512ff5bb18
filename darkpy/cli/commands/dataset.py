"""`darkpy dataset ...`: convert, split, count and draw data sets."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from darkpy.cli import console
from darkpy.cli.options import (
    FILE_PATH,
    OUTPUT_PATH,
    Command,
    UnitFloat,
    collect,
    dialect_option,
    force_option,
    json_option,
    require_writable,
)
from darkpy.data.lists.text_files import DIFFICULT_KEYS, read_names
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.files import make_folder, write_atomic

if TYPE_CHECKING:
    from darkpy.data.formats.annotations import AnnotatedDataset
    from darkpy.data.formats.coco_writer import CocoContent
    from darkpy.data.formats.darknet_writer import DarknetSet, ImportStats
    from darkpy.data.lists.image_list import ImageList

LIST_KEYS = ("train", "valid", "test")

FROM_VOC_HELP = """Convert a folder in PASCAL VOC format to a darknet data set.

\b
  darkpy dataset from-voc VOCdevkit/VOC2007 voc
  darkpy train my.cfg voc/voc.data

SRC holds Annotations, JPEGImages and optionally ImageSets/Main, or XML files and images side by side. DIR gets
pictures/ (links to the images, with label files beside them), a list for each split of ImageSets/Main (without any:
train.txt and valid.txt, split at random), the class names in alphabetical order, and DIR.data.

Difficult objects, which do not count as missed in an evaluation, go into separate label files, which difficult= in the
.data file names for darkpy detector map; difficult_train= and difficult_test= do so for the other lists. Boxes without
a size and boxes outside their image are counted and left out. Sizes that are missing or swapped are taken from the
images, and boxes that are missing from polygons; all faults of all files are reported at once.

--corners is the meaning of a box's numbers. darknet: as in darknet's voc_label.py, x = (xmin + xmax) / 2 - 1 and
w = xmax - xmin; voc: as VOC defines them, both corners belong to the box, w = xmax - xmin + 1; edges: the edges of the
box, counted from 0.
"""
FROM_COCO_HELP = """Convert COCO JSON to a darknet data set.

\b
  darkpy dataset from-coco annotations/instances_train2017.json annotations/instances_val2017.json coco
  darkpy dataset from-coco export/_annotations.coco.json pets --images export

Each JSON becomes a split named after its file; a single one is split at random into train and valid. DIR gets the same
files as from darkpy dataset from-voc. Classes are ordered by category id, including those without an object. Crowds
(iscrowd) become difficult objects, which do not count as missed. Segmentations and key points are dropped; an
annotation without a box gets the one around its segmentation. All faults of all files are reported at once.
"""
TO_COCO_HELP = """Convert the labels of a data set to COCO JSON.

\b
  darkpy dataset to-coco my.data annotations
  darkpy dataset to-coco photos.txt photos.json

SOURCE is a .data file: TARGET is then a folder, which gets a file for each list (train.json, valid.json, ...). Or it is
one list or folder of images: TARGET is then a JSON file. The images are opened for their sizes, and named relative to
their common folder. Objects of difficult= (for valid=), difficult_train= and difficult_test= become crowds.
"""
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


@dataclass(frozen=True, kw_only=True)
class _WriteOptions:
    """Settings for writing a data set: the values of `_write_options`."""

    names_file: Path | None
    difficult: str
    copy: bool
    valid: float
    seed: int
    overwrite: bool


_write_options = collect(
    _WriteOptions,
    "options",
    click.option(
        "--names",
        "names_file",
        type=FILE_PATH,
        metavar="FILE",
        help="Class names in order, one per line; objects of other classes are left out.",
    ),
    click.option(
        "--difficult",
        type=click.Choice(["apart", "keep", "drop"]),
        default="apart",
        show_default=True,
        help="Difficult objects: into separate label files, kept among the others, or dropped.",
    ),
    click.option("--copy", is_flag=True, help="Copy the images instead of linking to them."),
    click.option(
        "--valid",
        type=UnitFloat(),
        metavar="0..1",
        default=0.2,
        show_default=True,
        help="Share of images for validation, when the source has no splits.",
    ),
    click.option(
        "--seed", type=click.IntRange(0), metavar="N", default=0, show_default=True, help="Random seed of the split."
    ),
    click.option("--force", "overwrite", is_flag=True, help="Write into a non-empty folder, overwriting files there."),
)


@click.command("from-voc", cls=Command, help=FROM_VOC_HELP)
@click.argument("source", metavar="SRC", type=FILE_PATH)
@click.argument("folder", metavar="DIR", type=OUTPUT_PATH)
@click.option(
    "--corners",
    type=click.Choice(["darknet", "voc", "edges"]),
    default="darknet",
    show_default=True,
    help="Meaning of xmin, ymin, xmax, ymax.",
)
@_write_options
def from_voc(
    source: Path,
    folder: Path,
    corners: str,
    options: _WriteOptions,
) -> None:
    from darkpy.data.formats.voc import Corners, read_voc

    _write(read_voc(source, Corners(corners)), folder, options)


@click.command("from-coco", cls=Command, help=FROM_COCO_HELP)
@click.argument("sources", metavar="JSON...", type=FILE_PATH, nargs=-1, required=True)
@click.argument("folder", metavar="DIR", type=OUTPUT_PATH)
@click.option("--images", type=FILE_PATH, metavar="DIR", help="Folder of the images.  [default: COCO's layout]")
@_write_options
def from_coco(
    sources: tuple[Path, ...],
    folder: Path,
    images: Path | None,
    options: _WriteOptions,
) -> None:
    from darkpy.data.formats.coco import read_coco_splits

    _write(read_coco_splits(sources, images), folder, options)


def _write(annotations: AnnotatedDataset, folder: Path, options: _WriteOptions) -> None:
    """Write annotations as a darknet data set and print a summary."""
    from darkpy.data.formats.darknet_writer import DarknetSet, ImportStats, label_texts, write_set
    from darkpy.data.lists.splitting import split

    console.warn_many("annotated images do not exist", annotations.missing)
    for description, locations in annotations.losses.items():
        console.warn_many(description, locations)
    if not annotations.images:
        raise DarkpyError("none of the annotated images exists", hint="darkpy dataset from-coco --help: --images DIR")
    names = annotations.class_names() if options.names_file is None else read_names(options.names_file)
    if not names:
        raise DarkpyError("no image has an object", hint="name the classes with --names FILE")
    stats = ImportStats()
    labels = label_texts(annotations, names, stats, difficult=options.difficult)
    valid = options.valid
    shares = {"train": 1 - valid, "valid": valid} if 0 < valid < 1 else {"valid" if valid else "train": 1.0}
    splits = annotations.splits or split(list(annotations.images), shares, options.seed)
    listed = {name for members in splits.values() for name in members}
    images = {name: image.file for name, image in annotations.images.items() if name in listed}
    if len(listed) < len(annotations.images):
        console.info(f"{len(annotations.images) - len(listed)} images are in no split and are left out")
    data_set = DarknetSet(images=images, labels=labels, splits=splits, names=names)
    writing = write_set(data_set, folder, copy=options.copy, overwrite=options.overwrite)
    for _ in console.track(writing, len(images)):
        pass
    _print_summary(data_set, stats, folder)


def _print_summary(data_set: DarknetSet, stats: ImportStats, folder: Path) -> None:
    from darkpy.data.formats.darknet_writer import data_path

    console.warn_many("boxes without a size are left out", stats.empty)
    console.warn_many("boxes outside their image are left out", stats.outside)
    if stats.cut:
        console.warn(f"{stats.cut} boxes extend beyond their image and are clipped")
    for name, count in stats.unnamed.most_common():
        console.warn(f"{count} objects of class {name!r}, which is not in the names, are left out")
    splits = ", ".join(f"{split} {len(members)}" for split, members in data_set.splits.items())
    classes = ", ".join(f"{name} {stats.boxes[name]}" for name in data_set.names)
    console.echo(f"{folder}: {len(data_set.images)} images ({splits})")
    console.echo(f"{stats.boxes.total()} boxes: {classes}")
    if stats.difficult:
        console.echo(f"{stats.difficult.total()} difficult objects in separate label files")
    data = data_path(folder)
    console.echo(f"{data}: train={data_set.train}.txt, valid={data_set.valid}.txt. Train with:")
    console.echo(f"  darkpy train CFG {shlex.quote(str(data))}")


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
