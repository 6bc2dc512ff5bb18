"""`darkpy show`: print the layers of a network."""

from __future__ import annotations

import json
from pathlib import Path

import click

import darkpy
from darkpy.cli import console
from darkpy.cli.options import FILE_PATH, Command, dialect_option, json_option, strict_option
from darkpy.dialect import Dialect
from darkpy.torchless import look

SHOW_HELP = """Print the layers of a network with their sizes and costs, as darknet's table.

\b
  darkpy show yolov3.cfg
  darkpy show yolov3.cfg --json | jq .parameter_count

Sizes are width x height x channels; BF are billions of operations per image; weights are the values in a .weights file.
--json prints file, dialect, input, parameter_count, bflops, foreign (extensions that no darknet has), and
layers with index, type, line, sources, shape (channels, height, width), parameter_count, bflops,
delta_bound (of the delta constraint in training; 0 if it is off) and keys; source -1 is the image.
"""


@click.command(cls=Command, help=SHOW_HELP)
@click.argument("cfg", type=FILE_PATH)
@json_option
@dialect_option
@strict_option
def show(cfg: Path, as_json: bool, dialect: str | None, strict: bool) -> None:
    def describe() -> str:
        from darkpy.summary import as_record, delta_constraint, table

        plan = darkpy.plan(cfg, dialect, strict=strict)
        if as_json:
            return json.dumps(as_record(plan))
        if dialect:
            reason = "from --dialect"
        elif plan.dialect is Dialect.ALEXEYAB:
            reason = "it has sections or keys that only this dialect has"
        else:
            reason = "the default"
        extensions = (f"extension of darkpy, in no darknet: {entry}" for entry in plan.extensions)
        dialect_line = f"dialect: {plan.dialect} ({reason})"
        return "\n".join((table(plan), dialect_line, f"delta constraint: {delta_constraint(plan)}", *extensions))

    console.echo(look(describe))
