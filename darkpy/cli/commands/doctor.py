"""`darkpy doctor`: check a cfg and its data before training."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from darkpy.catalog import find_cfg, find_weights
from darkpy.cli import console
from darkpy.cli.options import (
    CFG_PATH,
    FILE_PATH,
    OUTPUT_PATH,
    WEIGHTS_PATH,
    Command,
    device_option,
    dialect_option,
    json_option,
    max_pixels_option,
    require_writable,
)
from darkpy.data.lists.image_list import known_names
from darkpy.data.lists.text_files import read_data
from darkpy.errors import DarkpyError
from darkpy.files import make_folder, write_atomic

if TYPE_CHECKING:
    from darkpy.build import Plan
    from darkpy.config.text import Config
    from darkpy.diagnostics.doctor import Examination
    from darkpy.diagnostics.dry_run import DryRun
    from darkpy.diagnostics.sample_scores import Scored
    from darkpy.finding import CfgEdit, Finding
    from darkpy.network import Network

EXIT_CODE_FINDINGS = 1
MAX_PRINTED_PER_KIND = 5

DOCTOR_HELP = """Check a cfg and its data before training.

\b
  darkpy doctor my.cfg
  darkpy doctor my.cfg my.data
  darkpy doctor my.cfg my.data --updates 20
  darkpy doctor my.cfg my.data backup/my_last.weights --out samples
  darkpy doctor my.cfg my.data --json | jq '.findings[].place'

The cfg is checked for settings that are valid but ruin a training: windows that skip cells, deep stacks without batch
norm, inconsistent learning rate, burn-in and steps, anchors, heads and their input layers. With DATA every image of
train= and valid= is decoded and its labels are checked: missing, empty, duplicate, out of range, tiny and huge boxes,
unreadable images, training images in the validation list (the same bytes, or re-encoded), classes without objects,
anchors that do not fit the boxes.

With WEIGHTS their values are checked layer by layer. If they fill the network, it then runs on every sample without
training, and the samples with the largest loss and gradient for their number of objects are printed, worst first: wrong
boxes, wrong classes and labels of another image come out on top. --out DIR writes all samples to DIR/samples.csv and
draws the worst in DIR/samples.png.

--write CFG writes a copy of the cfg with the first remedy of each finding, the anchors of the boxes among them.

--updates N is a dry run: the first N updates of the training, from WEIGHTS or from scratch, with every layer monitored
as by darkpy train. The trained network is discarded.

Findings are printed in the order in which to fix them: data, rates, operations, details. Each names its place and what
to try. Properties of darknet's own cfgs are not reported. --json prints cfg, data, images, healthy, findings and notes
(each with level, cause, kind, place, message, try, remedies), samples and dry_run. A remedy is what a program can carry
out: edits (key, value, section, layer, and line where the key is set now) or command (words of a command line).

Exit codes: 0 nothing found, 1 findings, 2 wrong input.
"""


@click.command(cls=Command, help=DOCTOR_HELP)
@click.argument("cfg", type=CFG_PATH)
@click.argument("data", type=FILE_PATH, required=False)
@click.argument("weights", type=WEIGHTS_PATH, required=False)
@click.option(
    "--all", "print_all", is_flag=True, help=f"Print all findings, not only {MAX_PRINTED_PER_KIND} of a kind."
)
@click.option(
    "--worst",
    type=click.IntRange(1, 1000),
    default=10,
    metavar="N",
    show_default=True,
    help="Number of samples to print and draw.",
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="N",
    help="Run the network on N images, spread over the list.  [default: all]",
)
@click.option("--updates", type=click.IntRange(1), metavar="N", help="Dry run of N training updates; nothing is kept.")
@click.option("--out", type=OUTPUT_PATH, metavar="DIR", help="Folder for samples.csv and samples.png.")
@click.option(
    "--write", "write", type=OUTPUT_PATH, metavar="CFG", help="Write a new cfg with the first remedy of each finding."
)
@json_option
@device_option
@dialect_option
@max_pixels_option
def doctor(
    cfg: Path,
    data: Path | None,
    weights: Path | None,
    print_all: bool,
    worst: int,
    limit: int | None,
    updates: int | None,
    out: Path | None,
    write: Path | None,
    as_json: bool,
    device: str | None,
    dialect: str | None,
) -> int:
    from darkpy.diagnostics.doctor import examine
    from darkpy.diagnostics.dry_run import as_record
    from darkpy.diagnostics.sample_scores import as_csv, draw_worst
    from darkpy.weightfile import read_header

    if out is not None and weights is None:
        raise DarkpyError("--out is for the samples that weights are run on", hint="name the weights: CFG DATA WEIGHTS")
    if updates is not None and data is None:
        raise DarkpyError("--updates needs training data", hint="name the data: CFG DATA")
    if write is not None:
        require_writable(write, overwrite=False, hint="name a new file")
    seen = 0 if weights is None else read_header(find_weights(weights))[0].seen
    cfg = Path(find_cfg(cfg))
    exam = examine(cfg, None if data is None else read_data(data), dialect=dialect, seen=seen, weights=weights)
    for _ in console.track(exam.survey(), exam.total):
        pass
    ranked = _rank_samples(exam, weights, device, limit)
    dry_run = None if updates is None else _dry_run(exam, weights, device, updates)
    if out is not None and ranked:
        assert exam.setup is not None and exam.data is not None
        names = known_names(exam.data)
        make_folder(out)
        write_atomic(out / "samples.csv", [as_csv(ranked)])
        write_atomic(out / "samples.png", [draw_worst(exam.setup, ranked[:worst], names)])
        console.info(f"{out / 'samples.csv'} holds {len(ranked)} samples, {out / 'samples.png'} shows the worst")
    if as_json:
        record = {
            "cfg": exam.config.file,
            "data": None if exam.data is None else str(exam.data.path),
            "images": exam.total,
            "healthy": all(finding.is_note for finding in exam.findings),
            "findings": [_finding_record(finding, exam.config) for finding in exam.findings if not finding.is_note],
            "notes": [_finding_record(finding, exam.config) for finding in exam.findings if finding.is_note],
            "samples": [
                {
                    "image": sample.path,
                    "score": console.finite_or_none(sample.score),
                    "loss": console.finite_or_none(sample.loss),
                    "gradient_norm": console.finite_or_none(sample.norm),
                    "objects": sample.objects,
                }
                for sample in ranked
            ],
            "dry_run": dry_run and as_record(dry_run),
        }
        console.echo(json.dumps(record))
    else:
        _print_findings(exam, print_all)
        if dry_run is not None:
            console.echo(dry_run.verdict())
        if ranked[:worst]:
            console.echo(f"{'rank':>4} {'score':>7} {'loss':>10} {'gradient':>10} {'objects':>7}  image, worst first")
        for rank, sample in enumerate(ranked[:worst], start=1):
            values = f"{sample.score:7.1f} {sample.loss:10.4g} {sample.norm:10.4g} {sample.objects:7}"
            console.echo(f"{rank:4} {values}  {sample.path}")
    if write is not None:
        _write_cured(exam, write)
    return EXIT_CODE_FINDINGS if any(not finding.is_note for finding in exam.findings) else 0


def _write_cured(exam: Examination, target: Path) -> None:
    from darkpy.diagnostics.doctor import apply_remedies

    text, remedies = apply_remedies(exam)
    if not remedies:
        console.info("no finding can be fixed by keys of the cfg: nothing is written")
        return
    write_atomic(target, [text.encode("utf-8", "surrogateescape")])
    console.info(f"{target} has {len(remedies)} remedies: {'; '.join(map(str, remedies))}")


def _rank_samples(exam: Examination, weights: Path | None, device: str | None, limit: int | None) -> list[Scored]:
    """Run the weights on the samples; return them worst first, [] without weights or data."""
    from darkpy.diagnostics.checks.weights import check_frozen_norms, check_weights
    from darkpy.diagnostics.sample_scores import SampleScorer, check_scores, rank, ruined_by_samples
    from darkpy.finding import Severity

    if weights is None or exam.plan is None:
        return []
    network = _open(exam.plan, weights, device)
    findings = [*check_weights(network), *check_frozen_norms(exam.plan, network)]
    exam.add(findings)
    if exam.setup is None or any(finding.severity is Severity.ERROR for finding in findings):
        return []  # ruined weights make every image look bad
    scorer = SampleScorer(network, exam.setup)
    if scorer.is_ruined:
        exam.add([ruined_by_samples(str(weights))])
        return []
    if not scorer.is_filled:
        console.info(f"{weights} does not fill the network: losses of samples are mostly random")
    indices = scorer.indices(limit)
    ranked = rank(list(console.track(scorer.run(indices), len(indices))))
    assert exam.data is not None
    exam.add(check_scores(ranked, str(exam.data.path)))
    return ranked


def _dry_run(exam: Examination, weights: Path | None, device: str | None, updates: int) -> DryRun | None:
    """Run the first updates and add their findings; None if the network cannot be trained on the data."""
    from darkpy.diagnostics.dry_run import DryRun

    if exam.setup is None or not exam.is_trainable:
        console.info("the network cannot be trained on these data: the dry run is skipped")
        return None
    assert exam.plan is not None
    location = exam.plan.locate_net("learning_rate")
    dry_run = DryRun(_open(exam.setup.plan, weights, device), exam.setup, updates, location)
    for _ in console.track(dry_run.run(), updates):
        pass
    exam.add(dry_run.findings)
    return dry_run


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


def _print_findings(exam: Examination, print_all: bool) -> None:
    from darkpy.finding import count_text

    counts: Counter[str] = Counter()
    cause = None
    for finding in sorted(exam.findings, key=lambda finding: finding.cause):  # errors first in each
        if finding.is_note:
            console.info(str(finding))
            continue
        counts[finding.name] += 1
        if counts[finding.name] > MAX_PRINTED_PER_KIND and not print_all:
            continue
        if finding.cause is not cause:
            cause = finding.cause
            console.echo(f"{cause.name.lower()}:")
        console.echo("  " + str(finding).replace("\n", "\n  "))
    for kind, count in counts.items():
        if count > MAX_PRINTED_PER_KIND and not print_all:
            console.echo(f"  ... and {count - MAX_PRINTED_PER_KIND} more {kind} (--all shows them)")
    total = sum(counts.values())
    verdict = count_text(total, "finding") if total else "healthy: nothing found"
    images = "" if exam.data is None else f", {count_text(exam.total, 'image')}"
    console.echo(f"{verdict} in {exam.config.file}{images}")


def _finding_record(finding: Finding, config: Config) -> dict[str, Any]:
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
        "remedies": [
            {
                "edits": [_edit_record(edit, config) for edit in remedy.edits],
                "command": list(remedy.command),
                "reason": remedy.reason,
            }
            for remedy in finding.remedies
        ],
    }


def _edit_record(edit: CfgEdit, config: Config) -> dict[str, Any]:
    """Return an edit with the line where its key is set now; None where it is not set."""
    section = config.sections[0 if edit.layer is None else edit.layer + 1]
    entry = section.entries.get(edit.key)
    line = None if entry is None else entry.line
    return {"key": edit.key, "value": edit.value, "section": section.type, "layer": edit.layer, "line": line}
