"""Symptoms that show in gradients and in the updates made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import ClassVar

from darkpy.diagnostics.monitor.symptom import ObservedUpdate, Symptom
from darkpy.finding import Cause, Finding

_LEAST_PAST = 20  # updates without which nothing is known of what is usual


@dataclass(frozen=True, kw_only=True, slots=True)
class Exploding(Symptom):
    """Gradients are so large that the next update does not improve the weights but replaces them.

    ratio: of rate times gradient to weights. 0.001 is usual, at 1 an update is as large as what it should improve.
    times: how many times the median of the last updates a norm is too large; a hard minibatch makes it 10 times so.
    """

    cause: ClassVar[Cause] = Cause.RATES
    hints: ClassVar[tuple[str, ...]] = (
        "data: look for the images and labels of these updates (darkpy doctor CFG DATA WEIGHTS)",
        "rates: a smaller learning_rate, a longer burn_in, a larger batch",
        "operations: batch_normalize=1, constrain=1, grad_clip_norm=10",
        "details: init=, pretrained weights",
    )

    ratio: float = 1.0
    times: float = 100.0

    def wants_layers(self, norm: float, reach: float, past: Sequence[float]) -> bool:
        return reach > self.ratio or (len(past) >= _LEAST_PAST and norm > self.times * median(past))

    def findings(self, look: ObservedUpdate) -> Iterator[Finding]:
        # what Adam adds to the weights is not rate times gradient, and known only where the layers were looked at
        ratios, what = (look.row("ratio"), "a step") if look.plan.net.adam else (look.pull, "rate x gradient")
        index, ratio = max(ratios.items(), key=lambda item: item[1], default=(None, 0.0))
        if ratio > self.ratio:
            yield self.at(look, index, f"{what} is {ratio:.3g} times as large as the weights (0.001 is usual)")
        elif len(look.past) >= _LEAST_PAST and look.norm > self.times * median(look.past) > 0:
            worst = max(look.gradient.items(), key=lambda item: item[1], default=(None, 0.0))
            usual = median(look.past)
            yield self.at(
                look, worst[0], f"the norm of all gradients is {look.norm:.3g}; {usual:.3g} was usual until now"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Vanishing(Symptom):
    """Nearly nothing of the gradient comes through to a layer: it stays as it was initialized.

    ratio: how much smaller, beside its weights, a layer's gradient is than the largest one. Layers of networks that
        learn differ by up to 10000 times; below a millionth the largest layer's steps move it by less than rounding.
    """

    needs_figures: ClassVar[bool] = True
    hints: ClassVar[tuple[str, ...]] = (
        "rates: they do not help, the layers behind would explode",
        "operations: batch_normalize=1; activation=leaky or relu in place of logistic and tanh; [shortcut] past blocks",
        "details: init=msra or init=xavier; fewer layers",
    )

    looks: int = 3
    ratio: float = 1e-6

    def findings(self, look: ObservedUpdate) -> Iterator[Finding]:
        if not look.rate:
            return
        largest = max(look.pull.values(), default=0.0)
        for index, pull in look.pull.items():
            if pull < self.ratio * largest:
                yield self.at(
                    look, index, f"its gradient, beside its weights, is {pull / largest:.1g} of the largest layer's"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class ClampSaturated(Symptom):
    """The delta constraint clamps most of what passes it: of the gradient little but the sign is left.

    share: of the deltas at a layer that lie beyond the bound. The constraint is there for the few that are far out.
    """

    needs_figures: ClassVar[bool] = True
    hints: ClassVar[tuple[str, ...]] = (
        "data: boxes or labels that cannot be learned keep deltas large",
        "rates: none; the clamp acts before them",
        "operations: a larger constrain= in [net] or in the section, constrain=0 with grad_clip_norm=10 instead",
        "details: a smaller minibatch does not help, deltas are per image",
    )

    looks: int = 3
    share: float = 0.5

    def findings(self, look: ObservedUpdate) -> Iterator[Finding]:
        deltas = look.row("delta")
        for index, share in look.row("clamped").items():
            if share > self.share:
                yield self.at(look, index, f"{share:.0%} of its deltas are clamped, the largest is {deltas[index]:.3g}")


@dataclass(frozen=True, kw_only=True, slots=True)
class StuckRate(Symptom):
    """Updates change nothing: the rate is 0, or so small that float32 rounds the steps away.

    ratio: of a step to the weights. Half the distance between two float32 numbers, 6e-8, is what rounding swallows.
    """

    needs_figures: ClassVar[bool] = True
    cause: ClassVar[Cause] = Cause.RATES
    hints: ClassVar[tuple[str, ...]] = (
        "rates: learning_rate, burn_in, policy= with its steps=, scales= and max_batches=; learning_rate= in sections",
        "operations: stopbackward=, dont_update= and train_only_bn= freeze layers",
    )

    looks: int = 3
    ratio: float = 6e-8

    def can_tell(self, look: ObservedUpdate) -> bool:
        return not look.is_burning_in and (not look.rate or bool(look.figures))

    def findings(self, look: ObservedUpdate) -> Iterator[Finding]:
        if not look.rate:
            yield self.at(look, None, f"the rate is 0 (policy={look.plan.net.policy}): nothing is learned any more")
            return
        ratios = look.row("ratio")
        if ratios and max(ratios.values()) < self.ratio:
            text = f"at rate {look.rate:.3g} the largest step of any layer is {max(ratios.values()):.1g} of its weights"
            yield self.at(look, None, f"{text}: float32 rounds it away")


@dataclass(frozen=True, kw_only=True, slots=True)
class OverfitHead(Symptom):
    """Layers that were frozen begin to learn, and get a gradient for which they are not ready.

    What was trained alone before, the head mostly, has adapted to them as they were; and the gradients of an update
    that was put off by dont_update= or burnin_update= have piled up.
    times: how many times the median until then the norm of all gradients is.
    """

    hints: ClassVar[tuple[str, ...]] = (
        "data: more of it, or more augmentation, while only the head learns",
        "rates: unfreeze at a smaller rate, or with a burn_in of its own; a smaller learning_rate= in these sections",
        "operations: unfreeze earlier (stopbackward=, dont_update=, burnin_update=), before the head overfits;"
        " grad_clip_norm=10 for the updates in which put off gradients arrive",
    )

    times: float = 10.0

    def findings(self, look: ObservedUpdate) -> Iterator[Finding]:
        if not look.fresh or len(look.past) < 2:
            return
        usual = median(look.past)
        if look.norm > self.times * usual > 0:
            index = max(look.fresh, key=lambda one: look.gradient.get(one, 0.0))
            text = f"begins to learn, and the norm of all gradients is {look.norm:.3g} where it was {usual:.3g}"
            yield self.at(look, index, text)
