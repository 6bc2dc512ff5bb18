"""`darkpy compare`: compare every layer's output with another program's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from darkpy.cli import console
from darkpy.cli.load import open_network
from darkpy.cli.options import (
    CFG_PATH,
    FILE_PATH,
    OUTPUT_PATH,
    WEIGHTS_PATH,
    Command,
    LoadOptions,
    UnitFloat,
    json_option,
    letterbox_option,
    max_pixels_option,
    network_options,
    require_writable,
)
from darkpy.errors import DarkpyError

if TYPE_CHECKING:
    from darkpy.evaluation.compare import Comparison

EXIT_CODE_DIFFERENCE = 1

COMPARE_HELP = """Compare every layer's output with another program's, and name the first layer that differs.

The reference is a dump, an ONNX file, or other weights for the same cfg.

\b
  darkpy compare yolov3.cfg yolov3.weights dog.jpg --dump yolov3.npz
  darkpy compare yolov3.cfg yolov3.weights --against yolov3.npz
  darkpy compare yolov3.cfg yolov3.weights dog.jpg --against yolov3.onnx
  darkpy compare yolov3.cfg yolov3.weights --against yolov3_final.weights

A dump is an .npz of float32 arrays: x is the network's input; layer0, layer1, ... are the layers' outputs, all in the
order batch, channels, rows, columns. Any program may write one, with all layers or some. Outputs of an ONNX file are
matched to layers by name (layer0, layer1, ...), or else by shape to the heads or their inputs.

Without IMAGE the input is that of the dump, or random numbers from 0 to 1. With IMAGE, the dump's input is compared
with it first.

Exit codes: 0 all layers agree, 1 a layer differs, 2 wrong input.
"""


@click.command(cls=Command, help=COMPARE_HELP)
@click.argument("cfg", type=CFG_PATH)
@click.argument("weights", type=WEIGHTS_PATH)
@click.argument("image", type=FILE_PATH, required=False)
@click.option("--against", type=FILE_PATH, metavar="FILE", help="A dump (.npz), an ONNX file (.onnx) or other weights.")
@click.option("--other-cfg", type=CFG_PATH, metavar="CFG", help="The cfg of the other weights.  [default: CFG]")
@click.option("--dump", type=OUTPUT_PATH, metavar="FILE.npz", help="Write the input and every layer's output.")
@click.option(
    "--tolerance",
    type=UnitFloat(),
    default=1e-5,
    metavar="0..1",
    show_default=True,
    help="Largest difference allowed, as a share of a layer's largest value.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    metavar="N",
    show_default=True,
    help="Random seed.",
)
@json_option
@letterbox_option
@network_options
@max_pixels_option
def compare(
    cfg: Path,
    weights: Path,
    image: Path | None,
    against: Path | None,
    other_cfg: Path | None,
    dump: Path | None,
    tolerance: float,
    seed: int,
    as_json: bool,
    letterbox: bool | None,
    load: LoadOptions,
) -> int:
    import darkpy
    from darkpy.evaluation.compare import compare, random_input, trace
    from darkpy.evaluation.detect import DetectOptions, read_input
    from darkpy.evaluation.dump import write_dump

    if against is None and dump is None:
        raise DarkpyError(
            "nothing to compare with", hint="name a reference (--against FILE), or write a dump (--dump FILE)"
        )
    if dump is not None:
        require_writable(dump, overwrite=True)
    other = None if other_cfg is None else darkpy.plan(other_cfg, load.dialect, strict=load.strict, weights=against)
    network = open_network(cfg, weights, load, accelerated=False)
    x_BCHW = None
    if image is not None:
        letterbox = DetectOptions(letterbox=letterbox).resolved(network).letterbox
        x_BCHW = read_input(network, image, letterbox=bool(letterbox))[1]
    comparison = None
    if against is not None:
        comparison = compare(network, against, x_BCHW, other=other, seed=seed, tolerance=tolerance)
        x_BCHW = comparison.x_BCHW
        console.echo(_as_json(comparison) if as_json else _as_table(comparison))
    if dump is not None:
        x_BCHW = random_input(network, seed) if x_BCHW is None else x_BCHW
        write_dump(dump, x_BCHW, trace(network, x_BCHW))
        console.info(f"{dump} holds x and {len(network.plan.nodes)} layers")
    return EXIT_CODE_DIFFERENCE if comparison is not None and comparison.first is not None else 0


def _as_table(comparison: Comparison) -> str:
    lines = [f"{'layer':>5}  {'type':16} {'output':>18} {'largest |a-b|':>14} {'of largest |b|':>15}"]
    for row in comparison.rows:
        layer = "" if row.index < 0 else row.index
        numbers = f"{row.difference:14.3g} {row.relative:15.3g}"
        lines.append(f"{layer:>5}  {row.type:16} {row.shape!s:>18} {numbers}{'  differs' if row.departs else ''}")
    lines += ["", *(f"note: {text}" for text in comparison.notes)]
    first = comparison.first
    if first is None:
        lines.append(f"all {len(comparison.rows)} agree")
    else:
        image, channel, row_px, column_px = first.at
        at = f"image {image}, channel {channel}, row {row_px}, column {column_px}"
        lines.append(f"first difference: {comparison.place}, by {first.difference:.3g} at {at}")
        if comparison.cause:
            lines.append(f"look at {comparison.cause}")
    return "\n".join(lines)


def _as_json(comparison: Comparison) -> str:
    first = comparison.first and {"layer": comparison.first.index, "place": comparison.place, "cause": comparison.cause}
    layers = [
        {
            "layer": row.index,
            "type": row.type,
            "shape": row.shape,
            "difference": console.finite_or_none(row.difference),
            "relative": console.finite_or_none(row.relative),
            "largest": row.largest,
            "at": row.at,
            "departs": row.departs,
        }
        for row in comparison.rows
    ]
    return json.dumps({"first": first, "notes": comparison.notes, "layers": layers})
