"""Symptoms that show in what layers put out, and in the images they get."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from darkpy.diagnostics.monitor.probes import INPUT_INDEX
from darkpy.diagnostics.monitor.symptom import ObservedUpdate, Symptom
from darkpy.finding import Finding
from darkpy.layers.head import HeadSpec
from darkpy.ops.norms import NORM_EPS


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadUnits(Symptom):
    """Units put out the same number whatever they see: nothing is learned through them any more.

    share: of a layer's units. Some die in every network with relu; with half of them gone the layer is too narrow.
    """

    needs_figures: ClassVar[bool] = True
    hints: ClassVar[tuple[str, ...]] = (
        "data: none, unless all images look alike",
        "rates: a smaller learning_rate from weights of before they died; units do not come back",
        "operations: activation=leaky in place of relu; batch_normalize=1",
        "details: init=msra; biases that are far below 0 in the weights it starts from",
    )

    share: float = 0.5

    def findings(self, look: ObservedUpdate) -> Iterator[Finding]:
        for index, share in look.row("dead").items():
            if share > self.share:
                yield self.at(look, index, f"{share:.0%} of its units put out one number whatever they see")


@dataclass(frozen=True, kw_only=True, slots=True)
class ActivationRange(Symptom):
    """Outputs are very large. They grow from layer to layer until the loss overflows.

    largest: of a layer's outputs. Normalized layers stay below 100; squares of 10000 take 8 of float32's 7 digits.
    largest_input: of the images. darknet's are 0..1, and within +-10 with mean= and std=; 0..255 were not divided.
    """

    needs_figures: ClassVar[bool] = True
    hints: ClassVar[tuple[str, ...]] = (
        "data: images of 0..1 (darknet's), or mean= and std= in [net]",
        "rates: a smaller learning_rate, more decay",
        "operations: batch_normalize=1 in this layer and those before it; [l2norm] behind a [maxpool]",
        "details: init=",
    )

    looks: int = 2
    largest: float = 1e4
    largest_input: float = 20.0

    def findings(self, look: ObservedUpdate) -> Iterator[Finding]:
        low, high = look.row("low"), look.row("high")
        for index in low:
            largest = self.largest_input if index == INPUT_INDEX else self.largest
            if max(-low[index], high[index]) > largest:
                what = "the images' numbers" if index == INPUT_INDEX else "its outputs"
                yield self.at(
                    look,
                    None if index == INPUT_INDEX else index,
                    f"{what} go from {low[index]:.4g} to {high[index]:.4g}",
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class VarianceCollapse(Symptom):
    """Channels under batch norm are as good as constant: their noise is blown up to the size of a signal.

    Its variance is smaller than the 1e-5 that batch norm adds to it before it divides.
    share: of a layer's channels. Networks of the zoo that have been trained for long have up to 3 of 10.
    minibatches: from which on a rolling variance, which starts at 0 and moves by a hundredth, tells of the channel.
    """

    needs_figures: ClassVar[bool] = True
    hints: ClassVar[tuple[str, ...]] = (
        "data: images, or parts of them, that are all alike; a minibatch of 1 or 2 (batch / subdivisions)",
        "rates: a smaller learning_rate, less decay on weights that have gone to 0",
        "operations: group_normalize=G in place of batch_normalize=1 for small minibatches",
        "details: scales or weights of the channel that are 0 in the weights it starts from",
    )

    share: float = 0.5
    minibatches: int = 50

    def findings(self, look: ObservedUpdate) -> Iterator[Finding]:
        if look.seen < self.minibatches * look.plan.net.minibatch:
            return
        for index, share in look.row("collapsed").items():
            if share > self.share:
                smallest = look.row("variance")[index]
                text = f"the rolling variance of {share:.0%} of its channels is below {NORM_EPS:g}"
                yield self.at(look, index, f"{text}, the smallest is {smallest:.3g}")


@dataclass(frozen=True, kw_only=True, slots=True)
class AnchorMismatch(Symptom):
    """The boxes of the data have other sizes than the anchors: few are matched, and those with large deltas.

    overlap: of a box and the anchor that suits it best, on average. k-means reaches 0.6 and more with 9 anchors;
        anchors that are 1.7 times too large in both directions reach 0.35.
    """

    hints: ClassVar[tuple[str, ...]] = (
        "data: labels in fractions of the image; width= and height= of [net] that the anchors were made for",
        "operations: anchors= of `darkpy anchors DATA` for this width and height, in every head; mask=",
    )

    overlap: float = 0.35

    def findings(self, look: ObservedUpdate) -> Iterator[Finding]:
        if look.overlap is not None and look.overlap < self.overlap:
            heads = [node.index for node in look.plan.nodes if isinstance(node.spec, HeadSpec)]
            text = f"boxes overlap with the anchor that suits them best by {look.overlap:.0%} on average"
            yield self.at(look, heads[0] if heads else None, f"{text}: the anchors are of other sizes")
