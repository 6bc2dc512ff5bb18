"""darknet's weight tools that show: ops, statistics, print, visualize."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import click

import darkpy
from darkpy.cli import console
from darkpy.cli.options import FILE_PATH, dialect_option, force_option, require_writable, strict_option
from darkpy.cli.parsing import Command
from darkpy.errors import DarkpyError
from darkpy.files import write_atomic

if TYPE_CHECKING:
    from darkpy.build import Node
    from darkpy.export.weight_stats import ArrayStats

FILTERS = Path("filters.png")

OPS_HELP = """Print how many multiplications and additions one image takes.

\b
  darkpy ops yolov3.cfg

Counted are the layers with weights, as darknet counts; darkpy show CFG has the costs of each layer.
"""
STATISTICS_HELP = """Print what the arrays of a weight file look like: darknet's MSE, mean and variance of each.

\b
  darkpy statistics my.cfg my.weights
  darkpy statistics my.cfg my.weights --json | jq '.[] | select(.not_finite > 0)'

MSE is darknet's word for the root of the mean square. Where an array holds NaN or infinity, a word at the end of its
line counts them, and the rest speaks of the other numbers.

--json prints a list with layer, array, count, mse, mean, variance, minimum, maximum and not_finite.
"""
PRINT_HELP = """Print the weights of a layer, one filter a line.

\b
  darkpy print yolov3-tiny.cfg yolov3-tiny.weights 0
  darkpy print yolov3-tiny.cfg yolov3-tiny.weights 0 --array rolling_variance
  darkpy print yolov3-tiny.cfg yolov3-tiny.weights 0 --json

darkpy show CFG counts the layers. --json prints layer, and arrays with their rows; every number is exact there.
"""
VISUALIZE_HELP = f"""Draw the filters of a convolution into an image: the first layer's, which one can read.

\b
  darkpy visualize yolov3-tiny.cfg yolov3-tiny.weights
  darkpy visualize yolov3-tiny.cfg yolov3-tiny.weights --layer 2 --out layer2.png

Each filter runs from its darkest to its brightest number. Those that read red, green and blue are in color; of others
a row shows each channel. Without WEIGHTS it is what a new network starts with. darknet opens windows; here it is a
PNG file, {FILTERS} by default, of the first 64 filters and 32 channels. --out replaces a file only with --force.
"""


@click.command(cls=Command, help=OPS_HELP, short_help="How many operations an image takes.")
@click.argument("cfg", type=FILE_PATH)
@click.option("--json", "is_json", is_flag=True, help="Print JSON: operations.")
@dialect_option
@strict_option
def ops(cfg: Path, is_json: bool, dialect: str | None, strict: bool) -> None:
    from darkpy.summary import count_operations

    count = count_operations(darkpy.plan(cfg, dialect, strict=strict))
    if is_json:
        click.echo(json.dumps({"operations": count}))
        return
    click.echo(f"Floating Point Operations: {count}")
    click.echo(f"Floating Point Operations: {count / 1e9:.2f} Bn")


@click.command(cls=Command, help=STATISTICS_HELP, short_help="What the arrays of a weight file look like.")
@click.argument("cfg", type=FILE_PATH)
@click.argument("weights", type=FILE_PATH)
@click.option("--json", "is_json", is_flag=True, help="Print JSON instead of lines.")
@dialect_option
@strict_option
def statistics(cfg: Path, weights: Path, is_json: bool, dialect: str | None, strict: bool) -> None:
    from darkpy.export.weight_stats import array_stats
    from darkpy.export.weight_tools import load_weights_file

    opened = load_weights_file(darkpy.plan(cfg, dialect, strict=strict), weights)
    found = [(node, array_stats(opened, node)) for node in opened.nodes if node.arrays]
    if is_json:
        click.echo(json.dumps([_as_record(one) for _, figures in found for one in figures]))
        return
    for node, figures in found:
        click.echo("\n".join((*_lines(node, figures), "")))


@click.command("print", cls=Command, help=PRINT_HELP, short_help="The weights of a layer as text.")
@click.argument("cfg", type=FILE_PATH)
@click.argument("weights", type=FILE_PATH)
@click.argument("layer", type=click.INT)
@click.option("--array", metavar="NAME", help="Which array.  [default: its weights]")
@click.option("--json", "is_json", is_flag=True, help="Print JSON instead of lines.")
@dialect_option
@strict_option
def print_command(
    cfg: Path, weights: Path, layer: int, array: str | None, is_json: bool, dialect: str | None, strict: bool
) -> None:
    from darkpy.export.weight_stats import layer_at, rows_of
    from darkpy.export.weight_tools import load_weights_file

    opened = load_weights_file(darkpy.plan(cfg, dialect, strict=strict), weights)
    found = list(rows_of(opened, layer_at(opened, layer), array))
    if is_json:
        arrays = {name: [[_finite(number) for number in row] for row in rows.tolist()] for name, rows in found}
        click.echo(json.dumps({"layer": layer, "arrays": arrays}))
        return
    for name, rows in found:
        if len(found) > 1:
            click.echo(name)
        for row in rows:
            click.echo(" ".join((*(f"{number:g}" for number in row.tolist()), "")))


@click.command(cls=Command, help=VISUALIZE_HELP, short_help="The filters of a convolution as an image.")
@click.argument("cfg", type=FILE_PATH)
@click.argument("weights", type=FILE_PATH, required=False)
@click.option("--layer", type=click.INT, metavar="N", help="Which layer.  [default: the first convolution]")
@click.option("--out", type=FILE_PATH, default=FILTERS, metavar="FILE", show_default=True, help="PNG file to write.")
@force_option
@dialect_option
@strict_option
def visualize(
    cfg: Path,
    weights: Path | None,
    layer: int | None,
    out: Path,
    overwrite: bool,
    dialect: str | None,
    strict: bool,
) -> None:
    from PIL import Image

    from darkpy.export.filter_image import draw_filters, filters_of
    from darkpy.export.weight_tools import load_weights_file, new_weights

    if out.suffix.lower() != ".png":
        raise DarkpyError(f"--out {out}: the image is a PNG file", hint=f"--out {out.with_suffix('.png')}")
    require_writable(out, cfg, weights, overwrite=overwrite or out == FILTERS)
    plan = darkpy.plan(cfg, dialect, strict=strict)
    opened = new_weights(plan) if weights is None else load_weights_file(plan, weights)
    node, weights_FCKK = filters_of(opened, layer)
    stream = BytesIO()
    Image.fromarray(draw_filters(weights_FCKK)).save(stream, "PNG")
    write_atomic(out, [stream.getvalue()])
    console.info(f"{out} shows {plan.place(node.index)}")


def _lines(node: Node, figures: list[ArrayStats]) -> list[str]:
    lines = [f"{node.type.capitalize()} Layer {node.index}"]
    part = ""
    for one in figures:
        owner, _, name = one.array.rpartition(".")
        if owner != part:
            lines.append(owner)
            part = owner
        lost = f", NaN or infinity: {one.not_finite}" if one.not_finite else ""
        numbers = f"MSE: {one.mse:.6f}, Mean: {one.mean:.6f}, Variance: {one.variance:.6f}"
        lines.append(f"{name.replace('_', ' ').title()} {numbers}{lost}")
    return lines


def _as_record(one: ArrayStats) -> dict[str, object]:
    return {name: _finite(value) if isinstance(value, float) else value for name, value in asdict(one).items()}


def _finite(number: float) -> float | None:
    """JSON knows no NaN and no infinity."""
    return number if math.isfinite(number) else None
