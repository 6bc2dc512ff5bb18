"""darknet's tools that edit weights: partial, average, rgbgr, rescale, reset, denormalize, normalize, oneoff(2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import darkpy
from darkpy.cli import console
from darkpy.cli.options import (
    CFG_PATH,
    FILE_PATH,
    OUTPUT_PATH,
    WEIGHTS_PATH,
    Command,
    Decorator,
    collect,
    compose,
    dialect_option,
    force_option,
    require_writable,
    strict_option,
)
from darkpy.files import write_atomic

if TYPE_CHECKING:
    from darkpy.build import Plan
    from darkpy.export.weight_tools import LoadedWeights

_ABOUT_OUT = (
    "WEIGHTS is not changed. OUT has the current header, is written completely or not at all, and replaces a file only "
    "with --force. Partial weights stay partial."
)
PARTIAL_HELP = f"""Keep the first N layers of a weight file, to start the training of another network from.

\b
  darkpy partial yolov3.cfg yolov3.weights darknet53.conv.74 74
  darkpy partial yolov4.cfg yolov4.weights yolov4.conv.137 137
  darkpy partial yolov3-tiny.cfg yolov3-tiny.weights yolov3-tiny.conv.15 15

Layers of all types count, as numbered by darkpy show CFG: N=15 keeps layers 0 to 14. The count of images seen is reset
to 0. {_ABOUT_OUT}
"""
AVERAGE_HELP = """Average several weight files of one cfg, typically checkpoints of one training run.

\b
  darkpy average my.cfg mean.weights my_1000.weights my_2000.weights my_3000.weights

OUT comes before its inputs and replaces a file only with --force. It keeps the count of images seen of the first input.
All arrays are averaged; darknet averages convolutional and connected layers only, without the batch norm of the latter.
"""
RGBGR_HELP = f"""Swap red and blue: a network trained on BGR images then takes RGB images, or the reverse.

\b
  darkpy rgbgr my.cfg bgr.weights rgb.weights

The first and the third input channel of the first convolution are swapped. {_ABOUT_OUT}
"""
RESCALE_HELP = f"""Convert a network trained on inputs from -1 to 1 to darknet's inputs from 0 to 1.

\b
  darkpy rescale my.cfg signed.weights my.weights

The weights of the first convolution are doubled, and their sum is taken off its bias or batch norm mean. Zero padding
at the image border means a different value than before. {_ABOUT_OUT}
"""
RESET_HELP = f"""Fold batch norm into the weights and keep an identity batch norm: scales 1, means 0, variances 1.

\b
  darkpy reset my.cfg my.weights reset.weights

OUT still belongs to CFG. {_ABOUT_OUT}
"""
DENORMALIZE_HELP = f"""Fold batch norm into the weights and drop its arrays.

\b
  darkpy denormalize my.cfg my.weights folded.weights --write-cfg folded.cfg

OUT belongs to a cfg with batch_normalize=0 everywhere, which --write-cfg writes. {_ABOUT_OUT}
"""
NORMALIZE_HELP = f"""Add an identity batch norm to every layer that can have one and does not.

\b
  darkpy normalize my.cfg my.weights normal.weights --write-cfg normal.cfg

Scales are 1, means 0, variances 1 (darknet writes variances of 0, which multiply every output by 316). OUT belongs to
a cfg with batch_normalize=1 everywhere, which --write-cfg writes. {_ABOUT_OUT}
"""
ONEOFF_HELP = """Turn a classifier's last layer into a detector's: every anchor gets its class weights.

\b
  darkpy oneoff yolo9000.cfg classes.weights yolo9000.weights

CFG is the detector's: its last convolution has 3 * (classes + 5) filters, that of WEIGHTS has `classes`. Box and
objectness weights of each anchor are initialized at random, by --seed. WEIGHTS is not changed; OUT is written
completely or not at all, and replaces a file only with --force.
"""
ONEOFF2_HELP = """Load a weight file twice: into all layers, then from its beginning into the layers from L on.

\b
  darkpy oneoff2 twins.cfg half.weights twins.weights 12

So both branches of a network get the same weights, if the layers from L on are like those from 0 on. Layers that the
file does not reach are initialized at random. The count of images seen is reset to 0. WEIGHTS is not changed; OUT is
written completely or not at all, and replaces a file only with --force.
"""


@dataclass(frozen=True, kw_only=True)
class _ToolOptions:
    """Options of every tool that writes weights."""

    overwrite: bool
    dialect: str | None
    strict: bool


_cfg = click.argument("cfg", type=CFG_PATH)
_weights = click.argument("weights", type=WEIGHTS_PATH)
_out = click.argument("out", type=OUTPUT_PATH)
_write_cfg = click.option("--write-cfg", type=OUTPUT_PATH, metavar="FILE", help="Also write the matching cfg.")
_tool_options = collect(_ToolOptions, "options", force_option, dialect_option, strict_option)


def _tool(help_text: str, *parameters: Decorator) -> Callable[[Callable[..., Any]], click.Command]:
    """Decorate a command named like its function, with these parameters and the options of every tool."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        return click.command(cls=Command, help=help_text)(compose(*parameters, _tool_options)(function))

    return decorate


@_tool(PARTIAL_HELP, _cfg, _weights, _out, click.argument("count", metavar="N", type=click.INT))
def partial(cfg: Path, weights: Path, out: Path, count: int, options: _ToolOptions) -> None:
    from darkpy.export.weight_tools import keep_first

    _write(out, keep_first(_load(cfg, weights, out, options), count))


@_tool(AVERAGE_HELP, _cfg, _out, click.argument("files", metavar="WEIGHTS...", type=FILE_PATH, nargs=-1, required=True))
def average(cfg: Path, out: Path, files: tuple[Path, ...], options: _ToolOptions) -> None:
    from darkpy.export.weight_tools import average

    hint = "OUT comes before the files it is made of; --force overwrites it"
    require_writable(out, overwrite=options.overwrite, hint=hint)
    _write(out, average(darkpy.plan(cfg, options.dialect, strict=options.strict, weights=files[0]), files))


@_tool(RGBGR_HELP, _cfg, _weights, _out)
def rgbgr(cfg: Path, weights: Path, out: Path, options: _ToolOptions) -> None:
    from darkpy.export.weight_tools import swap_red_and_blue

    loaded = _load(cfg, weights, out, options)
    swap_red_and_blue(loaded)
    _write(out, loaded)


@_tool(RESCALE_HELP, _cfg, _weights, _out)
def rescale(cfg: Path, weights: Path, out: Path, options: _ToolOptions) -> None:
    from darkpy.export.weight_tools import take_unit_inputs

    loaded = _load(cfg, weights, out, options)
    take_unit_inputs(loaded)
    _write(out, loaded)


@_tool(RESET_HELP, _cfg, _weights, _out)
def reset(cfg: Path, weights: Path, out: Path, options: _ToolOptions) -> None:
    from darkpy.export.batch_norm import reset

    loaded = _load(cfg, weights, out, options)
    reset(loaded)
    _write(out, loaded)


@_tool(DENORMALIZE_HELP, _cfg, _weights, _out, _write_cfg)
def denormalize(cfg: Path, weights: Path, out: Path, write_cfg: Path | None, options: _ToolOptions) -> None:
    from darkpy.export.batch_norm import denormalize

    loaded = _load(cfg, weights, out, options, write_cfg)
    _write_with_cfg(cfg, loaded.plan, denormalize(loaded), out, write_cfg)


@_tool(NORMALIZE_HELP, _cfg, _weights, _out, _write_cfg)
def normalize(cfg: Path, weights: Path, out: Path, write_cfg: Path | None, options: _ToolOptions) -> None:
    from darkpy.export.batch_norm import normalize

    loaded = _load(cfg, weights, out, options, write_cfg)
    _write_with_cfg(cfg, loaded.plan, normalize(loaded), out, write_cfg)


@_tool(
    ONEOFF_HELP,
    _cfg,
    _weights,
    _out,
    click.option("--seed", type=click.IntRange(0), metavar="N", default=0, show_default=True, help="Random seed."),
)
def oneoff(cfg: Path, weights: Path, out: Path, seed: int, options: _ToolOptions) -> None:
    from darkpy.export.weight_tools import copy_classes

    require_writable(out, overwrite=options.overwrite)
    _write(out, copy_classes(darkpy.plan(cfg, options.dialect, strict=options.strict, weights=weights), weights, seed))


@_tool(ONEOFF2_HELP, _cfg, _weights, _out, click.argument("layer", metavar="L", type=click.IntRange(0)))
def oneoff2(cfg: Path, weights: Path, out: Path, layer: int, options: _ToolOptions) -> None:
    from darkpy.export.weight_tools import repeat_weights

    require_writable(out, overwrite=options.overwrite)
    plan = darkpy.plan(cfg, options.dialect, strict=options.strict, weights=weights)
    _write(out, repeat_weights(plan, weights, layer))


def _load(cfg: Path, weights: Path, out: Path, options: _ToolOptions, cfg_out: Path | None = None) -> LoadedWeights:
    """Load the weights, after checking that the files to write may be written."""
    from darkpy.export.weight_tools import load_weights_file

    require_writable(out, overwrite=options.overwrite)
    if cfg_out is not None:
        require_writable(cfg_out, overwrite=options.overwrite)
        if cfg_out.resolve() == out.resolve():
            raise click.UsageError(f"{cfg_out} cannot be both the weights and the cfg")
    return load_weights_file(darkpy.plan(cfg, options.dialect, strict=options.strict, weights=weights), weights)


def _write(out: Path, weights: LoadedWeights) -> None:
    write_atomic(out, weights.pack())
    nodes = [node for node in weights.nodes if node.arrays]
    count = sum(node.parameter_count for node in nodes if not node.spec.dontsave)
    extent = "" if weights.cutoff is None else f", up to layer {nodes[-1].index}"
    console.info(f"{out} holds {count:,} weights of {len(nodes)} layers{extent}")


def _write_with_cfg(cfg: Path, before: Plan, weights: LoadedWeights, out: Path, cfg_out: Path | None) -> None:
    from darkpy.export.batch_norm import rewrite_cfg

    _write(out, weights)  # first, as it may still fail
    if cfg_out is not None:
        write_atomic(cfg_out, [rewrite_cfg(cfg, before, weights.plan)])
    elif before.nodes != weights.plan.nodes:
        console.info(f"{out} does not match {cfg}, whose batch_normalize= must change: --write-cfg FILE writes it")
