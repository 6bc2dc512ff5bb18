"""Symptoms that refuse an update, NaN and loss spikes, and an average loss that diverges or stands."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import ClassVar

from darkpy.build import Plan
from darkpy.diagnostics.checks.weights import MAX_WEIGHT
from darkpy.diagnostics.monitor.root_cause import RootCause
from darkpy.diagnostics.monitor.symptoms import ObservedUpdate, Symptom
from darkpy.finding import Cause, Finding
from darkpy.layers.loss import LossSpec

EARLY_LOSSES = 3
"""Losses needed to know the usual level."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NonFinite(Symptom):
    """A loss, an output, a gradient or a weight is NaN or infinite. One number suffices: there are no thresholds."""

    cause: ClassVar[Cause] = Cause.RATES

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
class RuinedWeights(Symptom):
    """Weights are so large, or most images' losses so often non-finite, that no image is to blame and none is ranked.

    largest: of the weights. share: of the images of a refused minibatch.
    """

    cause: ClassVar[Cause] = Cause.RATES
    hints: ClassVar[tuple[str, ...]] = ("continue from earlier weights, these cannot be repaired",)

    largest: float = MAX_WEIGHT
    share: float = 0.5

    def diagnose(self, plan: Plan, batch_num: int, root_cause: RootCause) -> Finding | None:
        """None if the weights of a refused update are not ruined, or an image of it has a fault of its own."""
        samples = root_cause.samples
        if root_cause.arrays is not None or any(sample.fault for sample in samples):
            return None
        index, largest = root_cause.largest_weight
        lost = sum(not math.isfinite(sample.loss) for sample in samples)
        if largest > self.largest:
            text = f"the weights are ruined: they are as large as {largest:.3g}"
        elif lost > self.share * len(samples):
            index = root_cause.forward
            text = f"the weights are ruined: {lost} of {len(samples)} images have a loss that is NaN or infinite"
        else:
            return None
        return self.finding(plan, batch_num, index, f"{text}. The images are not ranked")


@dataclass(frozen=True, kw_only=True, slots=True)
class LossSpike(Symptom):
    """The loss of a minibatch jumps far above all of the last ones.

    times: factor over the largest of the last `window` losses, which healthy runs seldom exceed by half.
    least: losses needed to know the usual level: until then `early_times` applies, from the third loss on. A loss below
        the median of these first losses is not a spike, either: a well-trained network may be worse for a moment.
    in_a_row: spikes after which the weights are the cause, not the images; then minibatches are accepted again.
    """

    cause: ClassVar[Cause] = Cause.RATES

    times: float = 10.0
    window: int = 100
    least: int = 20
    in_a_row: int = 3
    early_times: float = 100.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Diverging(Symptom):
    """The average loss rises step by step to many times its minimum: the updates are the cause, not an image.

    times: factor over the lowest average. Random sizes, mosaics and the end of a burn-in change it by a smaller factor.
    share: of the first average, below which the factor is ignored: an overfitted network soon gets a little worse.
    """

    hints: ClassVar[tuple[str, ...]] = (
        "labels that contradict each other: darkpy doctor CFG DATA WEIGHTS, with earlier weights",
    )

    repeat_updates: ClassVar[int] = 25

    times: float = 5.0
    share: float = 0.25

    def findings(self, update: ObservedUpdate) -> Iterator[Finding]:
        if self.is_diverging(update.average, update.averages):
            lowest = update.averages[1]
            yield self.at(update, None, f"the average loss has risen to {update.average:.4g} from {lowest:.4g}")

    def is_diverging(self, average: float, averages: tuple[float, float]) -> bool:
        """True if the average loss has risen so far. averages: the first one and the lowest, NaN and infinite yet."""
        first, lowest = averages
        return average > max(self.times * lowest, self.share * first)


@dataclass(frozen=True, kw_only=True, slots=True)
class StandingLoss(Symptom):
    """The loss is stuck: a classifier's at ln(classes), that of equal scores; a detector finds no object.

    updates: number after the burn-in over which it is stuck; for classifiers at least the number of classes. A
        detector's loss is compared with that of as many updates before.
    margin: relative change of a stuck loss. objectness: mean at objects, above which a detector has learned.
    step_ratio: rate times gradient over weights, below which nothing is learned, at a rate that is still high.
    """

    cause: ClassVar[Cause] = Cause.RATES
    hints: ClassVar[tuple[str, ...]] = ("darkpy doctor CFG DATA: labels that do not belong to their images",)

    updates: int = 150
    margin: float = 0.03
    objectness: float = 0.1
    step_ratio: float = 1e-5

    def can_tell(self, update: ObservedUpdate) -> bool:
        return bool(update.figures) and len(update.losses) >= self.updates

    def findings(self, update: ObservedUpdate) -> Iterator[Finding]:
        specs = [(node.spec, node.shape) for node in update.plan.nodes if isinstance(node.spec, LossSpec)]
        classes = specs[0][0].choices(specs[0][1]) if len(specs) == 1 else 0
        losses = update.losses
        if classes > 1:
            count = max(self.updates, classes)
            loss, guess = sum(losses[-count:]) / count, math.log(classes)
            if len(losses) >= count and abs(loss - guess) < self.margin * guess:
                text = (
                    f"the loss is stuck at {loss:.4g}, which is ln({classes}): all {classes} classes are equally likely"
                )
                yield self.at(update, None, f"{text} to the network")
        elif len(losses) >= 2 * self.updates and (update.objectness < self.objectness or self._is_idle(update)):
            before = sum(losses[-2 * self.updates : -self.updates]) / self.updates
            loss = sum(losses[-self.updates :]) / self.updates
            if abs(loss - before) < self.margin * before:
                text = f"the loss is stuck at {loss:.4g}, it was {before:.4g} {self.updates} updates ago"
                yield self.at(update, None, f"{text}; objects have an objectness of {update.objectness:.2g}")

    def _is_idle(self, update: ObservedUpdate) -> bool:
        ratio = max(update.step_ratio.values(), default=0.0)
        return ratio < self.step_ratio and update.rate > update.plan.net.learning_rate / 2


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
        symptom, window = self.symptom, self.symptom.window
        times = symptom.times if len(self.last) >= symptom.least else symptom.early_times
        is_known = len(self.last) >= EARLY_LOSSES and max(self.last) > 0
        if is_known and loss > max(times * max(self.last), median(self.first)):
            self.spikes += 1
            if self.spikes <= symptom.in_a_row:
                return True
            self.last.clear()
            self.gave_up = True
        self.spikes = 0
        self.last.append(loss)
        if len(self.last) > window:
            self.last.popleft()
        if len(self.first) < symptom.least:
            self.first.append(loss)
        return False

    def blames_images(self, loss: float, root_cause: RootCause) -> bool:
        """True if the better half of the minibatch alone would be no spike, or an image has a fault of its own."""
        losses = [sample.loss for sample in root_cause.samples]  # the worst first
        if any(sample.fault for sample in root_cause.samples) or not losses:
            return bool(losses)
        return loss * 2 * sum(losses[len(losses) // 2 :]) / sum(losses) < self.symptom.times * max(self.last)

    def text(self, loss: float, root_cause: RootCause | None) -> str:
        """Message about a spike."""
        usual = max(self.last, default=math.nan)
        text = f"the loss is {loss:.4g}; {usual:.4g} was the largest of the last {len(self.last)} minibatches"
        if root_cause is None or not root_cause.samples:
            return text
        if not self.blames_images(loss, root_cause):
            return f"{text}; all images are about as bad, because of the last updates"
        worst = root_cause.samples[0]
        others = median(sample.loss for sample in root_cause.samples)
        return f"{text}; the worst image is {worst.name} ({worst.loss:.4g}, the median {others:.4g})"
