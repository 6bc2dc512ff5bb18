"""Symptoms that refuse an update, NaN and loss spikes, and a diverging average loss.

Source: hints are in the order in which causes are mostly found: data, rates, operations, details.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import ClassVar

from darkpy.build import Plan
from darkpy.diagnostics.monitor.root_cause import RootCause
from darkpy.diagnostics.monitor.symptoms import ObservedUpdate, Symptom
from darkpy.finding import Cause, Finding


@dataclass(frozen=True, kw_only=True, slots=True)
class NonFinite(Symptom):
    """A loss, an output, a gradient or a weight is NaN or infinite. One number suffices: there are no thresholds."""

    cause: ClassVar[Cause] = Cause.DATA
    hints: ClassVar[tuple[str, ...]] = (
        "data: the images and labels in the evidence folder",
        "rates: a smaller learning_rate, a longer burn_in",
        "operations: batch_normalize=1, constrain=1, grad_clip_norm=10",
        "details: init=, pretrained weights, eps= with adam=1",
    )

    def diagnose(self, plan: Plan, batch_num: int, root_cause: RootCause, guilty: Sequence[str]) -> Finding:
        """Name the cause as far as it is known, then where it is seen first in both passes.

        guilty: what is wrong with images, the worst first.
        """
        index: int | None = None
        if root_cause.arrays is not None:
            index, name, count = root_cause.arrays
            text = f"{count} of its {name} are NaN or infinite"
        elif guilty:
            text = guilty[0]
        elif root_cause.forward is not None:
            index, text = root_cause.forward, "its outputs are not finite although its inputs and arrays are: too large"
        elif root_cause.loss is not None:
            index, text = root_cause.loss, "its loss is not finite although its input is"
        elif root_cause.backward is not None:
            index, text = root_cause.backward, "its delta is not finite although the loss is"
        elif root_cause.gradient is not None:
            index = root_cause.gradient
            text = "its gradients (or their norm) are not finite although its delta is"
        else:
            text = "the norm of all gradients is not finite"
        first_places = [
            f"{what} of {plan.place(first)}"
            for what, first in (
                ("in the forward pass in the output", root_cause.forward),
                ("in the backward pass in the delta", root_cause.backward),
                ("in the gradients", root_cause.gradient),
            )
            if first is not None
        ]
        if first_places:
            text += f"; first seen {', '.join(first_places)}"
        return self.finding(plan, batch_num, index, text)


@dataclass(frozen=True, kw_only=True, slots=True)
class LossSpike(Symptom):
    """The loss of a minibatch jumps far above all of the last ones.

    times: how many times the largest of the last `window` losses. The largest of a hundred is seldom outdone by half;
        an image that is ten times as bad as a hundred others together is no image like them.
    least: losses without which nothing is known of what is usual. A loss below the median of the first so many is no
        spike either: what has been learned well may be forgotten for a moment.
    in_a_row: spikes after which it is not the images but the weights; then minibatches pass again.
    """

    cause: ClassVar[Cause] = Cause.DATA
    hints: ClassVar[tuple[str, ...]] = (
        "data: the images in the evidence folder, the worst first: are their labels right?",
        "rates: a smaller learning_rate, a larger batch",
        "operations: grad_clip_norm=10, constrain=1, batch_normalize=1",
        "details: ignore_thresh=, max_delta= of the heads",
    )

    times: float = 10.0
    window: int = 100
    least: int = 20
    in_a_row: int = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Diverging(Symptom):
    """The average loss rises step by step to many times its lowest: no image is to blame, the updates are.

    times: above the lowest average. Random sizes, mosaics and a burn-in that ends move it, not fivefold.
    share: of the first average, below which it may do so: what has been learned to the last image is soon a little
        wrong again.
    """

    hints: ClassVar[tuple[str, ...]] = (
        "data: labels that contradict each other (darkpy doctor CFG DATA WEIGHTS)",
        "rates: a learning_rate of a tenth, a longer burn_in, steps= that come earlier",
        "operations: grad_clip_norm=10, constrain=1, batch_normalize=1",
        "details: momentum=, init=, anchors=",
    )

    times: float = 5.0
    share: float = 0.25

    def findings(self, update: ObservedUpdate) -> Iterator[Finding]:
        first, lowest = update.averages
        if update.average > max(self.times * lowest, self.share * first):
            yield self.at(update, None, f"the average loss has risen to {update.average:.4g} from {lowest:.4g}")


@dataclass
class LossHistory:
    """The losses of minibatches that were let pass, and how many in a row were not."""

    symptom: LossSpike
    last: deque[float] = field(default_factory=deque)
    first: list[float] = field(default_factory=list)
    spikes: int = 0
    gave_up: bool = False  # after so many that they are let pass

    @classmethod
    def going_on(cls, symptom: LossSpike, memory: Mapping[str, Sequence[float]]) -> LossHistory:
        """Continue from the `memory` of another history."""
        last, first = memory.get("last", ()), memory.get("first", ())
        return cls(symptom, deque(last, symptom.window), list(first)[: symptom.least])

    def memory(self) -> dict[str, list[float]]:
        """State after an update, when the last loss was no spike."""
        return {"last": list(self.last), "first": list(self.first)}

    def is_spike(self, loss: float) -> bool:
        """True if the loss is a spike; other losses are added to the history."""
        least, window = self.symptom.least, self.symptom.window
        if len(self.last) >= least and loss > max(self.symptom.times * max(self.last), median(self.first)):
            self.spikes += 1
            if self.spikes <= self.symptom.in_a_row:
                return True
            self.last.clear()
            self.gave_up = True
        self.spikes = 0
        self.last.append(loss)
        if len(self.last) > window:
            self.last.popleft()
        if len(self.first) < least:
            self.first.append(loss)
        return False

    def text(self, loss: float, root_cause: RootCause | None) -> str:
        """Message about a spike."""
        usual = max(self.last, default=math.nan)
        text = f"the loss is {loss:.4g}; {usual:.4g} was the largest of the last {len(self.last)} minibatches"
        if root_cause is None or not root_cause.samples:
            return text
        worst = root_cause.samples[0]
        others = median(sample.loss for sample in root_cause.samples)
        return f"{text}; the worst image is {worst.name} ({worst.loss:.4g}, the median {others:.4g})"
