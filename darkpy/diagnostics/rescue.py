"""Rescue of a ruined run: its healthy weights, and a copy of its cfg with the first remedy applied."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from darkpy.build import Plan, make_plan
from darkpy.config.edit import apply_remedy
from darkpy.config.text import MAX_SIZE
from darkpy.data.lists.text_files import read_data
from darkpy.diagnostics.monitor.healthy_weights import HEALTHY_SUFFIX
from darkpy.diagnostics.monitor.run_log import log_path, read_log
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.files import read_text, write_atomic
from darkpy.finding import Finding, Remedy
from darkpy.training.checkpoints import base_name

RUINING_FINDINGS = ("NonFinite", "RuinedWeights", "Diverging", "LossSpike")
"""Findings of what ends a run; the remedies of the last one of them come first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rescue:
    """Start of a rescued run. weights: None where the remedy changes the layers, so that the run begins anew."""

    cfg: Path
    weights: Path | None
    remedy: Remedy
    finding: Finding

    def __str__(self) -> str:
        start = f"the healthy weights {self.weights}" if self.weights else "new weights, since the layers change,"
        return f"the run continues from {start} with {self.remedy}, in {self.cfg}"


def first_remedies(findings: Sequence[Finding]) -> list[tuple[Finding, Remedy]]:
    """Return the remedies of a run's findings, those of what ruined it first."""
    ruining = [finding for finding in reversed(findings) if finding.name in RUINING_FINDINGS]
    others = [finding for finding in reversed(findings) if finding.name not in RUINING_FINDINGS]
    return [(finding, remedy) for finding in (*ruining, *others) for remedy in finding.remedies]


def rescue_command(cfg: str, data: Path) -> str:
    return shlex.join(["darkpy", "train", cfg, str(data), "--rescue"])


def prepare_rescue(cfg: Path, data: Path, dialect: Dialect | str | None = None) -> Rescue:
    """Apply the first remedy of the ruined run to a copy of its cfg, beside its healthy weights: `BASE_rescueN.cfg`.

    A rescued run that was ruined again is rescued in its turn. The cfg itself stays as it is.
    Raises: DarkpyError when there is nothing to rescue, or no remedy that is an edit of the cfg.
    """
    folder = Path(read_data(data).entries.get("backup", "backup"))
    base = original_base = base_name(str(cfg))
    for number in count(1):
        rescued = folder / f"{original_base}_rescue{number}.cfg"
        healthy = folder / f"{base}{HEALTHY_SUFFIX}"
        if not (rescued.is_file() and (folder / f"{base_name(str(rescued))}{HEALTHY_SUFFIX}").is_file()):
            break
        cfg, base = rescued, base_name(str(rescued))
    if not healthy.is_file():
        raise DarkpyError(
            f"{healthy}: not found: there is no ruined run of {cfg} to rescue",
            hint=f"train it with {shlex.join(['darkpy', 'train', str(cfg), str(data)])}",
        )
    log = read_log(log_path(folder, base))
    findings = tuple(finding for finding in log.findings if finding.batch_num > log.run.batch_num)
    text = read_text(cfg, max_bytes=MAX_SIZE, hint=None, keep_bytes=True)
    for finding, remedy in first_remedies(findings):
        if not remedy.edits:
            command = shlex.join(remedy.command)
            raise DarkpyError(f"{finding.text}: no key of the cfg fixes this", hint=f"{command}, then train again")
        edited = apply_remedy(text, remedy)
        if edited == text:
            continue
        write_atomic(rescued, [edited.encode(errors="surrogateescape")])
        is_same = _arrays(make_plan(cfg, dialect)) == _arrays(make_plan(rescued, dialect))
        return Rescue(cfg=rescued, weights=healthy if is_same else None, remedy=remedy, finding=finding)
    raise DarkpyError(
        f"{log.path}: no finding of the ruined run has a remedy that the cfg does not have yet",
        hint=f"darkpy report {shlex.quote(str(log.path))} shows what happened",
    )


def _arrays(plan: Plan) -> list[tuple[tuple[str, tuple[int, ...]], ...]]:
    return [tuple((array.name, tuple(array.shape)) for array in node.arrays) for node in plan.nodes]
