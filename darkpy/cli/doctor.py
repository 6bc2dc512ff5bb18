"""`darkpy doctor`: what is wrong with a training, before it begins."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from darkpy.cli.options import FILE, dialect_option
from darkpy.cli.progress import track
from darkpy.cli.spelling import Command
from darkpy.cli.talk import note
from darkpy.data.datafile import read_data

if TYPE_CHECKING:
    from darkpy.health.doctor import Examination

SICK = 1
FEW = 5
"""How many findings of a kind are printed, without --all."""

HELP = """Say what is wrong with a training before it begins: in the cfg, in the data.

\b
  darkpy doctor my.cfg
  darkpy doctor my.cfg my.data
  darkpy doctor my.cfg my.data --json | jq '.findings[].place'

The cfg is looked at for what no error forbids and no training survives: windows that skip cells, deep stacks without
normalisation, rates, burn-in and steps that do not fit each other, anchors, heads and what feeds them. With DATA every
image of train= and valid= is decoded and its labels are read: missing, empty, repeated, out of range, tiny and huge
boxes, images that cannot be read, images of the validation that are trained on (the same bytes, or the same picture
written anew), classes without objects, anchors of another size than the boxes.

Findings come in the order in which to mend them: data, rates, operations, details. Each says where it is, and what to
try. What the originals of both darknets do is no fault.

The exit code is 0 when nothing is found, 1 when something is, 2 when something that was given is wrong.
"""


@click.command(cls=Command, help=HELP, short_help="What is wrong with this cfg and these data?")
@click.argument("cfg", type=FILE)
@click.argument("data", type=FILE, required=False)
@click.argument("weights", type=FILE, required=False)
@click.option("--all", "is_all", is_flag=True, help=f"Print all findings, not {FEW} of a kind.")
@click.option("--json", "is_json", is_flag=True, help="Print JSON instead of text.")
@dialect_option
def doctor(cfg: Path, data: Path | None, weights: Path | None, is_all: bool, is_json: bool, dialect: str | None) -> int:
    from darkpy.health.doctor import examine
    from darkpy.weightfile import read_header

    seen = 0 if weights is None else read_header(weights)[0].seen
    exam = examine(cfg, None if data is None else read_data(data), dialect=dialect, seen=seen)
    for _ in track(exam.survey(), exam.total):
        pass
    findings = [one for one in exam.found if one.is_finding]
    if is_json:
        click.echo(json.dumps(_record(exam)))
    else:
        _print(exam, is_all)
    return SICK if findings else 0


def _print(exam: Examination, is_all: bool) -> None:
    met: Counter[str] = Counter()
    cause = None
    for one in exam.found:
        if not one.is_finding:
            note(str(one))
            continue
        met[one.kind] += 1
        if met[one.kind] > FEW and not is_all:
            continue
        if one.cause is not cause:
            cause = one.cause
            click.echo(f"{cause.name.lower()}:")
        click.echo("  " + str(one).replace("\n", "\n  "))
    for kind, count in met.items():
        if count > FEW and not is_all:
            click.echo(f"  ... and {count - FEW} more {kind} (--all shows them)")
    click.echo(_verdict(exam, sum(met.values())))


def _verdict(exam: Examination, count: int) -> str:
    seen = f", {exam.total} images" if exam.data is not None else ""
    if not count:
        return f"healthy: nothing found in {exam.config.file}{seen}"
    return f"{count} finding{'s' if count > 1 else ''} in {exam.config.file}{seen}"


def _record(exam: Examination) -> dict[str, Any]:
    from darkpy.health.diagnosis import as_record

    return {
        "cfg": exam.config.file,
        "data": None if exam.data is None else str(exam.data.path),
        "images": exam.total,
        "healthy": not any(one.is_finding for one in exam.found),
        "findings": [as_record(one) for one in exam.found if one.is_finding],
        "notes": [as_record(one) for one in exam.found if not one.is_finding],
    }
