"""darknet's weight tools that write: partial, average, rgbgr, rescale, reset, denormalize, normalize, oneoff."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import darkpy
from darkpy.cli import console
from darkpy.cli.options import FILE_PATH, Decorator, dialect_option, force_option, require_writable, strict_option
from darkpy.cli.parsing import Command
from darkpy.files import write_atomic

if TYPE_CHECKING:
    from darkpy.build import Plan
    from darkpy.export.weight_tools import LoadedWeights

_FILES = (
    "WEIGHTS is left as it is; OUT appears whole or not at all, with today's header, and replaces a file only with "
    "--force. A partial file stays one."
)
PARTIAL_HELP = f"""Keep the first N layers of a weight file, to start the training of another network from.

\b
  darkpy partial yolov3.cfg yolov3.weights darknet53.conv.74 74
  darkpy partial yolov4.cfg yolov4.weights yolov4.conv.137 137
  darkpy partial yolov3-tiny.cfg yolov3-tiny.weights yolov3-tiny.conv.15 15

Layers of all kinds count, as darkpy show CFG counts them: N=15 keeps the layers 0 to 14. The file says that it was
trained on no image yet. {_FILES}
"""
AVERAGE_HELP = """Write the mean of several weight files for one cfg: checkpoints of one training, mostly.

\b
  darkpy average my.cfg mean.weights my_1000.weights my_2000.weights my_3000.weights

OUT comes before the files that it is made of, and replaces a file only with --force. It has the first one's count of
images. The mean is over all arrays, where darknet leaves out all layers but the convolutional and connected ones, and
the latter's batch norm.
"""
RGBGR_HELP = f"""Exchange red and blue: a network trained on BGR images takes RGB ones, or the other way round.

\b
  darkpy rgbgr my.cfg bgr.weights rgb.weights

The first and the third input channel of the first convolution change places. {_FILES}
"""
RESCALE_HELP = f"""Have a network that was trained on inputs from -1 to 1 take inputs from 0 to 1, as darknet's are.

\b
  darkpy rescale my.cfg signed.weights my.weights

The weights of the first convolution are doubled, and its bias, or the mean of its batch norm, gives way by their sum.
At the edge of an image the zeros around it mean something else than before. {_FILES}
"""
RESET_HELP = f"""Fold batch norm into the weights and keep one that does nothing: scales 1, means 0, variances 1.

\b
  darkpy reset my.cfg my.weights reset.weights

The file still belongs to CFG. {_FILES}
"""
DENORMALIZE_HELP = f"""Fold batch norm into the weights, and leave its arrays out of the file.

\b
  darkpy denormalize my.cfg my.weights folded.weights --write-cfg folded.cfg

The file belongs to a cfg with batch_normalize=0 everywhere: --write-cfg writes it, which darknet leaves to you.
{_FILES}
"""
NORMALIZE_HELP = f"""Give batch norm to the layers that can have it and do not: one that changes nothing.

\b
  darkpy normalize my.cfg my.weights normal.weights --write-cfg normal.cfg

Scales are 1, means 0 and variances 1, where darknet writes variances of 0, with which every output is multiplied by
316 at first. The file belongs to a cfg with batch_normalize=1 everywhere: --write-cfg writes it. {_FILES}
"""
ONEOFF_HELP = """Make a detector of weights whose last convolution knows classes alone: each anchor gets these classes.

\b
  darkpy oneoff yolo9000.cfg classes.weights yolo9000.weights

CFG is the detector's: its last convolution has 3 * (classes + 5) filters, and that of WEIGHTS has `classes`. Box and
objectness of each anchor start new, by --seed. WEIGHTS is left as it is; OUT appears whole or not at all, and replaces
a file only with --force.
"""

_cfg = click.argument("cfg", type=FILE_PATH)
_weights = click.argument("weights", type=FILE_PATH)
_out = click.argument("out", type=FILE_PATH)
_write_cfg = click.option("--write-cfg", type=FILE_PATH, metavar="FILE", help="Also write the matching cfg.")


def _tool(name: str, help_text: str, short_help: str, *words: Decorator) -> Decorator:
    """A command with these words after its name, and the options that all have."""

    def decorate(function: Callable[..., Any]) -> Any:
        for decorator in (strict_option, dialect_option, force_option, *reversed(words)):
            function = decorator(function)
        return click.command(name, cls=Command, help=help_text, short_help=short_help)(function)

    return decorate


@_tool(
    "partial",
    PARTIAL_HELP,
    "Keep the first layers of a weight file.",
    _cfg,
    _weights,
    _out,
    click.argument("count", metavar="N", type=click.INT),
)
def partial(cfg: Path, weights: Path, out: Path, count: int, **opening: Any) -> None:
    from darkpy.export.weight_tools import keep_first

    _write(out, keep_first(_open(cfg, weights, out, **opening), count))


@_tool(
    "average",
    AVERAGE_HELP,
    "The mean of several weight files.",
    _cfg,
    _out,
    click.argument("files", metavar="WEIGHTS...", type=FILE_PATH, nargs=-1, required=True),
)
def average(cfg: Path, out: Path, files: tuple[Path, ...], overwrite: bool, dialect: str | None, strict: bool) -> None:
    from darkpy.export.weight_tools import average

    hint = "OUT comes before the files it is made of; --force overwrites it"
    require_writable(out, cfg, *files, overwrite=overwrite, hint=hint)
    _write(out, average(darkpy.plan(cfg, dialect, strict=strict), files))


@_tool("rgbgr", RGBGR_HELP, "Exchange red and blue.", _cfg, _weights, _out)
def rgbgr(cfg: Path, weights: Path, out: Path, **opening: Any) -> None:
    from darkpy.export.weight_tools import swap_red_and_blue

    opened = _open(cfg, weights, out, **opening)
    swap_red_and_blue(opened)
    _write(out, opened)


@_tool("rescale", RESCALE_HELP, "From inputs of -1 to 1 to inputs of 0 to 1.", _cfg, _weights, _out)
def rescale(cfg: Path, weights: Path, out: Path, **opening: Any) -> None:
    from darkpy.export.weight_tools import take_unit_inputs

    opened = _open(cfg, weights, out, **opening)
    take_unit_inputs(opened)
    _write(out, opened)


@_tool("reset", RESET_HELP, "Fold batch norm and keep one that does nothing.", _cfg, _weights, _out)
def reset(cfg: Path, weights: Path, out: Path, **opening: Any) -> None:
    from darkpy.export.batch_norm import reset

    opened = _open(cfg, weights, out, **opening)
    reset(opened)
    _write(out, opened)


@_tool("denormalize", DENORMALIZE_HELP, "Fold batch norm and leave it out.", _cfg, _weights, _out, _write_cfg)
def denormalize(cfg: Path, weights: Path, out: Path, write_cfg: Path | None, **opening: Any) -> None:
    from darkpy.export.batch_norm import denormalize

    opened = _open(cfg, weights, out, write_cfg, **opening)
    _write_both(cfg, opened.plan, denormalize(opened), out, write_cfg)


@_tool("normalize", NORMALIZE_HELP, "Give batch norm to layers without.", _cfg, _weights, _out, _write_cfg)
def normalize(cfg: Path, weights: Path, out: Path, write_cfg: Path | None, **opening: Any) -> None:
    from darkpy.export.batch_norm import normalize

    opened = _open(cfg, weights, out, write_cfg, **opening)
    _write_both(cfg, opened.plan, normalize(opened), out, write_cfg)


@_tool(
    "oneoff",
    ONEOFF_HELP,
    "Give a classifier's classes to each anchor.",
    _cfg,
    _weights,
    _out,
    click.option(
        "--seed", type=click.IntRange(0), metavar="N", default=0, show_default=True, help="Which new numbers."
    ),
)
def oneoff(cfg: Path, weights: Path, out: Path, seed: int, overwrite: bool, dialect: str | None, strict: bool) -> None:
    from darkpy.export.weight_tools import copy_classes

    require_writable(out, cfg, weights, overwrite=overwrite)
    _write(out, copy_classes(darkpy.plan(cfg, dialect, strict=strict), weights, seed))


def _open(
    cfg: Path,
    weights: Path,
    out: Path,
    other: Path | None = None,
    *,
    overwrite: bool,
    dialect: str | None,
    strict: bool,
) -> LoadedWeights:
    """The weights, once it is clear that nothing will be written over, and nothing given even where that is forced."""
    from darkpy.export.weight_tools import load_weights_file

    require_writable(out, cfg, weights, overwrite=overwrite)
    if other is not None:
        require_writable(other, cfg, weights, overwrite=overwrite)
        if other.resolve() == out.resolve():
            raise click.UsageError(f"{other} cannot be both the weights and the cfg")
    return load_weights_file(darkpy.plan(cfg, dialect, strict=strict), weights)


def _write(out: Path, made: LoadedWeights) -> None:
    write_atomic(out, made.pack())
    full = [node for node in made.nodes if node.arrays]
    count = sum(node.parameter_count for node in full if not node.spec.dontsave)
    part = "" if made.cutoff is None else f", up to layer {full[-1].index}"
    console.info(f"{out} holds {count:,} weights of {len(full)} layers{part}")


def _write_both(cfg: Path, before: Plan, made: LoadedWeights, out: Path, write_cfg: Path | None) -> None:
    """The weights first: they may still be refused."""
    from darkpy.export.batch_norm import rewrite_cfg

    _write(out, made)
    if write_cfg is not None:
        write_atomic(write_cfg, [rewrite_cfg(cfg, before, made.plan)])
    elif before.nodes != made.plan.nodes:
        console.info(f"{out} does not belong to {cfg}, whose batch_normalize= has to change: --write-cfg FILE does it")
