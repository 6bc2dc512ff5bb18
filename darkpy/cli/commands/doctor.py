"""`darkpy doctor`: what is wrong with a training, before it begins."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from darkpy.cli import console
from darkpy.cli.options import FILE_PATH, device_option, dialect_option
from darkpy.cli.parsing import Command
from darkpy.data.lists.data_file import read_data
from darkpy.errors import DarkpyError
from darkpy.files import make_folder, write_atomic

if TYPE_CHECKING:
    from darkpy.build import Plan
    from darkpy.diagnostics.doctor import Examination
    from darkpy.diagnostics.dry_run import DryRun
    from darkpy.diagnostics.sample_scores import Scored
    from darkpy.finding import Finding
    from darkpy.network import Network

SICK = 1
FEW = 5
"""How many findings of a kind are printed, without --all."""

HELP = """Say what is wrong with a training before it begins: in the cfg, in the data.

\b
  darkpy doctor my.cfg
  darkpy doctor my.cfg my.data
  darkpy doctor my.cfg my.data --updates 20
  darkpy doctor my.cfg my.data backup/my_last.weights --out found
  darkpy doctor my.cfg my.data --json | jq '.findings[].place'

The cfg is looked at for what no error forbids and no training survives: windows that skip cells, deep stacks without
normalization, rates, burn-in and steps that do not fit each other, anchors, heads and what feeds them. With DATA every
image of train= and valid= is decoded and its labels are read: missing, empty, repeated, out of range, tiny and huge
boxes, images that cannot be read, images of the validation that are trained on (the same bytes, or the same image
written anew), classes without objects, anchors of another size than the boxes.

With WEIGHTS their numbers are looked at, layer by layer. If they know the data a little, every sample is then shown to
the network, alone and in order, and nothing is learnt: the samples with the largest loss and gradient for their number
of objects are printed, worst first. Wrong boxes, wrong classes and labels of another image stand at the top. --out DIR
writes all of them to DIR/samples.csv, and the worst as images to DIR/samples.png.

--updates N makes the first N updates of the training as they will be, from WEIGHTS or from nothing, looks at every
layer in each, and throws the network away: what the watch of darkpy train would find is found before.

Findings come in the order in which to mend them: data, rates, operations, details. Each says where it is, and what to
try. What the originals of both darknets do is no fault. --json prints cfg, data, images, healthy, findings and notes
(each with level, cause, kind, place, message, try), samples and dry_run.

The exit code is 0 when nothing is found, 1 when something is, 2 when something that was given is wrong.
"""


@click.command(cls=Command, help=HELP, short_help="What is wrong with this cfg and these data?")
@click.argument("cfg", type=FILE_PATH)
@click.argument("data", type=FILE_PATH, required=False)
@click.argument("weights", type=FILE_PATH, required=False)
@click.option("--all", "is_all", is_flag=True, help=f"Print all findings, not {FEW} of a kind.")
@click.option(
    "--worst",
    type=click.IntRange(1, 1000),
    default=10,
    metavar="N",
    show_default=True,
    help="How many samples are shown.",
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="N",
    help="Show the network N images, spread over the list.  [default: all]",
)
@click.option("--updates", type=click.IntRange(1), metavar="N", help="Make N updates on trial; nothing is kept.")
@click.option("--out", type=FILE_PATH, metavar="DIR", help="Where samples.csv and samples.png are written.")
@click.option("--json", "is_json", is_flag=True, help="Print JSON instead of text.")
@device_option
@dialect_option
def doctor(
    cfg: Path,
    data: Path | None,
    weights: Path | None,
    is_all: bool,
    worst: int,
    limit: int | None,
    updates: int | None,
    out: Path | None,
    is_json: bool,
    device: str | None,
    dialect: str | None,
) -> int:
    from darkpy.diagnostics.doctor import examine
    from darkpy.diagnostics.dry_run import as_record
    from darkpy.weightfile import read_header

    if out is not None and weights is None:
        raise DarkpyError("--out is for what a network says of each sample", hint="name its weights: CFG DATA WEIGHTS")
    if updates is not None and data is None:
        raise DarkpyError("--updates needs images to learn from", hint="name the data: CFG DATA")
    seen = 0 if weights is None else read_header(weights)[0].seen
    exam = examine(cfg, None if data is None else read_data(data), dialect=dialect, seen=seen)
    for _ in console.track(exam.survey(), exam.total):
        pass
    ranked = _hunt(exam, weights, device, limit)
    trial = None if updates is None else _try(exam, weights, device, updates)
    if out is not None and ranked:
        _write(exam, ranked, out, worst)
    if is_json:
        samples = [_sample_record(one) for one in ranked]
        click.echo(json.dumps({**_record(exam), "samples": samples, "dry_run": trial and as_record(trial)}))
    else:
        _print(exam, is_all)
        if trial is not None:
            click.echo(trial.verdict())
        _print_samples(ranked[:worst])
    return SICK if any(not one.is_note for one in exam.findings) else 0


def _hunt(exam: Examination, weights: Path | None, device: str | None, limit: int | None) -> list[Scored]:
    """All samples, worst first; none where there is nothing to show them to."""
    from darkpy.diagnostics.checks.weights import check_weights
    from darkpy.diagnostics.sample_scores import Hunt, check_scores, rank
    from darkpy.finding import Severity

    if weights is None or exam.plan is None:
        return []
    network = _open(exam.plan, weights, device)
    found = list(check_weights(network))
    exam.add(found)
    if exam.setup is None or any(one.severity is Severity.ERROR for one in found):
        return []
    hunt = Hunt(network, exam.setup)
    if not hunt.is_filled:
        console.info(f"{weights} does not fill the network: what it makes of each sample is mostly chance")
    numbers = hunt.numbers(limit)
    ranked = rank(list(console.track(hunt.run(numbers), len(numbers))))
    assert exam.data is not None
    exam.add(check_scores(ranked, str(exam.data.path)))
    return ranked


def _try(exam: Examination, weights: Path | None, device: str | None, updates: int) -> DryRun | None:
    """The dry run, whose findings are noted; None where there is nothing to train."""
    from darkpy.diagnostics.dry_run import DryRun

    if exam.setup is None or not exam.is_trainable:
        console.info("the network cannot be trained on these data as they are: no update is tried")
        return None
    assert exam.plan is not None
    location = exam.plan.locate_net("learning_rate")
    trial = DryRun(_open(exam.setup.plan, weights, device), exam.setup, updates, location)
    for _ in console.track(trial.run(), updates):
        pass
    exam.add(trial.findings)
    return trial


def _open(plan: Plan, weights: Path | None, device: str | None) -> Network:
    import torch

    from darkpy.network import Network
    from darkpy.ops.device import find_device

    torch.manual_seed(0)
    network = Network(plan)
    if weights is not None:
        network.load_weights(weights, allow_partial=True)
    network.initialize()
    return network.to(find_device(device))


def _write(exam: Examination, ranked: Sequence[Scored], out: Path, worst: int) -> None:
    from darkpy.diagnostics.sample_scores import as_csv, draw_worst

    assert exam.setup is not None
    make_folder(out)
    write_atomic(out / "samples.csv", [as_csv(ranked)])
    write_atomic(out / "samples.png", [draw_worst(exam.setup, ranked[:worst])])
    console.info(f"{out / 'samples.csv'} holds {len(ranked)} samples, {out / 'samples.png'} shows the worst")


def _print_samples(ranked: Sequence[Scored]) -> None:
    if not ranked:
        return
    click.echo(f"{'rank':>4} {'score':>7} {'loss':>10} {'gradient':>10} {'objects':>7}  image, worst first")
    for number, one in enumerate(ranked, start=1):
        numbers = f"{one.score:7.1f} {one.loss:10.4g} {one.norm:10.4g} {one.objects:7}"
        click.echo(f"{number:4} {numbers}  {one.path}")


def _print(exam: Examination, is_all: bool) -> None:
    met: Counter[str] = Counter()
    cause = None
    for one in exam.findings:
        if one.is_note:
            console.info(str(one))
            continue
        met[one.name] += 1
        if met[one.name] > FEW and not is_all:
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


def _sample_record(one: Scored) -> dict[str, Any]:
    """JSON knows no infinity, and no NaN."""
    numbers = {"score": one.score, "loss": one.loss, "gradient_norm": one.norm}
    finite = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
    return {"image": one.path, **finite, "objects": one.objects}


def _record(exam: Examination) -> dict[str, Any]:
    return {
        "cfg": exam.config.file,
        "data": None if exam.data is None else str(exam.data.path),
        "images": exam.total,
        "healthy": not any(not one.is_note for one in exam.findings),
        "findings": [_finding_record(one) for one in exam.findings if not one.is_note],
        "notes": [_finding_record(one) for one in exam.findings if one.is_note],
    }


def _finding_record(finding: Finding) -> dict[str, Any]:
    message, update = finding.message, finding.batch_num
    if finding.place and update:
        message = f"update {update}: {message}"
    return {
        "level": finding.severity.value,
        "cause": finding.cause.name.lower(),
        "kind": finding.name,
        "place": finding.place or f"update {update}",
        "message": message,
        "try": list(finding.hints),
    }
