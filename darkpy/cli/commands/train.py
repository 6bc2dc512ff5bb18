"""`darkpy train`, and darknet's own `detector train` and `classifier train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from darkpy.cli.console import info
from darkpy.cli.options import (
    FILE_PATH,
    Decorator,
    UnitFloat,
    device_option,
    dialect_option,
    ignored_options,
    strict_option,
)
from darkpy.cli.parsing import Command
from darkpy.cli.training import Options, run_training
from darkpy.errors import DarkpyError

_BODY = """DATA is darknet's .data file: train= lists the images, backup= is the folder for the weights{more}.

WEIGHTS is what training starts from: nothing, a part of a network (darknet53.conv.74), any weights, or a checkpoint of
a run that was ended or killed. A checkpoint has a file BASE_N.resume beside it, and with that the run goes on as if it
had never been interrupted.

Several GPUs (-gpus 0,1, or torchrun ... -m darkpy train ... on one machine or many) share each minibatch: with the same
batch and learning_rate any number of them makes the same training.

What goes wrong is told: which layer, which image, which keys to try. An update that would harm the weights, for a
number is NaN or the loss jumps, is not made; its images are kept in backup/evidence/, and the run goes on.

Checkpoints have the names and come at the intervals of the fork whose --dialect the cfg speaks, the last one too when
Ctrl-C ends the run. How far it is stands on standard error; --darknet-log prints darknet's own lines instead.
"""
TRAIN_HELP = f"""Train a network, or go on training it.

\b
  darkpy train my.cfg my.data darknet53.conv.74
  darkpy train my.cfg my.data backup/my_last.weights
  darkpy train my.cfg my.data yolov3.weights -clear

A network with a detection layer learns boxes, any other one classes.

{_BODY.format(more=", labels= the classes of a classifier")}"""
DETECTOR_HELP = f"""darknet's `detector train`: train a detection network, or go on training it.

\b
  darkpy detector train my.data my.cfg darknet53.conv.74 -map
  darkpy detector train my.data my.cfg backup/my_last.weights

{_BODY.format(more="")}"""
CLASSIFIER_HELP = f"""darknet's `classifier train`: train a network that tells what an image shows.

\b
  darkpy classifier train cifar.data cifar.cfg
  darkpy classifier train cifar.data cifar.cfg backup/cifar.backup

The class of an image is the line of labels= that occurs in its path.

{_BODY.format(more="")}"""


def _numbers(ctx: click.Context, option: click.Parameter, value: str | None) -> tuple[str, ...]:
    numbers = tuple(number.strip() for number in value.split(",")) if value is not None else ()
    if not all(number.isdecimal() for number in numbers) or len(set(numbers)) < len(numbers):
        raise DarkpyError(f"-gpus {value}: is no list of different GPUs", hint="-gpus 0,1 for the first two")
    return numbers


def _open_no_port(ctx: click.Context, option: click.Parameter, value: str | None) -> None:
    """AlexeyAB's own command for computers without a screen has it: his chart is looked at in a browser."""
    if value is not None:
        info("-mjpeg_port opens no port here: the chart is an image beside the weights")


def _options(*decorators: Decorator) -> Decorator:
    """What all trainings may be told, with more of some of them before it."""

    def decorate(function: Any) -> Any:
        for decorator in reversed((*decorators, *_SHARED)):
            function = decorator(function)
        return function

    return decorate


_SHARED = (
    click.option("-clear", is_flag=True, help="Begin the schedule anew: WEIGHTS have seen 0 images."),
    click.option("--darknet-log", is_flag=True, help="Print darknet's lines."),
    click.option("-chart", type=FILE_PATH, metavar="FILE",
                 help="Where an image of loss and mAP grows; needs darkpy[chart].  [default: chart_BASE.png beside the"
                 " weights, where matplotlib is installed]"),
    click.option("-mjpeg_port", metavar="N", expose_value=False, hidden=True, callback=_open_no_port),
    click.option("--precision", type=click.Choice(("fp32", "bf16")), default="fp32", show_default=True,
                 help="bf16 is about twice as fast where the hardware has it, and less exact."),
    click.option("--no-watch", "is_unwatched", is_flag=True,
                 help="Do not look out for what goes wrong, and make every update."),
    click.option("--max-bad-updates", type=click.IntRange(1), default=100, metavar="N", show_default=True,
                 help="End the run when so many updates in a row could not be made."),
    click.option("--fit", is_flag=True, help="Raise the subdivisions where a GPU's memory does not suffice."),
    click.option("--workers", type=click.IntRange(0, 256), metavar="N",
                 help="Processes that load images.  [default: 1 beside a CPU, up to 8 beside a GPU]"),
    click.option("--draft", is_flag=True,
                 help="Decode JPEGs of twice the network's size and more at a half, a quarter or an eighth: faster, "
                 "with other pixels than darknet's."),
    click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, metavar="N", show_default=True,
                 help="Which random numbers: the same ones make the same run."),
    device_option,
    click.option("-gpus", metavar="N,N", callback=_numbers,
                 help="GPUs that share each minibatch: batch and rate stay as they are."),
    dialect_option,
    strict_option,
    ignored_options,
)  # fmt: skip
_map_options = (
    click.option("-map", "is_judged", is_flag=True, help="Judge by DATA's valid list while training."),
    click.option("-mAP_epochs", "map_epochs", type=click.IntRange(1), default=4, metavar="N", show_default=True,
                 help="How often, in epochs."),
    click.option("-iou_thresh", type=UnitFloat(), default=0.5, metavar="0..1", show_default=True,
                 help="By how much a box must fit an object."),
    click.option("-thresh", type=UnitFloat(), default=0.25, metavar="0..1", show_default=True,
                 help="What is counted as found; not the mAP."),
)  # fmt: skip


@click.command(cls=Command, help=TRAIN_HELP, short_help="Train a network, or go on training it.")
@click.argument("cfg", type=FILE_PATH)
@click.argument("data", type=FILE_PATH)
@click.argument("weights", type=FILE_PATH, required=False)
@_options(*_map_options)
def train(cfg: Path, data: Path, weights: Path | None, **options: Any) -> int:
    return run_training(cfg, data, weights, _as_options(**options))


@click.command("train", cls=Command, help=DETECTOR_HELP, short_help="Train a detection network.")
@click.argument("data", type=FILE_PATH)
@click.argument("cfg", type=FILE_PATH)
@click.argument("weights", type=FILE_PATH, required=False)
@_options(*_map_options)
def train_detector(data: Path, cfg: Path, weights: Path | None, **options: Any) -> int:
    return run_training(cfg, data, weights, _as_options(**options), kind="detector")


@click.command("train", cls=Command, help=CLASSIFIER_HELP, short_help="Train a classifier.")
@click.argument("data", type=FILE_PATH)
@click.argument("cfg", type=FILE_PATH)
@click.argument("weights", type=FILE_PATH, required=False)
@_options()
def train_classifier(data: Path, cfg: Path, weights: Path | None, **options: Any) -> int:
    return run_training(cfg, data, weights, _as_options(**options), kind="classifier")


def _as_options(
    *,
    device: str | None,
    gpus: tuple[str, ...],
    is_unwatched: bool,
    is_judged: bool = False,
    map_epochs: int = 0,
    **others: Any,
) -> Options:
    if device is not None and gpus:
        raise DarkpyError("--device and -gpus both name the device: give one")
    return Options(
        watch=not is_unwatched, device=device, gpus=gpus, map_epochs=map_epochs if is_judged else 0, **others
    )
