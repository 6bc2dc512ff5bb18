"""`darkpy dataset ...`: data sets in other people's formats, and what is in one."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from darkpy.cli import console
from darkpy.cli.options import FILE_PATH, UnitFloat, compose
from darkpy.cli.parsing import Group
from darkpy.data.lists.names import read_names
from darkpy.errors import DarkpyError

if TYPE_CHECKING:
    from darkpy.data.formats.annotations import AnnotatedDataset
    from darkpy.data.formats.darknet_writer import DarknetSet, ImportStats

FROM_VOC_HELP = """Make a data set for both darknets of a folder in PASCAL VOC's format.

\b
  darkpy dataset from-voc VOCdevkit/VOC2007 voc
  darkpy train my.cfg voc/voc.data

SRC holds Annotations, JPEGImages and perhaps ImageSets/Main, or XML files and images beside each other. DIR gets
images/, links to the images with label files beside them; a list for each split of ImageSets/Main, or train.txt and
valid.txt, drawn at random, where there is none; the names of the classes, in the order of the alphabet; and DIR.data.

Difficult objects, which need not be found, go into label files of their own, which difficult= in the .data file names
for darkpy detector map; difficult_train= and difficult_test= name those of the other lists. Boxes without a size and
boxes outside their image are counted and left out.

--corners says what the numbers of a box mean. darknet: as darknet's script voc_label.py has it, x = (xmin + xmax) / 2 -
1 and w = xmax - xmin; voc: as VOC's own page has it, where both corners belong to the box, w = xmax - xmin + 1; edges:
they are the edges of the box, counted from 0.
"""

FROM_COCO_HELP = """Make a data set for both darknets of COCO's JSON.

\b
  darkpy dataset from-coco annotations/instances_train2017.json annotations/instances_val2017.json coco
  darkpy dataset from-coco export/_annotations.coco.json pets --images export

Each JSON is a split, called as its file; a single one is split at random into train and valid. DIR gets what darkpy
dataset from-voc writes. Classes are in the order of the ids of their categories, also those without an object. Crowds
(iscrowd) are difficult objects: they need not be found. Segmentations and key points have no place in labels.
"""


@click.group(cls=Group, short_help="Data sets: from and to VOC and COCO, splits, statistics, images.")
def dataset() -> None:
    """Data sets in other formats, and what is in one."""


_out_options = compose(
    click.option(
        "--names",
        "names_file",
        type=FILE_PATH,
        metavar="FILE",
        help="The classes and their order, one a line; objects of others are left out.",
    ),
    click.option(
        "--difficult",
        type=click.Choice(["apart", "keep", "drop"]),
        default="apart",
        show_default=True,
        help="What becomes of difficult objects.",
    ),
    click.option("--copy", "copy", is_flag=True, help="Copy the images instead of linking to them."),
    click.option(
        "--valid",
        type=UnitFloat(),
        metavar="0..1",
        default=0.2,
        show_default=True,
        help="Where the source has no splits: the share of images to judge by.",
    ),
    click.option("--seed", type=click.IntRange(0), metavar="N", default=0, show_default=True, help="Which ones."),
    click.option(
        "--force", "overwrite", is_flag=True, help="Write into a folder that is not empty, over files of its names."
    ),
)
"""How a data set is written."""


@dataset.command("from-voc", help=FROM_VOC_HELP, short_help="Make a data set of VOC's XML files.")
@click.argument("source", metavar="SRC", type=FILE_PATH)
@click.argument("folder", metavar="DIR", type=FILE_PATH)
@click.option(
    "--corners",
    type=click.Choice(["darknet", "voc", "edges"]),
    default="darknet",
    show_default=True,
    help="What xmin, ymin, xmax, ymax mean.",
)
@_out_options
def from_voc(source: Path, folder: Path, corners: str, **writing: Any) -> None:
    from darkpy.data.formats.voc import Corners, read_voc

    _write(read_voc(source, Corners(corners)), folder, **writing)


@dataset.command("from-coco", help=FROM_COCO_HELP, short_help="Make a data set of COCO's JSON.")
@click.argument("sources", metavar="JSON...", type=FILE_PATH, nargs=-1, required=True)
@click.argument("folder", metavar="DIR", type=FILE_PATH)
@click.option("--images", type=FILE_PATH, metavar="DIR", help="Where the images are.  [default: where COCO has them]")
@_out_options
def from_coco(sources: tuple[Path, ...], folder: Path, images: Path | None, **writing: Any) -> None:
    from darkpy.data.formats.coco import read_coco_splits

    _write(read_coco_splits(sources, images), folder, **writing)


def _write(
    collection: AnnotatedDataset,
    folder: Path,
    *,
    names_file: Path | None,
    difficult: str,
    copy: bool,
    valid: float,
    seed: int,
    overwrite: bool,
) -> None:
    """Write what was read as a data set, and tell what became of it."""
    from darkpy.data.formats.darknet_writer import DarknetSet, ImportStats, label_texts, write_set
    from darkpy.data.lists.splitting import split

    console.warn_many("images that are spoken of are not there", collection.missing)
    if not collection.images:
        raise DarkpyError("no annotation has an image that is there", hint="darkpy dataset --help tells where they lie")
    names = collection.class_names() if names_file is None else read_names(names_file)
    if not names:
        raise DarkpyError("no image has an object", hint="--names FILE tells the classes")
    stats = ImportStats()
    labels = label_texts(collection, names, stats, difficult=difficult)
    shares = {"train": 1 - valid, "valid": valid} if 0 < valid < 1 else {"valid" if valid else "train": 1.0}
    splits = collection.splits or split(list(collection.images), shares, seed)
    listed = {name for members in splits.values() for name in members}
    pictures = {name: image.file for name, image in collection.images.items() if name in listed}
    if len(listed) < len(collection.images):
        console.info(f"{len(collection.images) - len(listed)} images are in no split and are left out")
    made = DarknetSet(images=pictures, labels=labels, splits=splits, names=names)
    for _ in console.track(write_set(made, folder, copy=copy, overwrite=overwrite), len(pictures)):
        pass
    _report(made, stats, folder)


def _report(made: DarknetSet, stats: ImportStats, folder: Path) -> None:
    from darkpy.data.formats.darknet_writer import data_path

    console.warn_many("boxes without a size are left out", stats.empty)
    console.warn_many("boxes outside their image are left out", stats.outside)
    if stats.cut:
        console.warn(f"{stats.cut} boxes reach over the edge of their image and are cut off there")
    for name, count in stats.unnamed.most_common():
        console.warn(f"{count} objects are called {name!r}, which is no class: they are left out")
    splits = ", ".join(f"{split} {len(members)}" for split, members in made.splits.items())
    classes = ", ".join(f"{name} {stats.boxes[name]}" for name in made.names)
    click.echo(f"{folder}: {len(made.images)} images ({splits})")
    click.echo(f"{stats.boxes.total()} boxes: {classes}")
    if stats.difficult:
        click.echo(f"{stats.difficult.total()} difficult ones apart")
    data = data_path(folder)
    click.echo(f"{data}: train={made.train}.txt, valid={made.valid}.txt. Train with:")
    click.echo(f"  darkpy train CFG {shlex.quote(str(data))}")
