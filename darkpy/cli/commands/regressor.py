"""Regression networks and multi-label classifiers: darknet's `regressor` and `tag`."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import click

from darkpy.cli.commands.train import HELP_BODY, train_command
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
from darkpy.cli.training_options import cfg_argument, weights_argument
from darkpy.data.lists.text_files import names_for
from darkpy.dialect import Dialect
from darkpy.evaluation import formats

if TYPE_CHECKING:
    from darkpy.evaluation.classify import Ranking
    from darkpy.evaluation.image_outputs import ImageOutput

MAX_TAGS = 10
TAG_NAMES = Path("data/tags.txt")

TRAIN_HELP = f"""darknet's `regressor train`: train a regression network, for example of ages or angles.

\b
  darkpy regressor train ages.data ages.cfg
  darkpy regressor train ages.data ages.cfg backup/ages.backup

The label file of an image (photos/7.txt for photos/7.jpg) holds its target values, as many as the network's last layer
has outputs: for example [connected] with output=1 activation=linear, followed by [cost] type=sse. Images are augmented
as those of a classifier, by the keys of [net]; the target values do not change.

{HELP_BODY.format(more="")}"""
TEST_HELP = """darknet's `regressor test`: predict the values of images, or of those named on standard input.

\b
  darkpy regressor test ages.cfg backup/ages.weights photo.jpg
  darkpy regressor test ages.cfg backup/ages.weights photos/ --json

IMAGES are files, folders and lists (.txt); they are letterboxed. A line has all numbers of an image, where darknet
prints the first; the time printed covers everything for one image, reading included.
"""
TAG_TRAIN_HELP = f"""darknet's `tag train`: train a multi-label classifier, which gives an image any number of tags.

\b
  darkpy tag train tags.cfg --data tags.data
  darkpy tag train tags.cfg backup/tags.backup --data tags.data

The label file of an image (photos/7.txt for photos/7.jpg) holds the numbers of its tags, counted from 0; the network
ends in [logistic], or in [cost]. min_crop, the ratios and aspect of [net] are not read, as in darknet, which takes the
list and the folder for weights of its author's machine; here --data names them.

{HELP_BODY.format(more="")}"""
TAG_TEST_HELP = """darknet's `tag test`: print the ten best tags of images, or of those named on standard input.

\b
  darkpy tag test tags.cfg backup/tags.weights photo.jpg --names tags.txt
  darkpy tag test tags.cfg backup/tags.weights photos/ --json

IMAGES are files, folders and lists (.txt). An image is scaled until its shorter side is the network's width, and seen
as a whole: the network must take any size. The time printed covers everything for one image, reading included.
"""


train_regressor = train_command("regressor", TRAIN_HELP)
train_tagger = train_command(
    "tagger",
    TAG_TRAIN_HELP,
    compose(
        cfg_argument,
        weights_argument,
        click.option("--data", type=FILE_PATH, required=True, help="The .data file: train= and backup=."),
    ),
)


@click.command("test", cls=Command, help=TEST_HELP)
@click.argument("cfg", type=CFG_PATH)
@click.argument("weights", type=WEIGHTS_PATH)
@click.argument("images", type=FILE_PATH, nargs=-1)
@json_option
@network_options
@max_pixels_option
def test_regressor(cfg: Path, weights: Path, images: tuple[Path, ...], as_json: bool, load: LoadOptions) -> int:
    from darkpy.data.lists.paths import expand_paths
    from darkpy.evaluation.classify import class_count
    from darkpy.evaluation.image_outputs import image_outputs
    from darkpy.evaluation.image_views import OneView
    from darkpy.ops.resample import letterbox

    paths = expand_paths(images) if images else None
    network = open_network(cfg, weights, load, examples=paths or ())
    class_count(network)  # raises for a detector

    def lines(output: ImageOutput, seconds: float) -> Iterator[str]:
        yield f"Predicted: {' '.join(f'{number:f}' for number in output.numbers)}"
        yield formats.time_line(output.path, seconds, Dialect.PJREDDIE)

    return print_predictions(
        lambda images, batch_size: image_outputs(network, images, OneView(letterbox), batch_size=batch_size),
        paths,
        lines=lines,
        # JSON has no infinite numbers
        record=lambda output: {"numbers": [number if isfinite(number) else None for number in output.numbers]},
        as_json=as_json,
    )


@click.command("test", cls=Command, help=TAG_TEST_HELP)
@click.argument("cfg", type=CFG_PATH)
@click.argument("weights", type=WEIGHTS_PATH)
@click.argument("images", type=FILE_PATH, nargs=-1)
@click.option(
    "--names", type=FILE_PATH, help=f"Names of the tags, one per line.  [default: {TAG_NAMES}, or their numbers]"
)
@json_option
@network_options
@max_pixels_option
def test_tagger(
    cfg: Path, weights: Path, images: tuple[Path, ...], names: Path | None, as_json: bool, load: LoadOptions
) -> int:
    from darkpy.data.lists.paths import expand_paths
    from darkpy.evaluation.classify import ClassifierOptions, class_count, classify
    from darkpy.evaluation.image_views import OneView, fit_short_side

    paths = expand_paths(images) if images else None
    network = open_network(cfg, weights, load, accelerated=False).for_inference()
    count = class_count(network)
    file = names or (TAG_NAMES if TAG_NAMES.is_file() else None)
    tag_names = names_for(count, file) if file else tuple(map(str, range(count)))
    options = ClassifierOptions(views=OneView(fit_short_side), top=MAX_TAGS)

    def lines(ranking: Ranking, seconds: float) -> Iterator[str]:
        yield formats.time_line(ranking.path, seconds, Dialect.PJREDDIE)
        for tag, prob in zip(ranking.class_ids, ranking.probs, strict=True):
            yield f"{100 * prob:.1f}%: {tag_names[tag]}"

    return print_predictions(
        lambda images, _: classify(network, images, options),  # each image has a size of its own
        paths,
        lines=lines,
        record=lambda ranking: {"tags": ranking.to_dicts(tag_names)},
        as_json=as_json,
    )
