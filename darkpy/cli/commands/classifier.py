"""Classification: darknet's `classifier predict`, `classifier valid` and `classify`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import click

from darkpy.cli import console
from darkpy.cli.load import ask_paths, open_network
from darkpy.cli.options import (
    CFG_PATH,
    FILE_PATH,
    WEIGHTS_PATH,
    Command,
    LoadOptions,
    json_option,
    max_pixels_option,
    network_options,
)
from darkpy.data.lists.text_files import DataFile, names_for, read_data
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.evaluation import formats

if TYPE_CHECKING:
    from darkpy.evaluation.classifier_report import ClassifierReport
    from darkpy.evaluation.classify import Accuracy
    from darkpy.network import Network

MAX_BATCH_SIZE, DEFAULT_BATCH_SIZE = 1024, 16
DEFAULT_CLASSIFY_TOP = 5
DEFAULT_LABELS = "data/labels.list"
DEFAULT_VALID_LIST = "data/train.list"

_ABOUT_INPUT = """Preprocessing and output follow the dialect of the cfg: pjreddie letterboxes the image;
alexeyab scales the shorter side to the network's width and crops the center. The time printed covers everything for
one image, reading included."""
PREDICT_HELP = f"""darknet's `classifier predict`: classify IMAGE, or each image named on standard input.

\b
  darkpy classifier predict imagenet1k.data darknet19.cfg darknet19.weights dog.jpg
  darkpy classifier predict my.data my.cfg my.weights -t 3 < list.txt

names= in DATA, or else labels=, has the class names; top= the number of classes printed.

{_ABOUT_INPUT}
"""
CLASSIFY_HELP = f"""darknet's `classify`: classify IMAGE, or each image named on standard input.

\b
  darkpy classify darknet19.cfg darknet19.weights dog.jpg --names imagenet.shortnames.list

{_ABOUT_INPUT}
"""
VALID_HELP = """darknet's `classifier valid`: measure top-1 and top-k accuracy.

\b
  darkpy classifier valid my.data my.cfg my.weights
  darkpy classifier valid my.data my.cfg my.weights -t 5 --json

valid= in DATA lists the images. The class of an image is the first line of labels= that occurs in its path; top= is k;
leaves= may name the classes of a tree that count, in place of all leaves of the tree.

Each output line covers the images so far; the last one is the result. Images whose path has no label and unreadable
images count as wrong.

The network sees the largest center square (pjreddie), or the center after scaling the shorter side to the network's
width (alexeyab).
"""

LABEL_HELP = """darknet's `classifier label`: print the best class of each image of the list test= in DATA.

\b
  darkpy classifier label my.data my.cfg my.weights > classes.txt

One line for each image; that of an unreadable image is empty. The network sees the center of the image after scaling
the shorter side to its width, in both dialects. names= in DATA, or else labels=, has the names.
"""

_top_option = click.option(
    "top",
    "-t",
    "--top",
    type=click.IntRange(1),
    metavar="K",
    help="Number of classes.  [default: top= in DATA, or 1]",
)


@click.command(cls=Command, help=PREDICT_HELP)
@click.argument("data", type=FILE_PATH)
@click.argument("cfg", type=CFG_PATH)
@click.argument("weights", type=WEIGHTS_PATH)
@click.argument("image", type=FILE_PATH, required=False)
@_top_option
@network_options
@max_pixels_option
def predict(data: Path, cfg: Path, weights: Path, image: Path | None, top: int | None, load: LoadOptions) -> int:
    data_file = read_data(data)
    names = _names_file(data_file)
    top = top or _read_top(data_file)
    network = open_network(cfg, weights, load, examples=(image,) if image else ())
    return _predict(network, names, image, top)


@click.command(cls=Command, help=CLASSIFY_HELP)
@click.argument("cfg", type=CFG_PATH)
@click.argument("weights", type=WEIGHTS_PATH)
@click.argument("image", type=FILE_PATH, required=False)
@click.option("--names", type=FILE_PATH, help="Class names, one per line.  [default: their numbers]")
@click.option(
    "top",
    "-t",
    "--top",
    type=click.IntRange(1),
    default=DEFAULT_CLASSIFY_TOP,
    metavar="K",
    show_default=True,
    help="Number of classes printed.",
)
@network_options
@max_pixels_option
def classify(cfg: Path, weights: Path, image: Path | None, names: Path | None, top: int, load: LoadOptions) -> int:
    network = open_network(cfg, weights, load, examples=(image,) if image else ())
    return _predict(network, names, image, top)


@click.command(cls=Command, help=VALID_HELP)
@click.argument("data", type=FILE_PATH)
@click.argument("cfg", type=CFG_PATH)
@click.argument("weights", type=WEIGHTS_PATH)
@_top_option
@click.option(
    "--batch-size",
    type=click.IntRange(1, MAX_BATCH_SIZE),
    metavar="N",
    default=DEFAULT_BATCH_SIZE,
    show_default=True,
    help="Images per batch.",
)
@json_option
@network_options
@max_pixels_option
def valid(
    data: Path, cfg: Path, weights: Path, top: int | None, batch_size: int, as_json: bool, load: LoadOptions
) -> int:
    from darkpy.data.lists.paths import read_image_list
    from darkpy.evaluation.classify import Accuracy, class_count, classify, valid_options
    from darkpy.training.setup import read_class_labels

    data_file = read_data(data)
    image_list = data_file.find("valid", DEFAULT_VALID_LIST)
    assert image_list is not None
    if "valid" not in data_file.entries and not image_list.is_file():
        raise DarkpyError(f"{data}: has no valid=", hint="name the list of images to evaluate on: valid=val.txt")
    paths = read_image_list(image_list)
    network = open_network(cfg, weights, load, examples=paths, batch_size=batch_size)
    classes = class_count(network)
    accuracy = Accuracy(read_class_labels(data_file, classes))
    top = min(top or _read_top(data_file), classes)
    options = valid_options(network, top, data_file.find("leaves"))
    unreadable = 0
    for ranking in console.track(classify(network, paths, options, batch_size=batch_size), len(paths)):
        if ranking.error is not None:
            console.error(ranking.error)
            unreadable += 1
        accuracy.add(ranking)
        if not as_json:
            console.echo(accuracy.line(top))
    _warn_of_labels(accuracy)
    if as_json:
        record = {"images": accuracy.images, "unreadable": unreadable, "unlabelled": len(accuracy.unlabeled)}
        console.echo(json.dumps({**record, "top_1": accuracy.top_1, "k": top, "top_k": accuracy.top_k}))
    return 2 if unreadable else 0


@click.command(cls=Command, help=LABEL_HELP)
@click.argument("data", type=FILE_PATH)
@click.argument("cfg", type=CFG_PATH)
@click.argument("weights", type=WEIGHTS_PATH)
@network_options
@max_pixels_option
def label(data: Path, cfg: Path, weights: Path, load: LoadOptions) -> int:
    from darkpy.data.lists.paths import read_image_list
    from darkpy.evaluation.classify import ClassifierOptions, class_count, classify
    from darkpy.ops.resample import resize_min_crop

    data_file = read_data(data)
    image_list = data_file.find("test")
    if image_list is None:
        raise DarkpyError(f"{data}: has no test=", hint="name the list of images to classify: test=list.txt")
    paths = read_image_list(image_list)
    network = open_network(cfg, weights, load, examples=paths)
    names = names_for(class_count(network), _names_file(data_file))
    exit_code = 0
    rankings = classify(network, paths, ClassifierOptions(fit=resize_min_crop), batch_size=DEFAULT_BATCH_SIZE)
    for ranking in console.track(rankings, len(paths)):
        if ranking.error is not None:
            console.error(ranking.error)
            exit_code = 2
        console.echo(names[ranking.class_ids[0]] if ranking.class_ids else "")
    return exit_code


def _warn_of_labels(accuracy: Accuracy) -> None:
    for message, files in (
        ("no label occurs in the path of", accuracy.unlabeled),
        ("several labels occur, and the first one counts, in the path of", accuracy.ambiguous),
    ):
        if files:
            console.warn(f"{message} {len(files)} of {accuracy.images} images; first: {files[0]}")


def evaluate_classifier(
    network: Network, data_file: DataFile, paths: Sequence[Path], weights: Path, batch_size: int | None, as_json: bool
) -> ClassifierReport:
    """Classify all images of a list, print the accuracy of each class, and return all numbers.

    Raises: DarkpyError as `classifier valid` does.
    """
    import darkpy
    from darkpy.evaluation.classifier_report import (
        ClassifierErrors,
        accuracy_lines,
        class_accuracies,
        make_classifier_report,
    )
    from darkpy.evaluation.classify import Accuracy, class_count, classify, valid_options
    from darkpy.evaluation.detector_report import EvaluatedRun
    from darkpy.training.setup import read_class_labels

    classes = class_count(network)
    labels = read_class_labels(data_file, classes)
    names_file = data_file.find("names")
    top = min(_read_top(data_file) if "top" in data_file.entries else DEFAULT_CLASSIFY_TOP, classes)
    options = valid_options(network, top, data_file.find("leaves"))
    errors = ClassifierErrors(Accuracy(labels))
    batch_size = batch_size or DEFAULT_BATCH_SIZE
    for ranking in console.track(classify(network, paths, options, batch_size=batch_size), len(paths)):
        if ranking.error is not None:
            console.error(ranking.error)
        errors.add(ranking)
    _warn_of_labels(errors.accuracy)
    run = EvaluatedRun(network.plan.file, str(weights), str(data_file.path), darkpy.__version__)
    names = names_for(classes, names_file) if names_file is not None else labels
    report = make_classifier_report(run, names, errors, top)
    if as_json:
        counts = {"images": len(paths), "unreadable": len(report.unreadable), "unlabelled": len(report.unlabeled)}
        accuracies = {"top_1": report.top_1, "k": top, "top_k": report.top_k, "classes": class_accuracies(report)}
        console.echo(json.dumps({**counts, **accuracies}))
    else:
        console.echo("\n".join(accuracy_lines(report)))
    return report


def _predict(network: Network, names_file: Path | None, image: Path | None, top: int) -> int:
    """Classify an image, or those named on standard input. Returns: the exit code."""
    from darkpy.evaluation.classify import class_count, classify, find_tree, predict_options

    names = names_for(class_count(network), names_file)
    options = predict_options(network, top)
    tree, dialect = find_tree(network), network.plan.dialect
    exit_code = 0
    for path in (image,) if image else ask_paths():
        start = perf_counter()
        (ranking,) = classify(network, [path], options)
        if ranking.error is not None:
            console.error(ranking.error)
            exit_code = 2
            continue
        console.echo(formats.time_line(ranking.path, perf_counter() - start, dialect), err=dialect is Dialect.PJREDDIE)
        for class_id, prob in zip(ranking.class_ids, ranking.probs, strict=True):
            if dialect is Dialect.PJREDDIE:
                console.echo(f"{100 * prob:5.2f}%: {names[class_id]}")
            elif tree is None:
                console.echo(f"{names[class_id]}: {prob:f}")
            else:
                parent = names[tree.parent[class_id]] if tree.parent[class_id] >= 0 else "Root"
                console.echo(f"{class_id}, {names[class_id]}: {prob:f}, parent: {parent} ")
    return exit_code


def _names_file(data: DataFile) -> Path | None:
    """Return the file of names=, or else of labels=; None if there is neither."""
    if (names := data.find("names")) is not None:
        return names
    labels = data.find("labels", DEFAULT_LABELS)
    return labels if labels and ("labels" in data.entries or labels.is_file()) else None


def _read_top(data: DataFile) -> int:
    text = data.entries.get("top", "1")
    if not text.isdecimal() or not int(text[:18]):
        raise DarkpyError(f"{data.path}: top={text[:20]} is not a number of classes", hint="top=5, for example")
    return int(text[:18])
