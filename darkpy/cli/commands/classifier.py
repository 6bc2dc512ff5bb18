"""Classification: darknet's `classifier predict` and `classify`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from darkpy.cli import console
from darkpy.cli.load import open_network
from darkpy.cli.options import (
    CFG_PATH,
    FILE_PATH,
    WEIGHTS_PATH,
    Command,
    LoadOptions,
    compose,
    json_option,
    max_pixels_option,
    network_options,
)
from darkpy.cli.predictions import print_predictions
from darkpy.data.lists.text_files import DataFile, names_for, read_data, read_top
from darkpy.dialect import Dialect
from darkpy.evaluation import formats
from darkpy.evaluation.defaults import DEFAULT_TOP

if TYPE_CHECKING:
    from darkpy.evaluation.classifier_report import ClassifierReport
    from darkpy.evaluation.classify import Ranking
    from darkpy.evaluation.detector_report import EvaluatedRun
    from darkpy.network import Network

DEFAULT_LABELS = "data/labels.list"

_ABOUT_INPUT = """IMAGES are files, folders and lists (.txt). Preprocessing and output follow the dialect of the cfg:
pjreddie letterboxes the image; alexeyab scales the shorter side to the network's width and crops the center. The time
printed covers everything for one image, reading included."""
PREDICT_HELP = f"""darknet's `classifier predict`: classify images, or those named on standard input.

\b
  darkpy classifier predict imagenet1k.data darknet19.cfg darknet19.weights dog.jpg
  darkpy classifier predict imagenet1k.data darknet19.cfg darknet19.weights photos/ --json
  darkpy classifier predict my.data my.cfg my.weights -t 3 < list.txt

names= in DATA, or else labels=, has the class names; top= the number of classes printed.

{_ABOUT_INPUT}
"""
CLASSIFY_HELP = f"""darknet's `classify`: classify images, or those named on standard input.

\b
  darkpy classify darknet19.cfg darknet19.weights dog.jpg --names imagenet.shortnames.list

{_ABOUT_INPUT}
"""
network_arguments = compose(
    click.argument("data", type=FILE_PATH),
    click.argument("cfg", type=CFG_PATH),
    click.argument("weights", type=WEIGHTS_PATH),
)
top_option = click.option(
    "top",
    "-t",
    "--top",
    type=click.IntRange(1),
    metavar="K",
    help="Number of classes.  [default: top= in DATA, or 1]",
)


@click.command(cls=Command, help=PREDICT_HELP)
@network_arguments
@click.argument("images", type=FILE_PATH, nargs=-1)
@top_option
@json_option
@network_options
@max_pixels_option
def predict(
    data: Path, cfg: Path, weights: Path, images: tuple[Path, ...], top: int | None, as_json: bool, load: LoadOptions
) -> int:
    from darkpy.data.lists.paths import expand_paths

    data_file = read_data(data)
    names = find_names_file(data_file)
    top = top or read_top(data_file)
    paths = expand_paths(images) if images else None
    network = open_network(cfg, weights, load, examples=paths or ())
    return _predict(network, names, paths, top, as_json)


@click.command(cls=Command, help=CLASSIFY_HELP)
@click.argument("cfg", type=CFG_PATH)
@click.argument("weights", type=WEIGHTS_PATH)
@click.argument("images", type=FILE_PATH, nargs=-1)
@click.option("--names", type=FILE_PATH, help="Class names, one per line.  [default: their numbers]")
@click.option(
    "top",
    "-t",
    "--top",
    type=click.IntRange(1),
    default=DEFAULT_TOP,
    metavar="K",
    show_default=True,
    help="Number of classes printed.",
)
@json_option
@network_options
@max_pixels_option
def classify(
    cfg: Path,
    weights: Path,
    images: tuple[Path, ...],
    names: Path | None,
    top: int,
    as_json: bool,
    load: LoadOptions,
) -> int:
    from darkpy.data.lists.paths import expand_paths

    paths = expand_paths(images) if images else None
    network = open_network(cfg, weights, load, examples=paths or ())
    return _predict(network, names, paths, top, as_json)


def evaluate_classifier(
    network: Network,
    data_file: DataFile,
    paths: Sequence[Path],
    run: EvaluatedRun,
    batch_size: int | None,
    as_json: bool,
) -> ClassifierReport:
    """Classify all images of a list, print the accuracy of each class, and return all numbers.

    Raises: DarkpyError as `classifier valid` does.
    """
    from darkpy.evaluation.classifier_report import accuracy_lines, class_accuracies
    from darkpy.evaluation_run import ClassifierEvaluation

    evaluation = ClassifierEvaluation(network, data_file, paths)
    for ranking in console.track(evaluation.run(batch_size), len(paths)):
        if ranking.error is not None:
            console.error(ranking.error)
    for problem in evaluation.problems:
        console.warn(problem)
    report = evaluation.report(run)
    if as_json:
        counts = {"images": len(paths), "unreadable": len(report.unreadable), "unlabelled": len(report.unlabeled)}
        accuracies = {"top_1": report.top_1, "k": report.k, "top_k": report.top_k, "classes": class_accuracies(report)}
        console.echo(json.dumps({**counts, **accuracies}))
    else:
        console.echo("\n".join(accuracy_lines(report)))
    return report


def _predict(network: Network, names_file: Path | None, paths: Sequence[Path] | None, top: int, as_json: bool) -> int:
    """Classify images, or those named on standard input. Returns: the exit code."""
    from darkpy.evaluation.classify import class_count, classify, find_tree, predict_options

    names = names_for(class_count(network), names_file)
    options = predict_options(network, top)
    tree, dialect = find_tree(network), network.plan.dialect

    def lines(ranking: Ranking, seconds: float) -> Iterator[str]:
        time_line = formats.time_line(ranking.path, seconds, dialect)
        if dialect is Dialect.PJREDDIE:
            console.echo(time_line, err=True)
        else:
            yield time_line
        for class_id, prob in zip(ranking.class_ids, ranking.probs, strict=True):
            if dialect is Dialect.PJREDDIE:
                yield f"{100 * prob:5.2f}%: {names[class_id]}"
            elif tree is None:
                yield f"{names[class_id]}: {prob:f}"
            else:
                parent = names[tree.parent[class_id]] if tree.parent[class_id] >= 0 else "Root"
                yield f"{class_id}, {names[class_id]}: {prob:f}, parent: {parent} "

    return print_predictions(
        lambda images, batch_size: classify(network, images, options, batch_size=batch_size),
        paths,
        lines=lines,
        record=lambda ranking: {"classes": ranking.to_dicts(names)},
        as_json=as_json,
    )


def find_names_file(data: DataFile) -> Path | None:
    """Return the file of names=, or else of labels=; None if there is neither."""
    if (names := data.find("names")) is not None:
        return names
    labels = data.find("labels", DEFAULT_LABELS)
    return labels if labels and ("labels" in data.entries or labels.is_file()) else None
