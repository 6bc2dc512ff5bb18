"""Classes of all images of a list: darknet's `classifier label`, `csv`, `fout` and `test`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from darkpy.cli.commands.classifier import find_names_file, network_arguments, top_option
from darkpy.cli.load import open_network
from darkpy.cli.options import FILE_PATH, Command, LoadOptions, compose, max_pixels_option, network_options
from darkpy.cli.predictions import print_lines
from darkpy.data.lists.text_files import DataFile, names_for, read_data, read_top
from darkpy.errors import DarkpyError
from darkpy.evaluation.defaults import CLASSIFIER_BATCH_SIZE

if TYPE_CHECKING:
    from darkpy.evaluation.image_outputs import ImageOutput

LABEL_HELP = """darknet's `classifier label`: print the best class of each image of the list test= in DATA.

\b
  darkpy classifier label my.data my.cfg my.weights > classes.txt

One line for each image; that of an unreadable image is empty. The network gets the center of the image after scaling
the shorter side to its width, in both dialects. names= in DATA, or else labels=, has the names.
"""
CSV_HELP = """darknet's `classifier csv`: print the numbers of the best classes of each image of the list test= in DATA.

\b
  darkpy classifier csv my.data my.cfg my.weights -t 3 > classes.tsv

A line has the path and the classes, best first, separated by tabs. Images are letterboxed.
"""
FOUT_HELP = """darknet's `classifier fout`: print the probabilities of each image of LIST.

\b
  darkpy classifier fout my.data my.cfg my.weights list.txt > probabilities.tsv

A line has the path and the probability of each class, separated by tabs. The network gets the center of the image after
scaling the shorter side to its width. Probabilities in a tree of classes are multiplied down its branches.
"""
TEST_HELP = """darknet's `classifier test`: print the network's output for each image of the list test= in DATA.

\b
  darkpy classifier test my.data my.cfg my.weights > outputs.tsv

A line has the path and the numbers that the network gives, separated by tabs. Images are stretched. darknet leaves out
the images of the last batch.
"""

_options = compose(network_options, max_pixels_option)


@click.command(cls=Command, help=LABEL_HELP)
@network_arguments
@_options
def label(data: Path, cfg: Path, weights: Path, load: LoadOptions) -> int:
    from darkpy.evaluation.classify import ClassifierOptions, class_count, classify
    from darkpy.evaluation.image_views import OneView
    from darkpy.ops.resample import resize_min_crop

    data_file = read_data(data)
    paths = _read_test_list(data_file)
    network = open_network(cfg, weights, load, examples=paths)
    names = names_for(class_count(network), find_names_file(data_file))
    options = ClassifierOptions(views=OneView(resize_min_crop))
    rankings = classify(network, paths, options, batch_size=CLASSIFIER_BATCH_SIZE)
    return print_lines(rankings, len(paths), lambda ranking: names[ranking.class_ids[0]], unreadable="")


@click.command(cls=Command, help=CSV_HELP)
@network_arguments
@top_option
@_options
def csv(data: Path, cfg: Path, weights: Path, top: int | None, load: LoadOptions) -> int:
    from darkpy.evaluation.classify import ClassifierOptions, classify, find_tree
    from darkpy.evaluation.image_views import OneView
    from darkpy.ops.resample import letterbox

    data_file = read_data(data)
    paths = _read_test_list(data_file)
    network = open_network(cfg, weights, load, examples=paths)
    tree = find_tree(network)
    top = top or read_top(data_file)
    options = ClassifierOptions(views=OneView(letterbox), top=top, leaf=tree.leaf if tree else ())
    rankings = classify(network, paths, options, batch_size=CLASSIFIER_BATCH_SIZE)
    return print_lines(rankings, len(paths), lambda ranking: "\t".join(map(str, (ranking.path, *ranking.class_ids))))


@click.command(cls=Command, help=FOUT_HELP)
@network_arguments
@click.argument("list_file", metavar="LIST", type=FILE_PATH)
@_options
def fout(data: Path, cfg: Path, weights: Path, list_file: Path, load: LoadOptions) -> int:
    from darkpy.data.lists.paths import read_image_list
    from darkpy.evaluation.classify import class_count, find_hierarchy
    from darkpy.evaluation.image_outputs import image_outputs
    from darkpy.evaluation.image_views import OneView
    from darkpy.ops.resample import resize_min_crop

    paths = read_image_list(list_file)
    network = open_network(cfg, weights, load, examples=paths)
    class_count(network)  # raises for a detector
    hierarchy, views = find_hierarchy(network), OneView(resize_min_crop)
    outputs = image_outputs(network, paths, views, batch_size=CLASSIFIER_BATCH_SIZE, hierarchy=hierarchy)
    return print_lines(outputs, len(paths), _tabbed)


@click.command(cls=Command, help=TEST_HELP)
@network_arguments
@_options
def test(data: Path, cfg: Path, weights: Path, load: LoadOptions) -> int:
    from darkpy.evaluation.classify import class_count
    from darkpy.evaluation.image_outputs import image_outputs
    from darkpy.evaluation.image_views import stretched

    paths = _read_test_list(read_data(data))
    network = open_network(cfg, weights, load, examples=paths)
    class_count(network)  # raises for a detector
    return print_lines(image_outputs(network, paths, stretched, batch_size=CLASSIFIER_BATCH_SIZE), len(paths), _tabbed)


def _read_test_list(data: DataFile) -> list[Path]:
    """Read the list test= of a .data file. Raises: DarkpyError when there is none, or it names no image."""
    from darkpy.data.lists.paths import read_image_list

    image_list = data.find("test")
    if image_list is None:
        raise DarkpyError(f"{data.path}: has no test=", hint="name the list of images to classify: test=list.txt")
    return read_image_list(image_list)


def _tabbed(output: ImageOutput) -> str:
    return "\t".join((output.path, *(f"{number:g}" for number in output.numbers)))
