"""Accuracy of a classifier: darknet's `classifier valid`, `valid10`, `validcrop`, `validfull` and `validmulti`."""

from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter

import click

from darkpy.cli import console
from darkpy.cli.commands.classifier import network_arguments, top_option
from darkpy.cli.load import open_network
from darkpy.cli.options import Command, Decorator, LoadOptions, compose, json_option, max_pixels_option, network_options
from darkpy.data.lists.text_files import read_data, read_top
from darkpy.errors import DarkpyError
from darkpy.evaluation.defaults import CLASSIFIER_BATCH_SIZE

MAX_BATCH_SIZE = 1024
DEFAULT_VALID_LIST = "data/train.list"
PART_IMAGES = 1000
"""Images per printed line of `classifier validcrop`."""

_ABOUT_LINES = """Each output line covers the images so far; the last one is the result. Images whose path has no label
and unreadable images count as wrong."""
VALID_HELP = f"""darknet's `classifier valid`: measure top-1 and top-k accuracy.

\b
  darkpy classifier valid my.data my.cfg my.weights
  darkpy classifier valid my.data my.cfg my.weights -t 5 --json

valid= in DATA lists the images. The class of an image is the first line of labels= that occurs in its path; top= is k;
leaves= may name the classes of a tree that count, in place of all leaves of the tree.

{_ABOUT_LINES}

The network gets the largest center square (pjreddie), or the center after scaling the shorter side to the network's
width (alexeyab).
"""
VALID_10_HELP = f"""darknet's `classifier valid10`: measure accuracy with ten crops of each image.

\b
  darkpy classifier valid10 my.data my.cfg my.weights

The image is stretched to 32 pixels more than the network's size; four corners and the middle, each also mirrored, are
cut out of it, and their outputs added. The corners reach 32 pixels over the edge, whose pixels are repeated there, as
in darknet. DATA is that of `classifier valid`, but for leaves=.

{_ABOUT_LINES}
"""
VALID_CROP_HELP = """darknet's `classifier validcrop`: measure accuracy on images stretched to the network's size.

\b
  darkpy classifier validcrop my.data my.cfg my.weights

DATA is that of `classifier valid`, but for leaves=. A list of N thousand images is measured in N parts, with a line
after each that covers the images so far; the last one is the result. darknet needs 1000 images.
"""
VALID_FULL_HELP = f"""darknet's `classifier validfull`: measure accuracy on whole images.

\b
  darkpy classifier validfull my.data my.cfg my.weights

The shorter side is scaled to the network's width, and nothing is cut off: the network must take any size. DATA is that
of `classifier valid`, but for leaves=.

{_ABOUT_LINES}
"""
VALID_MULTI_HELP = f"""darknet's `classifier validmulti`: measure accuracy with several sizes of each whole image.

\b
  darkpy classifier validmulti my.data my.cfg my.weights

The outputs for the image and its mirror image in each size are added. pjreddie's sizes are 224, 256, 288 and 320 pixels
of the longer side, AlexeyAB's 224, 288, 320, 352 and 384 of the shorter one, whatever the network's own size: it must
take any. DATA is that of `classifier valid`, but for leaves=.

{_ABOUT_LINES}
"""

_batch_option = click.option(
    "--batch-size",
    type=click.IntRange(1, MAX_BATCH_SIZE),
    metavar="N",
    default=CLASSIFIER_BATCH_SIZE,
    show_default=True,
    help="Images per batch.",
)


def _valid_command(kind: str, help: str, *batch_option: Decorator) -> click.Command:
    """Return `classifier validKIND`. batch_option: for one view of each image; several go through one by one."""

    @click.command(f"valid{kind}", cls=Command, help=help)
    @network_arguments
    @compose(*batch_option, top_option, json_option, network_options, max_pixels_option)
    def valid(
        data: Path, cfg: Path, weights: Path, top: int | None, as_json: bool, load: LoadOptions, batch_size: int = 1
    ) -> int:
        return _measure(data, cfg, weights, kind, top, batch_size, as_json, load)

    return valid


valid = _valid_command("", VALID_HELP, _batch_option)
valid10 = _valid_command("10", VALID_10_HELP)
validcrop = _valid_command("crop", VALID_CROP_HELP, _batch_option)
validfull = _valid_command("full", VALID_FULL_HELP)
validmulti = _valid_command("multi", VALID_MULTI_HELP)


def _measure(
    data: Path,
    cfg: Path,
    weights: Path,
    kind: str,
    top: int | None,
    batch_size: int,
    as_json: bool,
    load: LoadOptions,
) -> int:
    """Print the accuracy of a network. kind: as in `valid_options`. Returns: the exit code."""
    from darkpy.data.lists.paths import read_image_list
    from darkpy.evaluation.classify import Accuracy, class_count, classify, valid_options
    from darkpy.training.setup import read_class_labels

    data_file = read_data(data)
    image_list = data_file.find("valid", DEFAULT_VALID_LIST)
    assert image_list is not None
    if "valid" not in data_file.entries and not image_list.is_file():
        raise DarkpyError(f"{data}: has no valid=", hint="name the list of images to evaluate on: valid=val.txt")
    paths = read_image_list(image_list)
    if kind in ("full", "multi"):  # a backend takes images of one size
        network = open_network(cfg, weights, load, accelerated=False).for_inference()
    else:
        network = open_network(cfg, weights, load, examples=paths, batch_size=batch_size)
    classes = class_count(network)
    accuracy = Accuracy(read_class_labels(data_file, classes))
    top = min(top or read_top(data_file), classes)
    options = valid_options(network, top, data_file.find("leaves") if not kind else None, kind=kind)
    parts = max(1, len(paths) // PART_IMAGES)
    part, start, unreadable = 1, perf_counter(), 0
    for ranking in console.track(classify(network, paths, options, batch_size=batch_size), len(paths)):
        if ranking.error is not None:
            console.error(ranking.error)
            unreadable += 1
        accuracy.add(ranking)
        if as_json:
            continue
        if kind != "crop":
            console.echo(accuracy.line(top))
        elif accuracy.images == part * len(paths) // parts:
            images = accuracy.images - (part - 1) * len(paths) // parts
            line = accuracy.line(top).partition(": ")[2]
            console.echo(f"{part}: {line}, {perf_counter() - start:f} seconds, {images} images")
            part, start = part + 1, perf_counter()
    for problem in accuracy.problems:
        console.warn(problem)
    if as_json:
        record = {"images": accuracy.images, "unreadable": unreadable, "unlabelled": len(accuracy.unlabeled)}
        console.echo(json.dumps({**record, "top_1": accuracy.top_1, "k": top, "top_k": accuracy.top_k}))
    return 2 if unreadable else 0
