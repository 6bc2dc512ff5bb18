"""`darkpy classifier ...` and `darkpy classify`: darknet's own commands for classification networks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from darkpy.cli import console
from darkpy.cli.images import ask_paths
from darkpy.cli.load import open_network
from darkpy.cli.options import FILE_PATH, ignored_options, network_options
from darkpy.cli.parsing import Command, Group
from darkpy.data.lists.data_file import DataFile, read_data
from darkpy.data.lists.names import names_for
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.evaluation import formats

if TYPE_CHECKING:
    from darkpy.evaluation.classify import Accuracy, Ranking
    from darkpy.network import Network

MAX_BATCH_SIZE = 1024
CLASSIFY_TOP = 5
DEFAULT_LABELS = "data/labels.list"
DEFAULT_LIST = "data/train.list"

_LOOK = """What the network sees and what is printed is the fork's whose --dialect the cfg speaks: pjreddie letterboxes,
alexeyab makes the shorter side as long as the network is wide and takes the middle. The time printed is all that one
image took, reading it included."""
PREDICT_HELP = f"""darknet's `classifier predict`: what IMAGE shows, or each image that standard input names.

\b
  darkpy classifier predict imagenet1k.data darknet19.cfg darknet19.weights dog.jpg
  darkpy classifier predict my.data my.cfg my.weights -t 3 < list.txt

names= in DATA says what the classes are called, or else labels=; top= how many are told.

{_LOOK}
"""
CLASSIFY_HELP = f"""darknet's `classify`: what IMAGE shows, or each image that standard input names.

\b
  darkpy classify darknet19.cfg darknet19.weights dog.jpg --names imagenet.shortnames.list

{_LOOK}
"""
VALID_HELP = """darknet's `classifier valid`: how often the right class is the surest one, or among the k surest.

\b
  darkpy classifier valid my.data my.cfg my.weights
  darkpy classifier valid my.data my.cfg my.weights -t 5 --json

valid= in DATA lists the images. Their class is the first line of labels= that occurs in the path; top= is k; leaves=
may name the classes of a tree that are told, in place of all that are nobody's parent.

A line for each image counts all up to it, so that the last one is the result. Images whose path has no label, and
those that cannot be read, count as wrong.

The network sees the largest square in the middle (pjreddie), or the shorter side as long as the network is wide and
the middle of that (alexeyab).
"""

_top_option = click.option(
    "top",
    "-t",
    "--top",
    type=click.IntRange(1),
    metavar="K",
    help="How many classes count.  [default: top= in DATA, or 1]",
)


@click.group(cls=Group, short_help="darknet's commands for classification networks.")
def classifier() -> None:
    """darknet's commands for classification networks, with its own arguments."""


@classifier.command(help=PREDICT_HELP, short_help="What is on an image.")
@click.argument("data", type=FILE_PATH)
@click.argument("cfg", type=FILE_PATH)
@click.argument("weights", type=FILE_PATH)
@click.argument("image", type=FILE_PATH, required=False)
@_top_option
@network_options
@ignored_options
def predict(data: Path, cfg: Path, weights: Path, image: Path | None, top: int | None, **opening: Any) -> int:
    file = read_data(data)
    names = file.find("names") or _find_labels(file)
    top = top or _read_top(file)
    return _predict(open_network(cfg, weights, **opening), names, image, top)


@click.command(cls=Command, help=CLASSIFY_HELP, short_help="What is on an image, in one word.")
@click.argument("cfg", type=FILE_PATH)
@click.argument("weights", type=FILE_PATH)
@click.argument("image", type=FILE_PATH, required=False)
@click.option("--names", type=FILE_PATH, help="What the classes are called, one a line.  [default: their numbers]")
@click.option(
    "top", "-t", "--top", type=click.IntRange(1), default=CLASSIFY_TOP, metavar="K", show_default=True,
    help="How many classes are told.",
)  # fmt: skip
@network_options
@ignored_options
def classify(cfg: Path, weights: Path, image: Path | None, names: Path | None, top: int, **opening: Any) -> int:
    return _predict(open_network(cfg, weights, **opening), names, image, top)


@classifier.command(help=VALID_HELP, short_help="How often it is right.")
@click.argument("data", type=FILE_PATH)
@click.argument("cfg", type=FILE_PATH)
@click.argument("weights", type=FILE_PATH)
@_top_option
@click.option(
    "--batch-size", type=click.IntRange(1, MAX_BATCH_SIZE), metavar="N", default=16, show_default=True,
    help="Images at a time.",
)  # fmt: skip
@click.option("--json", "is_json", is_flag=True, help="Print the result as JSON instead of lines.")
@network_options
@ignored_options
def valid(data: Path, cfg: Path, weights: Path, top: int | None, batch_size: int, is_json: bool, **opening: Any) -> int:
    from darkpy.data.lists.paths import read_image_list
    from darkpy.evaluation.classify import Accuracy, class_count, classify, valid_options
    from darkpy.training.setup import read_class_labels

    file = read_data(data)
    listing = file.find("valid", DEFAULT_LIST)
    assert listing is not None
    if "valid" not in file.entries and not listing.is_file():
        raise DarkpyError(f"{data}: has no valid=", hint="name the list of images to be judged by: valid=val.txt")
    paths = read_image_list(listing)
    network = open_network(cfg, weights, **opening)
    classes = class_count(network)
    accuracy = Accuracy(read_class_labels(file, classes))
    top = min(top or _read_top(file), classes)
    options = valid_options(network, top, file.find("leaves"))
    unreadable = 0
    for ranking in console.track(classify(network, paths, options, batch_size=batch_size), len(paths)):
        if ranking.error is not None:
            console.error(ranking.error)
            unreadable += 1
        accuracy.add(ranking)
        if not is_json:
            click.echo(accuracy.line(top))
    _tell_of_labels(accuracy)
    if is_json:
        record = {"images": accuracy.images, "unreadable": unreadable, "unlabelled": len(accuracy.unlabeled)}
        click.echo(json.dumps({**record, "top_1": accuracy.top_1, "k": top, "top_k": accuracy.top_k}))
    return 2 if unreadable else 0


def _predict(network: Network, names_file: Path | None, image: Path | None, top: int) -> int:
    from darkpy.evaluation.classify import class_count, classify, find_tree, predict_options

    names = names_for(class_count(network), names_file)
    options = predict_options(network, top)
    tree, dialect = find_tree(network), network.plan.dialect
    has_failed = False
    for path in (image,) if image else ask_paths():
        began = perf_counter()
        (ranking,) = classify(network, [path], options)
        if ranking.error is not None:
            console.error(ranking.error)
            has_failed = True
            continue
        click.echo(formats.time_line(ranking.path, perf_counter() - began, dialect), err=dialect is Dialect.PJREDDIE)
        for line in _lines(ranking, names, dialect, tree.parent if tree else ()):
            click.echo(line)
    return 2 if has_failed else 0


def _lines(ranking: Ranking, names: Sequence[str], dialect: Dialect, parent: Sequence[int]) -> Iterator[str]:
    """parent: of each class in a tree, else empty; AlexeyAB's darknet tells it."""
    for number, prob in zip(ranking.class_ids, ranking.probs, strict=True):
        if dialect is Dialect.PJREDDIE:
            yield f"{100 * prob:5.2f}%: {names[number]}"
        elif not parent:
            yield f"{names[number]}: {prob:f}"
        else:
            above = names[parent[number]] if parent[number] >= 0 else "Root"
            yield f"{number}, {names[number]}: {prob:f}, parent: {above} "


def _tell_of_labels(accuracy: Accuracy) -> None:
    for paths, what in (
        (accuracy.unlabeled, "no label occurs in the path of"),
        (accuracy.ambiguous, "several labels occur, and the first one counts, in the path of"),
    ):
        if paths:
            console.warn(f"{what} {len(paths)} of {accuracy.images} images; the first: {paths[0]}")


def _find_labels(data: DataFile) -> Path | None:
    file = data.find("labels", DEFAULT_LABELS)
    return file if file and ("labels" in data.entries or file.is_file()) else None


def _read_top(data: DataFile) -> int:
    text = data.entries.get("top", "1")
    if not text.isdecimal() or not int(text[:18]):
        raise DarkpyError(f"{data.path}: top={text[:20]} is no number of classes", hint="top=5, for example")
    return int(text[:18])
