"""What a symptom is: something to see in the figures of an update, the layer where it is seen, and what helps.

A symptom is a frozen dataclass whose fields are its thresholds; what has been seen before is the watch's to remember.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from darkpy.build import Plan
from darkpy.finding import Cause, Finding, Location

Row = Mapping[int, float]
"""One number a layer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """An update as symptoms see it.

    loss: the mean cost of an image. norm: the 2-norm of all gradients. past: the norms of the updates before.
    average: the loss of the updates so far, as darknet averages it. averages: the first one that tells of more than a
        minibatch, and the lowest since then.
    gradient, pull: of each layer that took part, the 2-norm of its gradients, and how large those of its weights,
        times the rate, are beside the weights.
    fresh: layers that have not taken part until lately.
    seen: images trained on, before this run too. is_burning_in: whether the rate is still on its way up.
    figures: what the layers showed, by the figure's name; empty for most updates.
    overlap: by how much boxes overlap with the anchor that suits them best, None where there are too few of either.
    """

    plan: Plan
    batch_num: int
    seen: int
    rate: float
    loss: float
    norm: float
    past: Sequence[float]
    gradient: Row
    pull: Row
    fresh: frozenset[int] = frozenset()
    figures: Mapping[str, Row] = field(default_factory=dict)
    overlap: float | None = None
    average: float = math.nan
    averages: tuple[float, float] = (math.nan, math.nan)

    @property
    def is_burning_in(self) -> bool:
        return self.batch_num < self.plan.net.burn_in

    def row(self, name: str) -> Row:
        return self.figures.get(name, {})


@dataclass(frozen=True, kw_only=True, slots=True)
class Symptom:
    """hints: what to do, in the order in which causes are to be looked for: data, rates, operations, details.

    cause: the first place to look for one.
    looks: how many looks in a row must show it; a single one may be chance.
    """

    hints: ClassVar[tuple[str, ...]] = ()
    cause: ClassVar[Cause] = Cause.OPERATIONS
    needs_figures: ClassVar[bool] = False  # whether it shows only where the layers were looked at

    looks: int = 1

    @property
    def name(self) -> str:
        return type(self).__name__

    def can_tell(self, look: Look) -> bool:
        """Whether an update says anything about it."""
        return bool(look.figures) or not self.needs_figures

    def wants_layers(self, norm: float, reach: float, past: Sequence[float]) -> bool:
        """Whether the layers' gradients must be known of an update.

        norm: of all its gradients. reach: more than rate times gradient can be beside the weights of any layer.
        """
        return False

    def findings(self, look: Look) -> Iterator[Finding]:
        """A finding for each layer where it shows now, the most important first."""
        raise NotImplementedError

    def at(self, look: Look, index: int | None, message: str) -> Finding:
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
