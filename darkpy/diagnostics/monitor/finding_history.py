"""History of a monitored run: norms of past updates, when each layer started to learn, and what has been reported."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import time

from darkpy.build import Plan
from darkpy.diagnostics.monitor.run_log import LoggedLayer, LoggedRun
from darkpy.diagnostics.monitor.symptoms import ObservedUpdate, Row, Symptom
from darkpy.finding import Finding

PAST_NORMS = 100
"""Updates whose gradient norms are remembered."""
FRESH_UPDATES = 3
"""Updates for which a layer counts as fresh after it was frozen."""
MAX_REPORTS = 5
"""Findings of one symptom within its `repeat_updates`; more of them add no information."""
LOGGED_NET_KEYS = (
    "batch", "subdivisions", "width", "height", "channels", "learning_rate", "momentum", "decay", "policy", "burn_in",
    "power", "steps", "scales", "max_batches", "adam", "constrain", "grad_clip_norm", "grad_clip_value",
)  # fmt: skip


@dataclass
class History:
    """past: gradient norms of the last updates. updates: made while the run was monitored."""

    plan: Plan
    symptoms: Sequence[Symptom]
    past: deque[float] = field(default_factory=lambda: deque(maxlen=PAST_NORMS))
    updates: int = 0
    _first_update: dict[int, int] = field(default_factory=dict)  # in which each layer took part
    _streaks: Counter[tuple[str, int | None]] = field(default_factory=Counter)
    _reported: dict[tuple[str, Hashable], tuple[int, int]] = field(default_factory=dict)  # last update, and how often

    def take_part(self, layers: Iterable[int]) -> frozenset[int]:
        """Note the layers of the coming update. Returns: those that were frozen until a few updates ago."""
        n = self.updates + 1
        for index in layers:
            self._first_update.setdefault(index, n)
        first = min(self._first_update.values(), default=0)
        return frozenset(
            index for index, began in self._first_update.items() if began > first + 1 and n - began < FRESH_UPDATES
        )

    def wants_layers(self, norm: float, max_step_ratio: float) -> bool:
        """True if any symptom needs the layers' gradients of such an update; see `Symptom.wants_layers`."""
        return any(symptom.wants_layers(norm, max_step_ratio, self.past) for symptom in self.symptoms)

    def findings(self, update: ObservedUpdate) -> list[Finding]:
        """Return what is to be reported of an update, at most one finding a symptom."""
        reports = [self._report(symptom, update) for symptom in self.symptoms if symptom.can_tell(update)]
        self.past.append(update.norm)
        self.updates += 1
        return [report for report in reports if report is not None]

    def _report(self, symptom: Symptom, update: ObservedUpdate) -> Finding | None:
        """Merge the new findings of a symptom that has lasted long enough: the first one names the other layers."""
        findings = list(symptom.findings(update))
        present = {(symptom.name, finding.location.index) for finding in findings}
        for key in [key for key in self._streaks if key[0] == symptom.name and key not in present]:
            del self._streaks[key]
        new: list[Finding] = []
        for finding in findings:
            index = finding.location.index
            self._streaks[symptom.name, index] += 1
            if self._streaks[symptom.name, index] >= symptom.looks and self.may_report(
                symptom, index, update.batch_num
            ):
                new.append(finding)
        layers = [str(finding.location.index) for finding in new[1:] if finding.location.index is not None]
        if layers:
            return replace(new[0], message=f"{new[0].message}; the same in layer {', '.join(layers)}")
        return new[0] if new else None

    def may_report(self, symptom: Symptom, index: Hashable, batch_num: int) -> bool:
        """True, and noted as reported, unless this was reported lately of the same layer or images, or too often.

        Each report doubles the updates until the next one.
        """
        recent = {
            key: count
            for key, (reported, count) in self._reported.items()
            if key[0] == symptom.name and batch_num - reported < symptom.repeat_updates * 2 ** (count - 1)
        }
        key = (symptom.name, index)
        if key in recent:
            return False
        self._reported[key] = (batch_num, self._reported.get(key, (0, 0))[1] + 1)
        return len(recent) < MAX_REPORTS


def run_of(plan: Plan, *, batch_num: int, seen: int) -> LoggedRun:
    """Return the log's record of a run that starts or continues."""
    return LoggedRun(
        cfg=plan.file,
        dialect=str(plan.dialect),
        time=time(),
        batch_num=batch_num,
        seen=seen,
        net={key: getattr(plan.net, key) for key in LOGGED_NET_KEYS},
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
    """Group figures by name, one number a layer: of several, which are norms, the norm of all."""
    rows: dict[str, dict[int, float]] = {}
    for name, index, value in figures:
        row = rows.setdefault(name, {})
        row[index] = (row[index] ** 2 + value**2) ** 0.5 if index in row else value
    return {name: dict(sorted(row.items())) for name, row in rows.items()}


def as_lists(plan: Plan, rows: Mapping[str, Row]) -> dict[str, list[float | None]]:
    """Return rows as lists over all layers, as the log stores them."""
    return {name: [row.get(node.index) for node in plan.nodes] for name, row in rows.items()}
