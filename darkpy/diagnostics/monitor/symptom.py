"""Symptom: a sign of trouble in the measurements of an update, with the layer where it shows and hints.

A symptom is a frozen dataclass whose fields are its thresholds; the monitor's History remembers earlier updates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from darkpy.build import Plan
from darkpy.finding import Cause, Finding, Location
from darkpy.training.reports import UpdateReport

Row = Mapping[int, float]
"""One number a layer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObservedUpdate(UpdateReport):
    """An update with the measurements that symptoms need.

    past: norms of the updates before. averages: the first average loss over more than a minibatch, and the lowest.
    gradient, pull: for each layer that took part, the 2-norm of its gradients, and the norm of those of its weights,
        times the rate, over the norm of the weights.
    fresh: layers that take part only since a few updates.
    figures: measured values of the layers, by name; empty for most updates.
    overlap: mean IoU of boxes with the best anchor, None where there are too few of either.
    """

    plan: Plan
    past: Sequence[float]
    gradient: Row
    pull: Row
    fresh: frozenset[int] = frozenset()
    figures: Mapping[str, Row] = field(default_factory=dict)
    overlap: float | None = None
    averages: tuple[float, float] = (math.nan, math.nan)

    @property
    def is_burning_in(self) -> bool:
        """True while the rate is still rising."""
        return self.batch_num < self.plan.net.burn_in

    def row(self, name: str) -> Row:
        return self.figures.get(name, {})


@dataclass(frozen=True, kw_only=True, slots=True)
class Symptom:
    """hints: what to do, in the order in which causes are to be looked for: data, rates, operations, details.

    cause: the first place to look for one.
    looks: consecutive measurements that must show it; a single one may be chance.
    """

    hints: ClassVar[tuple[str, ...]] = ()
    cause: ClassVar[Cause] = Cause.OPERATIONS
    needs_figures: ClassVar[bool] = False  # true if it needs measurements of the layers

    looks: int = 1

    @property
    def name(self) -> str:
        return type(self).__name__

    def can_tell(self, look: ObservedUpdate) -> bool:
        """True if the update has the measurements that the symptom needs."""
        return bool(look.figures) or not self.needs_figures

    def wants_layers(self, norm: float, reach: float, past: Sequence[float]) -> bool:
        """True if the symptom needs the gradients of each layer of an update.

        norm: of all its gradients. reach: more than rate times gradient can be beside the weights of any layer.
        """
        return False

    def findings(self, look: ObservedUpdate) -> Iterator[Finding]:
        """A finding for each layer where it shows now, the most important first.

        None here: some symptoms are checked before the update instead, or in each minibatch.
        """
        return iter(())

    def at(self, look: ObservedUpdate, index: int | None, message: str) -> Finding:
        return self.finding(look.plan, look.batch_num, index, message)

    def finding(self, plan: Plan, batch_num: int, index: int | None, message: str) -> Finding:
        """Finding at a layer; index: None for no single layer."""
        return Finding(
            name=self.name,
            message=message,
            cause=self.cause,
            location=Location() if index is None else plan.locate(index),
            hints=self.hints,
            batch_num=batch_num,
        )
