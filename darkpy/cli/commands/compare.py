"""`darkpy compare`: where two programs part."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from darkpy.cli import console
from darkpy.cli.load import open_network
from darkpy.cli.options import FILE_PATH, UnitFloat, letterbox_option, network_options, require_writable
from darkpy.cli.parsing import Command
from darkpy.errors import DarkpyError

if TYPE_CHECKING:
    from darkpy.evaluation.compare import Comparison, LayerDifference

DEPARTED = 1

HELP = """Compare the output of every layer with another program's, and name the first one that departs.

The other side is a dump, an ONNX file, or other weights for the same cfg.

\b
  darkpy compare yolov3.cfg yolov3.weights dog.jpg --dump yolov3.npz
  darkpy compare yolov3.cfg yolov3.weights --against yolov3.npz
  darkpy compare yolov3.cfg yolov3.weights dog.jpg --against yolov3.onnx
  darkpy compare yolov3.cfg yolov3.weights --against yolov3_final.weights

A dump is an .npz of float32 arrays: x is the network's input, layer0, layer1, ... what the layers put out, each in the
order batch, channels, rows, columns. Any program may write one, also with some layers only. An ONNX file shows the
layers that its outputs are named after (layer0, layer1, ...), or else the heads, or what the heads read, told by shape.

Without IMAGE the input is the dump's own, or random numbers from 0 to 1. With IMAGE, a dump's own input is compared
with it first.

The exit code is 0 when all agree, 1 when something departs, 2 when something that was given is wrong.
"""


@click.command(cls=Command, help=HELP, short_help="Where does another program depart, layer by layer?")
@click.argument("cfg", type=FILE_PATH)
@click.argument("weights", type=FILE_PATH)
@click.argument("image", type=FILE_PATH, required=False)
@click.option("--against", type=FILE_PATH, metavar="FILE", help="A dump (.npz), an ONNX file (.onnx) or other weights.")
@click.option("--other-cfg", type=FILE_PATH, metavar="CFG", help="What the other weights belong to.  [default: CFG]")
@click.option("--dump", type=FILE_PATH, metavar="FILE.npz", help="Write the input and every layer's output.")
@click.option(
    "--tolerance",
    type=UnitFloat(),
    default=1e-5,
    metavar="0..1",
    show_default=True,
    help="What a layer may be off, as a share of its largest number.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, metavar="N", show_default=True, help="Which random numbers."
)
@click.option("--json", "is_json", is_flag=True, help="Print JSON instead of a table.")
@letterbox_option
@network_options
def compare(
    cfg: Path,
    weights: Path,
    image: Path | None,
    against: Path | None,
    other_cfg: Path | None,
    dump: Path | None,
    tolerance: float,
    seed: int,
    is_json: bool,
    letterbox: bool | None,
    dialect: str | None,
    strict: bool,
    **opening: Any,
) -> int:
    import darkpy
    from darkpy.evaluation.compare import compare, random_input, trace
    from darkpy.evaluation.detect import DetectOptions, read_input
    from darkpy.evaluation.dump import write_dump

    if against is None and dump is None:
        raise DarkpyError(
            "nothing to compare with", hint="name it with --against FILE, or write a dump with --dump FILE"
        )
    if dump is not None:
        require_writable(dump, against, image, overwrite=True)
    other = None if other_cfg is None else darkpy.plan(other_cfg, dialect, strict=strict)
    network = open_network(cfg, weights, dialect=dialect, strict=strict, fold=False, **opening)
    x_BCHW = None
    if image is not None:
        is_letterboxed = DetectOptions(letterbox=letterbox).resolved(network).letterbox
        x_BCHW = read_input(network, image, letterbox=bool(is_letterboxed))[1]
    found = None
    if against is not None:
        found = compare(network, against, x_BCHW, other=other, seed=seed, tolerance=tolerance)
        x_BCHW = found.x_BCHW
        click.echo(_as_json(found) if is_json else _as_table(found))
    if dump is not None:
        x_BCHW = random_input(network, seed) if x_BCHW is None else x_BCHW
        write_dump(dump, x_BCHW, trace(network, x_BCHW))
        console.info(f"{dump} holds x and {len(network.plan.nodes)} layers")
    return DEPARTED if found is not None and found.first is not None else 0


def _as_table(found: Comparison) -> str:
    lines = [f"{'layer':>5}  {'type':16} {'output':>18} {'largest |a-b|':>14} {'of largest |b|':>15}"]
    for row in found.rows:
        layer = "" if row.index < 0 else row.index
        numbers = f"{row.difference:14.3g} {row.relative:15.3g}"
        lines.append(f"{layer:>5}  {row.type:16} {row.shape!s:>18} {numbers}{'  departs' if row.departs else ''}")
    return "\n".join((*lines, "", *(f"note: {text}" for text in found.notes), *_verdict(found)))


def _verdict(found: Comparison) -> list[str]:
    first = found.first
    if first is None:
        return [f"all {len(found.rows)} agree"]
    image, channel, row, column = first.at
    at = f"image {image}, channel {channel}, row {row}, column {column}"
    lines = [f"first to depart: {found.place}, by {first.difference:.3g} at {at}"]
    return [*lines, f"look at {found.cause}"] if found.cause else lines


def _as_json(found: Comparison) -> str:
    first = found.first and {"layer": found.first.index, "place": found.place, "cause": found.cause}
    return json.dumps({"first": first, "notes": found.notes, "layers": [_row_as_json(row) for row in found.rows]})


def _row_as_json(row: LayerDifference) -> dict[str, Any]:
    return {
        "layer": row.index,
        "type": row.type,
        "shape": row.shape,
        "difference": _finite(row.difference),
        "relative": _finite(row.relative),
        "largest": row.largest,
        "at": row.at,
        "departs": row.departs,
    }


def _finite(number: float) -> float | None:
    """JSON knows no infinity."""
    return number if math.isfinite(number) else None
