"""Symptom: a sign of trouble in the measurements of an update, with the layer where it shows.

A symptom is a frozen dataclass whose fields are its thresholds; the monitor's History remembers earlier updates, and
`advice.advise` adds the remedies. First symptoms in outputs and images, then in gradients and updates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import ClassVar, cast

from darkpy.build import Plan
from darkpy.diagnostics.monitor.probes import INPUT_INDEX
from darkpy.finding import Cause, Finding, Location
from darkpy.layers.base import Layer
from darkpy.layers.head import HeadSpec
from darkpy.network import Network
from darkpy.ops.norms import NORM_EPS
from darkpy.training.reports import UpdateReport

REPEAT_AFTER_UPDATES = 1000
Row = Mapping[int, float]
"""One number a layer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObservedUpdate(UpdateReport):
    """An update with the measurements that symptoms need.

    past: norms of the updates before. averages: the first average loss over more than a minibatch, and the lowest.
    gradient: 2-norm of the gradients of each layer that took part. step_ratio: rate times the norm of the gradients
        of its weights, over the norm of these weights.
    new_layers: layers that take part only since a few updates.
    figures: measured values of the layers, by name; empty for most updates.
    overlap: mean IoU of boxes with the best anchor, None where there are too few of either.
    clipped: fraction of the gradients that grad_clip_norm leaves. losses: of the last updates after the burn-in, this
        one last. objectness: mean objectness where objects are, NaN for networks without.
    """

    plan: Plan
    past: Sequence[float]
    gradient: Row
    step_ratio: Row
    new_layers: frozenset[int] = frozenset()
    figures: Mapping[str, Row] = field(default_factory=dict)
    overlap: float | None = None
    averages: tuple[float, float] = (math.nan, math.nan)
    clipped: float = 1.0
    losses: Sequence[float] = ()
    objectness: float = math.nan

    @property
    def is_burning_in(self) -> bool:
        """True while the rate is still rising."""
        return self.batch_num < self.plan.net.burn_in

    def row(self, name: str) -> Row:
        return self.figures.get(name, {})


@dataclass(frozen=True, kw_only=True, slots=True)
class Symptom:
    """hints: what to look at besides the remedies of `advice.advise`.

    cause: the first place to look for one. repeat_updates: updates after which the same is reported again.
    looks: consecutive measurements that must show it; a single one may be chance.
    """

    hints: ClassVar[tuple[str, ...]] = ()
    cause: ClassVar[Cause] = Cause.OPERATIONS
    repeat_updates: ClassVar[int] = REPEAT_AFTER_UPDATES
    needs_figures: ClassVar[bool] = False  # true if it needs measurements of the layers

    looks: int = 1

    @property
    def name(self) -> str:
        return type(self).__name__

    def can_tell(self, update: ObservedUpdate) -> bool:
        """True if the update has the measurements that the symptom needs."""
        return bool(update.figures) or not self.needs_figures

    def wants_layers(self, norm: float, max_step_ratio: float, past: Sequence[float]) -> bool:
        """True if the symptom needs the gradients of each layer of an update.

        norm: of all its gradients. max_step_ratio: upper bound of rate times gradient over weights of any layer.
        """
        return False

    def findings(self, update: ObservedUpdate) -> Iterator[Finding]:
        """A finding for each layer where it shows now, the most important first.

        None here: some symptoms are checked before the update instead, or in each minibatch.
        """
        return iter(())

    def at(self, update: ObservedUpdate, index: int | None, message: str) -> Finding:
        return self.finding(update.plan, update.batch_num, index, message)

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


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadUnits(Symptom):
    """Units have a constant output for all inputs: nothing is learned through them any more.

    share: of a layer's units. Some die in every network with relu; with half of them gone the layer is too narrow.
    """

    needs_figures: ClassVar[bool] = True
    hints: ClassVar[tuple[str, ...]] = (
        "weights from before they died: units seldom recover",
        "biases far below 0 in the weights that the run starts from",
    )

    share: float = 0.5

    def findings(self, update: ObservedUpdate) -> Iterator[Finding]:
        for index, share in update.row("dead").items():
            if share > self.share:
                yield self.at(update, index, f"{share:.0%} of its units are dead: their output is constant")


@dataclass(frozen=True, kw_only=True, slots=True)
class ActivationRange(Symptom):
    """Outputs are very large. They grow from layer to layer until the loss overflows.

    largest: of a layer's outputs. Normalized layers stay below 100; squares of 10000 take 8 of float32's 7 digits.
    largest_input: of the images. darknet's are 0..1, and within +-10 with mean= and std=; 0..255 were not divided.
    """

    needs_figures: ClassVar[bool] = True
    hints: ClassVar[tuple[str, ...]] = ("pixel values of 0..1 (darknet's), for images of your own",)

    looks: int = 2
    largest: float = 1e4
    largest_input: float = 20.0

    def findings(self, update: ObservedUpdate) -> Iterator[Finding]:
        low, high = update.row("low"), update.row("high")
        for index in low:
            largest = self.largest_input if index == INPUT_INDEX else self.largest
            if max(-low[index], high[index]) > largest:
                what = "the images' values" if index == INPUT_INDEX else "its outputs"
                yield self.at(
                    update,
                    None if index == INPUT_INDEX else index,
                    f"{what} go from {low[index]:.4g} to {high[index]:.4g}",
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class VarianceCollapse(Symptom):
    """Channels before batch norm are almost constant: their noise is amplified to the size of a signal.

    Its variance is smaller than the 1e-5 that batch norm adds to it before it divides.
    share: of a layer's channels. Networks of the zoo that have been trained for long have up to 3 of 10.
    minibatches: number after which a rolling variance, which starts at 0 and moves by a hundredth, is meaningful.
    """

    needs_figures: ClassVar[bool] = True
    hints: ClassVar[tuple[str, ...]] = (
        "images, or parts of them, that are all identical",
        "channels whose scales or weights are 0 in the weights that the run starts from",
    )

    share: float = 0.5
    minibatches: int = 50

    def findings(self, update: ObservedUpdate) -> Iterator[Finding]:
        if update.seen < self.minibatches * update.plan.net.minibatch:
            return
        for index, share in update.row("collapsed").items():
            if share > self.share:
                smallest = update.row("variance")[index]
                text = f"the rolling variance of {share:.0%} of its channels is below {NORM_EPS:g}"
                yield self.at(update, index, f"{text}, the smallest is {smallest:.3g}")


@dataclass(frozen=True, kw_only=True, slots=True)
class FrozenNorm(Symptom):
    """Frozen batch norm has statistics that are 0: those of a new network, never loaded or learned."""

    hints: ClassVar[tuple[str, ...]] = ("weights that fill these layers, to start from",)

    def find(self, network: Network, batch_num: int) -> Finding | None:
        """Check a network in training, before the first update of a run."""
        layers: list[int] = []
        for node, module in zip(network.plan.nodes, network.layers, strict=True):
            layer = cast("Layer", module)
            is_frozen = not layer.training or getattr(layer, "freeze", "none") in ("stats", "all")
            statistics = [spec for spec in node.arrays if spec.is_statistic and spec.name.endswith("variance")]
            arrays = [layer.array(array_spec) for array_spec in statistics] if is_frozen else []
            if any(array is not None and not array.any() for array in arrays):
                layers.append(node.index)
        if not layers:
            return None
        others = f"; the same in layer {', '.join(map(str, layers[1:]))}" if layers[1:] else ""
        text = f"its frozen batch norm has a variance of 0 in every channel, it was never loaded{others}"
        return self.finding(network.plan, batch_num, layers[0], text)


@dataclass(frozen=True, kw_only=True, slots=True)
class AnchorMismatch(Symptom):
    """The boxes of the data have other sizes than the anchors: few are matched, and those with large deltas.

    overlap: mean IoU of a box and its best anchor. k-means reaches 0.6 and more with 9 anchors;
        anchors that are 1.7 times too large in both directions reach 0.35.
    """

    hints: ClassVar[tuple[str, ...]] = (
        "labels in fractions of the image",
        "darkpy anchors DATA --cfg CFG --write sets anchors= in every head",
    )

    overlap: float = 0.35

    def findings(self, update: ObservedUpdate) -> Iterator[Finding]:
        if update.overlap is not None and update.overlap < self.overlap:
            heads = [node.index for node in update.plan.nodes if isinstance(node.spec, HeadSpec)]
            text = f"boxes overlap with their best anchor by {update.overlap:.0%} on average"
            yield self.at(update, heads[0] if heads else None, f"{text}: the anchors are of other sizes")


_LEAST_PAST = 20  # updates needed to know the usual norm


@dataclass(frozen=True, kw_only=True, slots=True)
class Exploding(Symptom):
    """Gradients are so large that the next update does not improve the weights but replaces them.

    ratio: of rate times gradient to weights. 0.001 is usual, at 1 an update is as large as what it should improve.
    times: how many times the median of the last updates a norm is too large; a hard minibatch makes it 10 times so.
    """

    cause: ClassVar[Cause] = Cause.RATES

    ratio: float = 1.0
    times: float = 100.0

    def wants_layers(self, norm: float, max_step_ratio: float, past: Sequence[float]) -> bool:
        return max_step_ratio > self.ratio or (len(past) >= _LEAST_PAST and norm > self.times * median(past))

    def findings(self, update: ObservedUpdate) -> Iterator[Finding]:
        # what Adam adds to the weights is not rate times gradient, and known only where the layers were inspected
        ratios, what = (
            (update.row("ratio"), "a step") if update.plan.net.adam else (update.step_ratio, "rate x gradient")
        )
        index, ratio = max(ratios.items(), key=lambda item: item[1], default=(None, 0.0))
        if ratio > self.ratio:
            yield self.at(update, index, f"{what} is {ratio:.3g} times as large as the weights (0.001 is usual)")
        elif len(update.past) >= _LEAST_PAST and update.norm > self.times * median(update.past) > 0:
            worst = max(update.gradient.items(), key=lambda item: item[1], default=(None, 0.0))
            usual = median(update.past)
            yield self.at(
                update, worst[0], f"the norm of all gradients is {update.norm:.3g}; {usual:.3g} was usual until now"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Vanishing(Symptom):
    """The gradient hardly reaches a layer: it stays as it was initialized.

    ratio: of a layer's gradient, relative to its weights, to the largest one. Layers of networks that learn differ by
        up to 10000 times; below a millionth the largest layer's steps move it by less than rounding.
    """

    needs_figures: ClassVar[bool] = True
    hints: ClassVar[tuple[str, ...]] = ("[shortcut] past blocks of layers, or fewer layers",)

    looks: int = 3
    ratio: float = 1e-6

    def findings(self, update: ObservedUpdate) -> Iterator[Finding]:
        if not update.rate:
            return
        largest = max(update.step_ratio.values(), default=0.0)
        for index, step_ratio in update.step_ratio.items():
            if step_ratio < self.ratio * largest:
                yield self.at(
                    update,
                    index,
                    f"its gradient, relative to its weights, is {step_ratio / largest:.1g} of the largest layer's",
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class ClampSaturated(Symptom):
    """The delta constraint clamps most deltas: little of the gradient but its sign is left.

    share: of the deltas at a layer that exceed the bound. The constraint is meant for a few outliers.
    """

    needs_figures: ClassVar[bool] = True
    hints: ClassVar[tuple[str, ...]] = ("boxes or labels that cannot be learned keep deltas large",)

    looks: int = 3
    share: float = 0.5

    def findings(self, update: ObservedUpdate) -> Iterator[Finding]:
        deltas = update.row("delta")
        for index, share in update.row("clamped").items():
            if share > self.share:
                yield self.at(
                    update, index, f"{share:.0%} of its deltas are clamped, the largest is {deltas[index]:.3g}"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class StuckRate(Symptom):
    """Updates change nothing: the rate is 0, or so small that float32 rounds the steps away.

    ratio: of a step to the weights. Rounding drops up to half the distance between two float32 numbers, 6e-8.
    settled: updates before gradients are checked; dead units, which may be the cause, are known by then.
    """

    needs_figures: ClassVar[bool] = True
    cause: ClassVar[Cause] = Cause.RATES
    hints: ClassVar[tuple[str, ...]] = (
        "learning_rate=, burn_in=, policy= with its keys in [net]; learning_rate=, stopbackward= in sections",
    )

    looks: int = 3
    ratio: float = 6e-8
    settled: int = 8

    def can_tell(self, update: ObservedUpdate) -> bool:
        return not update.is_burning_in and (not update.rate or bool(update.figures))

    def findings(self, update: ObservedUpdate) -> Iterator[Finding]:
        if not update.rate:
            yield self.at(update, None, f"the rate is 0 (policy={update.plan.net.policy}): nothing is learned any more")
            return
        ratios = max(update.row("ratio").values(), default=math.inf), max(update.step_ratio.values(), default=0.0)
        if ratios[0] < self.ratio:
            size = f"{ratios[0]:.1g} of its weights: float32 rounds it away"
            yield self.at(update, None, f"at rate {update.rate:.3g} the largest step of any layer is {size}")
        elif ratios[1] < self.ratio and len(update.past) >= self.settled:
            text = f"rate x gradient is at most {ratios[1]:.1g} of the weights of any layer"
            yield self.at(update, None, f"{text}: " + ("only decay changes them" if update.norm else "all are frozen"))


@dataclass(frozen=True, kw_only=True, slots=True)
class OverfitHead(Symptom):
    """Frozen layers begin to learn with a large gradient.

    The layers trained before, the head mostly, have adapted to them; and the gradients of updates deferred by
    dont_update= or burnin_update= have accumulated.
    times: factor of the norm of all gradients over its median until then.
    """

    hints: ClassVar[tuple[str, ...]] = ("a learning_rate= below 1 in the sections that begin to learn",)

    times: float = 10.0

    def findings(self, update: ObservedUpdate) -> Iterator[Finding]:
        if not update.new_layers or len(update.past) < 2:
            return
        usual = median(update.past)
        if update.norm > self.times * usual > 0:
            index = max(update.new_layers, key=lambda one: update.gradient.get(one, 0.0))
            text = f"begins to learn, and the norm of all gradients is {update.norm:.3g} where it was {usual:.3g}"
            yield self.at(update, index, text)
