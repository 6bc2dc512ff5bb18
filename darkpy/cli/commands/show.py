"""`darkpy show`: what does this cfg describe?"""

from __future__ import annotations

import json
from pathlib import Path

import click

import darkpy
from darkpy.cli.options import FILE_PATH, dialect_option, strict_option
from darkpy.cli.parsing import Command
from darkpy.dialect import Dialect
from darkpy.torchless import look

HELP = """Print the layers of a network with their sizes and costs: darknet's table.

\b
  darkpy show yolov3.cfg
  darkpy show yolov3.cfg --json | jq .parameter_count

Sizes are width x height x channels, BF billions of operations for one image, weights the numbers in a .weights file.
--json prints file, dialect, input, parameter_count, bflops, foreign (what no darknet computes), and layers with index,
type, line, sources, shape
(channels, height, width), parameter_count, bflops and keys; source -1 is the image.
"""


@click.command(cls=Command, help=HELP, short_help="Print the layers of a network.")
@click.argument("cfg", type=FILE_PATH)
@click.option("--json", "is_json", is_flag=True, help="Print JSON instead of a table.")
@dialect_option
@strict_option
def show(cfg: Path, is_json: bool, dialect: str | None, strict: bool) -> None:
    click.echo(look(lambda: _describe(cfg, is_json, dialect, strict)))


def _describe(cfg: Path, is_json: bool, dialect: str | None, strict: bool) -> str:
    from darkpy.summary import as_record, table

    plan = darkpy.plan(cfg, dialect, strict=strict)
    if is_json:
        return json.dumps(as_record(plan))
    if dialect:
        reason = "as --dialect says"
    elif plan.dialect is Dialect.ALEXEYAB:
        reason = "it has sections or keys that no other darknet reads"
    else:
        reason = "nothing tells of another darknet"
    foreign = (f"no darknet computes this: {entry}" for entry in plan.extensions)
    return "\n".join((table(plan), f"dialect: {plan.dialect} ({reason})", *foreign))
