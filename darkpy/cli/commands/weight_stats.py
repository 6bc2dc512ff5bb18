"""darknet's tools that inspect weights: ops, statistics, print, visualize."""

from __future__ import annotations

import json
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import click

import darkpy
from darkpy.cli import console
from darkpy.cli.options import (
    CFG_PATH,
    OUTPUT_PATH,
    WEIGHTS_PATH,
    Command,
    dialect_option,
    force_option,
    json_option,
    require_writable,
    strict_option,
)
from darkpy.errors import DarkpyError
from darkpy.files import write_atomic
from darkpy.torchless import run_without_torch

if TYPE_CHECKING:
    pass

FILTERS_FILE = Path("filters.png")

OPS_HELP = """Count the operations (multiplications and additions) for one image.

\b
  darkpy ops yolov3.cfg

As darknet counts them: layers with weights only. darkpy show CFG lists the cost of each layer.
"""
STATISTICS_HELP = """Print darknet's statistics of each weight array: MSE, mean and variance.

\b
  darkpy statistics my.cfg my.weights
  darkpy statistics my.cfg my.weights --json | jq '.[] | select(.not_finite > 0)'

MSE, as darknet names it, is the root of the mean square. Non-finite values (NaN, infinity) are counted at the end of
the line and left out of the other statistics.

--json prints a list with layer, array, count, mse, mean, variance, minimum, maximum and not_finite.
"""
PRINT_HELP = """Print the weights of a layer, one filter per line.

\b
  darkpy print yolov3-tiny.cfg yolov3-tiny.weights 0
  darkpy print yolov3-tiny.cfg yolov3-tiny.weights 0 --array rolling_variance
  darkpy print yolov3-tiny.cfg yolov3-tiny.weights 0 --json

darkpy show CFG lists the layers with their numbers. --json prints layer and arrays with their rows, at full precision.
"""
VISUALIZE_HELP = """Draw the filters of a convolution, by default those of the first layer.

\b
  darkpy visualize yolov3-tiny.cfg yolov3-tiny.weights
  darkpy visualize yolov3-tiny.cfg yolov3-tiny.weights --layer 2 --out layer2.png

Each filter is scaled from its lowest to its highest value. Filters of three channels are drawn in color; others have a
row per channel. Without WEIGHTS, the filters of a newly initialized network are drawn. The PNG file shows the first 64
filters and 32 channels. --out replaces a file only with --force.
"""


@click.command(cls=Command, help=OPS_HELP)
@click.argument("cfg", type=CFG_PATH)
@json_option
@dialect_option
@strict_option
def ops(cfg: Path, as_json: bool, dialect: str | None, strict: bool) -> None:
    def count_from_plan() -> int:
        from darkpy.summary import count_operations

        return count_operations(darkpy.plan(cfg, dialect, strict=strict))

    count = run_without_torch(count_from_plan)
    if as_json:
        console.echo(json.dumps({"operations": count}))
        return
    console.echo(f"Floating Point Operations: {count}")
    console.echo(f"Floating Point Operations: {count / 1e9:.2f} Bn")


@click.command(cls=Command, help=STATISTICS_HELP)
@click.argument("cfg", type=CFG_PATH)
@click.argument("weights", type=WEIGHTS_PATH)
@json_option
@dialect_option
@strict_option
def statistics(cfg: Path, weights: Path, as_json: bool, dialect: str | None, strict: bool) -> None:
    from darkpy.export.weight_stats import array_stats
    from darkpy.export.weight_tools import load_weights_file

    opened = load_weights_file(darkpy.plan(cfg, dialect, strict=strict, weights=weights), weights)
    stats_by_layer = [(node, array_stats(opened, node)) for node in opened.nodes if node.arrays]
    if as_json:
        records = [
            {
                name: console.finite_or_none(value) if isinstance(value, float) else value
                for name, value in asdict(array).items()
            }
            for _, arrays in stats_by_layer
            for array in arrays
        ]
        console.echo(json.dumps(records))
        return
    for node, arrays in stats_by_layer:
        console.echo(f"{node.type.capitalize()} Layer {node.index}")
        part = ""  # layers made of others, such as rnn, name the part before the array
        for array in arrays:
            owner, _, name = array.array.rpartition(".")
            if owner != part:
                console.echo(owner)
                part = owner
            non_finite = f", NaN or infinity: {array.not_finite}" if array.not_finite else ""
            values = f"MSE: {array.mse:.6f}, Mean: {array.mean:.6f}, Variance: {array.variance:.6f}"
            console.echo(f"{name.replace('_', ' ').title()} {values}{non_finite}")
        console.echo()


@click.command("print", cls=Command, help=PRINT_HELP)
@click.argument("cfg", type=CFG_PATH)
@click.argument("weights", type=WEIGHTS_PATH)
@click.argument("layer", type=click.INT)
@click.option("--array", metavar="NAME", help="Name of the array.  [default: its weights]")
@json_option
@dialect_option
@strict_option
def print_command(
    cfg: Path, weights: Path, layer: int, array: str | None, as_json: bool, dialect: str | None, strict: bool
) -> None:
    from darkpy.export.weight_stats import layer_at, rows_of
    from darkpy.export.weight_tools import load_weights_file

    opened = load_weights_file(darkpy.plan(cfg, dialect, strict=strict, weights=weights), weights)
    arrays = list(rows_of(opened, layer_at(opened, layer), array))
    if as_json:
        values = {
            name: [[console.finite_or_none(number) for number in row] for row in rows.tolist()] for name, rows in arrays
        }
        console.echo(json.dumps({"layer": layer, "arrays": values}))
        return
    for name, rows in arrays:
        if len(arrays) > 1:
            console.echo(name)
        for row in rows:
            console.echo(" ".join((*(f"{number:g}" for number in row.tolist()), "")))


@click.command(cls=Command, help=VISUALIZE_HELP)
@click.argument("cfg", type=CFG_PATH)
@click.argument("weights", type=WEIGHTS_PATH, required=False)
@click.option("--layer", type=click.INT, metavar="N", help="Index of the layer.  [default: the first convolution]")
@click.option("--out", type=OUTPUT_PATH, default=FILTERS_FILE, metavar="FILE", show_default=True, help="PNG file.")
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
        raise DarkpyError(f"--out {out}: must be a .png file", hint=f"--out {out.with_suffix('.png')}")
    require_writable(out, overwrite=overwrite or out == FILTERS_FILE)
    plan = darkpy.plan(cfg, dialect, strict=strict, weights=weights)
    opened = new_weights(plan) if weights is None else load_weights_file(plan, weights)
    node, weights_FCKK = filters_of(opened, layer)
    stream = BytesIO()
    Image.fromarray(draw_filters(weights_FCKK)).save(stream, "PNG")
    write_atomic(out, [stream.getvalue()])
    console.info(f"drew {plan.place(node.index)} into {out}")
