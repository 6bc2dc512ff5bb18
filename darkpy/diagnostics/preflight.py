"""Checks that need no image and no forward pass, for `doctor` and for the start of a training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from darkpy.build import Plan
from darkpy.diagnostics.checks.anchors import check_anchor_sizes
from darkpy.diagnostics.checks.cfg import check_layers, heads_of
from darkpy.diagnostics.checks.labels import FINDING_NAME as LABELS_UNUSABLE
from darkpy.diagnostics.checks.labels import check_labels
from darkpy.diagnostics.checks.lists import check_names
from darkpy.diagnostics.checks.rates import check_batch, check_rates, peak_rate
from darkpy.diagnostics.checks.training import check_backup, check_files, check_own_keys, check_schedule
from darkpy.errors import DarkpyError
from darkpy.finding import Finding, Severity, sort_findings
from darkpy.training.setup import TrainingSetup


def check_plan(plan: Plan) -> Iterator[Finding]:
    """Run the checks of a cfg alone."""
    yield from check_rates(plan)
    yield from check_batch(plan)
    yield from check_anchor_sizes(plan)
    yield from check_layers(plan, peak_rate=peak_rate(plan.net))


def check_setup(setup: TrainingSetup, seen: int, *, is_resumed: bool = False) -> Iterator[Finding]:
    """Run the checks of a cfg with its data; `check_plan` and the images themselves are not among them.

    seen: images that the weights have seen. is_resumed: True if a resume file goes with the weights.
    """
    heads = heads_of(setup.plan)
    where = str(setup.plan.locate(heads[-1][0].index, "classes")) if heads else setup.plan.file
    yield from check_schedule(setup, seen, is_resumed=is_resumed)
    yield from check_names(setup.data, setup.classes, where)
    yield from check_own_keys(setup)
    yield from check_files(setup)
    yield from check_labels(setup)


def check_training(
    setup: TrainingSetup,
    *,
    seen: int,
    folder: Path,
    weights: Path | None,
    is_resumed: bool = False,
    allow_empty: bool = False,
) -> list[Finding]:
    """Run all checks of a training that is about to begin.

    folder: where checkpoints go. weights: from which it starts. seen, is_resumed: as in `check_setup`.
    allow_empty: only warn if no image has a usable object.
    Returns: warnings and notes.
    Raises: DarkpyError for the first error.
    """
    findings = [
        *check_plan(setup.plan),
        *check_setup(setup, seen, is_resumed=is_resumed),
        *check_backup(setup, folder, weights),
    ]
    if allow_empty:
        findings = [
            replace(finding, severity=Severity.WARNING) if finding.name == LABELS_UNUSABLE else finding
            for finding in findings
        ]
    findings = sort_findings(findings)
    if findings and findings[0].severity is Severity.ERROR:
        raise DarkpyError(findings[0].text, hint="; or ".join(findings[0].hints) or None)
    return findings
