"""`darkpy dataset from-...`: convert other programs' data sets to darknet's."""

from __future__ import annotations

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
    copy_option,
    corners_option,
    max_pixels_option,
)
from darkpy.data.lists.text_files import read_names
from darkpy.errors import DarkpyError

if TYPE_CHECKING:
    from darkpy.data.formats.annotations import AnnotatedDataset
    from darkpy.data.formats.darknet_writer import DarknetSet, ImportStats

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
FROM_YOLO_HELP = """Convert a YOLO data set of ultralytics, Roboflow or CVAT, or a folder of images and text files.

\b
  darkpy dataset from-yolo export/data.yaml pets
  darkpy dataset from-yolo photos pets --names classes.txt

SRC is a data.yaml, a .data file, a list of images, or a folder. A folder is read by the data.yaml or .data file in it,
else by its train.txt, valid.txt and test.txt, else by its folders train, valid (or val) and test, else as images
without splits. DIR gets the same files as from darkpy dataset from-voc.

Labels are looked for in labels instead of images, beside the images, and where the darknets look. Polygons and oriented
boxes become the boxes around them; key points, scores and track numbers are dropped; what is lost is reported. Classes
are named by SRC, by a classes.txt or obj.names near it, by --names, or else by their numbers. All faults of all files
are reported at once.
"""
FROM_LABELME_HELP = """Convert LabelMe's JSON to a darknet data set.

\b
  darkpy dataset from-labelme annotated pets
  darkpy dataset from-labelme annotated pets --images photos

SRC is a folder with JSON files, in it or below it, or one JSON file. An image is found by the path in its file, else
the one in the file (imageData) is written, else it is looked for by its name in --images. DIR gets the same files as
from darkpy dataset from-voc.

Polygons, circles, lines, rotated rectangles and masks become the boxes around them; shapes of one group and label
become one box; points have no size and are left out; flags, attributes and descriptions are lost. All faults of all
files are reported at once.
"""
FROM_LABELSTUDIO_HELP = """Convert an export of Label Studio, JSON or JSON-MIN, to a darknet data set.

\b
  darkpy dataset from-labelstudio project-1-at-2026-01-31.json pets --images media/upload

The images of an export are on the server, and JSON has only their URLs: put them into a folder, and pass it as
--images. They are found by the end of the URL, with or without the letters that Label Studio puts before the names of
uploaded files. DIR gets the same files as from darkpy dataset from-voc.

Of several annotations of an image the ground truth counts, else the latest; skipped and unannotated tasks, and
predictions, are left out. Rotated rectangles, polygons, ellipses and brush masks become the boxes around them; key
points, classifications and texts are left out. All faults of all tasks are reported at once.
"""
FROM_KITTI_HELP = """Convert KITTI's detection data to a darknet data set.

\b
  darkpy dataset from-kitti kitti/training cars
  darkpy dataset from-kitti export cars

SRC has folders label_2 and image_2 (or labels and images) in it or below it. Where several do, as in train and val,
they are splits; so are lists in ImageSets. DIR gets the same files as from darkpy dataset from-voc.

Regions of the type DontCare are left out, and so are images without a label file; truncation, occlusion and 3D data are
lost. All faults of all files are reported at once.
"""
FROM_OPENIMAGES_HELP = """Convert Open Images' CSV to a darknet data set.

\b
  darkpy dataset from-openimages train-annotations-bbox.csv validation-annotations-bbox.csv pets --images photos
  darkpy dataset from-openimages train-annotations-bbox.csv cats --images photos --names cats.txt

Each CSV becomes a split named after its file; a single one is split at random into train and valid. Only boxes of
images that are in --images, or beside the files, are read. Classes are named by --classes, or the
class-descriptions*.csv beside the files, and are in its order; those without an object are left out. --names FILE reads
only its classes, which needs less memory. DIR gets the same files as from darkpy dataset from-voc.

Groups (IsGroupOf) become difficult objects, which do not count as missed; IsOccluded, IsTruncated, IsDepiction and
IsInside are lost. All faults of all files are reported at once.
"""


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """Settings for writing a data set: the values of `_write_options`."""

    names_file: Path | None = None
    difficult: str = "apart"
    copy: bool = False
    valid: float = 0.2
    seed: int = 0
    overwrite: bool = False


_write_options = collect(
    WriteOptions,
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
    copy_option,
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
    max_pixels_option,
)


_images_option = click.option(
    "--images", type=FILE_PATH, metavar="DIR", help="Folder of the images.  [default: as the files name them]"
)


@click.command("from-voc", cls=Command, help=FROM_VOC_HELP)
@click.argument("source", metavar="SRC", type=FILE_PATH)
@click.argument("folder", metavar="DIR", type=OUTPUT_PATH)
@_images_option
@corners_option
@_write_options
def from_voc(source: Path, folder: Path, images: Path | None, corners: str, options: WriteOptions) -> None:
    from darkpy.data.formats.voc import Corners, read_voc

    write_dataset(read_voc(source, Corners(corners), images), folder, options)


@click.command("from-coco", cls=Command, help=FROM_COCO_HELP)
@click.argument("sources", metavar="JSON...", type=FILE_PATH, nargs=-1, required=True)
@click.argument("folder", metavar="DIR", type=OUTPUT_PATH)
@_images_option
@_write_options
def from_coco(sources: tuple[Path, ...], folder: Path, images: Path | None, options: WriteOptions) -> None:
    from darkpy.data.formats.coco import read_coco_splits

    write_dataset(read_coco_splits(sources, images), folder, options)


@click.command("from-yolo", cls=Command, help=FROM_YOLO_HELP)
@click.argument("source", metavar="SRC", type=FILE_PATH)
@click.argument("folder", metavar="DIR", type=OUTPUT_PATH)
@_write_options
def from_yolo(source: Path, folder: Path, options: WriteOptions) -> None:
    from darkpy.data.formats.yolo_reader import read_yolo

    names = () if options.names_file is None else read_names(options.names_file)
    write_dataset(read_yolo(source, names), folder, options)


@click.command("from-labelme", cls=Command, help=FROM_LABELME_HELP)
@click.argument("source", metavar="SRC", type=FILE_PATH)
@click.argument("folder", metavar="DIR", type=OUTPUT_PATH)
@_images_option
@_write_options
def from_labelme(source: Path, folder: Path, images: Path | None, options: WriteOptions) -> None:
    from darkpy.data.formats.labelme import read_labelme

    write_dataset(read_labelme(source, images), folder, options)


@click.command("from-labelstudio", cls=Command, help=FROM_LABELSTUDIO_HELP)
@click.argument("source", metavar="JSON", type=FILE_PATH)
@click.argument("folder", metavar="DIR", type=OUTPUT_PATH)
@_images_option
@_write_options
def from_labelstudio(source: Path, folder: Path, images: Path | None, options: WriteOptions) -> None:
    from darkpy.data.formats.labelstudio import read_labelstudio

    write_dataset(read_labelstudio(source, images), folder, options)


@click.command("from-kitti", cls=Command, help=FROM_KITTI_HELP)
@click.argument("source", metavar="SRC", type=FILE_PATH)
@click.argument("folder", metavar="DIR", type=OUTPUT_PATH)
@_images_option
@_write_options
def from_kitti(source: Path, folder: Path, images: Path | None, options: WriteOptions) -> None:
    from darkpy.data.formats.kitti import read_kitti

    write_dataset(read_kitti(source, images), folder, options)


@click.command("from-openimages", cls=Command, help=FROM_OPENIMAGES_HELP)
@click.argument("sources", metavar="CSV...", type=FILE_PATH, nargs=-1, required=True)
@click.argument("folder", metavar="DIR", type=OUTPUT_PATH)
@_images_option
@click.option("--classes", type=FILE_PATH, metavar="CSV", help="Names of the classes.  [default: beside the files]")
@_write_options
def from_openimages(
    sources: tuple[Path, ...], folder: Path, images: Path | None, classes: Path | None, options: WriteOptions
) -> None:
    from darkpy.data.formats.openimages import read_openimages

    names = () if options.names_file is None else read_names(options.names_file)
    write_dataset(read_openimages(sources, images, classes, names), folder, options)


def write_dataset(annotations: AnnotatedDataset, folder: Path, options: WriteOptions) -> None:
    """Write annotations as a darknet data set and print a summary."""
    from darkpy.data.formats.darknet_writer import DarknetSet, ImportStats, label_texts, write_set
    from darkpy.data.lists.splitting import split

    console.warn_many("annotated images do not exist", annotations.missing)
    for description, locations in annotations.losses.items():
        console.warn_many(description, locations)
    if not annotations.images and not annotations.missing:
        raise DarkpyError("no image is annotated", hint="name files with annotations of images")
    if not annotations.images:
        raise DarkpyError(
            "none of the annotated images exists",
            hint="put the images where the annotations name them, or name their folder as --images DIR",
        )
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
