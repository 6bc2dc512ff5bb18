"""`darkpy show`: print the layers of a network."""

from __future__ import annotations

import json
from pathlib import Path

import click

import darkpy
from darkpy.cli import console
from darkpy.cli.options import CFG_PATH, Command, dialect_option, json_option, strict_option
from darkpy.dialect import Dialect
from darkpy.torchless import run_without_torch

SHOW_HELP = """Print the layers of a network with their sizes and costs, as darknet's table.

\b
  darkpy show yolov3.cfg
  darkpy show yolov3.cfg --json | jq .parameter_count

Sizes are width x height x channels; BF are billions of operations per image; weights are the values in a .weights file.
--json prints file, dialect, input, parameter_count, bflops, foreign (extensions that no darknet has), and
layers with index, type, line, sources, shape (channels, height, width), parameter_count, bflops,
frozen (why its weights do not learn, empty if they do), delta_bound (of the delta constraint in training; 0 if it is
off) and keys; source -1 is the image.

The line `training:` lists the layers that learn: stopbackward, dont_update, burnin_update, train_only_bn, onlyforward
and learning_rate=0 in layers, and --freeze, keep weights as they are.
"""


@click.command(cls=Command, help=SHOW_HELP)
@click.argument("cfg", type=CFG_PATH)
@json_option
@click.option(
    "--freeze",
    "frozen_layers",
    type=click.IntRange(0),
    metavar="N",
    default=0,
    help="Show what `darkpy train --freeze N` trains.",
)
@dialect_option
@strict_option
def show(cfg: Path, as_json: bool, frozen_layers: int, dialect: str | None, strict: bool) -> None:
    def describe() -> str:
        from darkpy.summary import as_record, delta_constraint, describe_training, table

        plan = darkpy.plan(cfg, dialect, strict=strict)
        if as_json:
            return json.dumps(as_record(plan, frozen_layers))
        if dialect:
            reason = "from --dialect"
        elif plan.dialect is Dialect.ALEXEYAB:
            reason = "it has sections or keys that only this dialect has"
        else:
            reason = "the default"
        extensions = (f"extension of darkpy, in no darknet: {entry}" for entry in plan.extensions)
        dialect_line = f"dialect: {plan.dialect} ({reason})"
        training_line = f"training: {describe_training(plan, frozen_layers)}"
        constraint_line = f"delta constraint: {delta_constraint(plan)}"
        return "\n".join((table(plan), training_line, dialect_line, constraint_line, *extensions))

    console.echo(run_without_torch(describe))
