"""What was seen in the updates before: by it the unusual is told from the usual, and nothing is said twice."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import time

from darkpy.build import Plan
from darkpy.diagnostics.monitor.log_reader import LoggedLayer, LoggedRun
from darkpy.diagnostics.monitor.symptom import ObservedUpdate, Row, Symptom
from darkpy.finding import Finding

USUAL = 100
"""Updates that tell what is usual."""
FRESH = 3
"""Updates for which a layer that was frozen is watched for what its thaw does."""
AGAIN = 1000
"""Updates after which the same is said again, if it is still so."""
TOLD = (
    "batch", "subdivisions", "width", "height", "channels", "learning_rate", "momentum", "decay", "policy", "burn_in",
    "power", "steps", "scales", "max_batches", "adam", "constrain", "grad_clip_norm", "grad_clip_value",
)  # fmt: skip
"""Keys of [net] that the log tells."""
AT_MOST = 5
"""Findings of one symptom within so many updates: more of them say the same."""


@dataclass
class History:
    """past: the norms of the last updates."""

    plan: Plan
    symptoms: Sequence[Symptom]
    past: deque[float] = field(default_factory=lambda: deque(maxlen=USUAL))
    updates: int = 0
    _began: dict[int, int] = field(default_factory=dict)  # in which update of the run each layer first took part
    _streaks: Counter[tuple[str, int | None]] = field(default_factory=Counter)
    _said: dict[tuple[str, Hashable], int] = field(default_factory=dict)

    def take_part(self, layers: Iterable[int]) -> frozenset[int]:
        """Those of the coming update's layers that have not done so until lately."""
        n = self.updates + 1
        for index in layers:
            self._began.setdefault(index, n)
        first = min(self._began.values(), default=0)
        return frozenset(index for index, began in self._began.items() if began > first + 1 and n - began < FRESH)

    def wants_layers(self, norm: float, reach: float) -> bool:
        """Whether any symptom must know the layers' gradients of such an update."""
        return any(symptom.wants_layers(norm, reach, self.past) for symptom in self.symptoms)

    def findings(self, look: ObservedUpdate) -> list[Finding]:
        """What is to be said of an update."""
        found = [self._finding(symptom, look) for symptom in self.symptoms if symptom.can_tell(look)]
        self.past.append(look.norm)
        self.updates += 1
        return [finding for finding in found if finding is not None]

    def _finding(self, symptom: Symptom, look: ObservedUpdate) -> Finding | None:
        findings = list(symptom.findings(look))
        shown = {(symptom.name, finding.location.index) for finding in findings}
        for key in [key for key in self._streaks if key[0] == symptom.name and key not in shown]:
            del self._streaks[key]
        new: list[Finding] = []
        for finding in findings:
            index = finding.location.index
            self._streaks[symptom.name, index] += 1
            if self._streaks[symptom.name, index] >= symptom.looks and self.may_say(symptom, index, look.batch_num):
                new.append(finding)
        return merge(new) if new else None

    def may_say(self, symptom: Symptom, index: Hashable, batch_num: int) -> bool:
        """Whether this has not been said lately of a layer, or of images; it is from now on."""
        lately = {key for key, said in self._said.items() if key[0] == symptom.name and batch_num - said < AGAIN}
        if (symptom.name, index) in lately:
            return False
        self._said[symptom.name, index] = batch_num
        return len(lately) < AT_MOST


def merge(findings: Sequence[Finding]) -> Finding:
    """Findings of one symptom as one, which is the first and names the layers of the others."""
    first, *others = findings
    layers = [str(finding.location.index) for finding in others if finding.location.index is not None]
    return replace(first, message=f"{first.message}; the same in layer {', '.join(layers)}") if layers else first


def run_of(plan: Plan, *, batch_num: int, seen: int) -> LoggedRun:
    """A run that begins, or goes on, as the log has it."""
    return LoggedRun(
        cfg=plan.file,
        dialect=str(plan.dialect),
        time=time(),
        batch_num=batch_num,
        seen=seen,
        net={key: getattr(plan.net, key) for key in TOLD},
        layers=tuple(
            LoggedLayer(
                index=node.index,
                type=node.section.type,
                line=node.section.line,
                place=plan.place(node.index),
                learns=any(not array_spec.is_statistic for array_spec in node.arrays),
            )
            for node in plan.nodes
        ),
    )


def rows_of(figures: Iterable[tuple[str, int, float]]) -> dict[str, Row]:
    """Figures by their names, of each one number a layer; where a layer has several of one, they make one vector."""
    rows: dict[str, dict[int, float]] = {}
    for name, index, value in figures:
        row = rows.setdefault(name, {})
        row[index] = (row[index] ** 2 + value**2) ** 0.5 if index in row else value
    return {name: dict(sorted(row.items())) for name, row in rows.items()}


def as_lists(plan: Plan, rows: Mapping[str, Row]) -> dict[str, list[float | None]]:
    """Rows as the log has them."""
    return {name: [row.get(node.index) for node in plan.nodes] for name, row in rows.items()}
