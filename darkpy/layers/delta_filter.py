"""What [net] throws out of the [yolo] layers' deltas towards the end of a training."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from darkpy.config.net import NetSpec
from darkpy.distributed import SINGLE_PROCESS, ProcessGroup

_SLOW = 0.99  # of a rolling value, what stays in each minibatch
_STEP = 0.01  # by which the bound of badlabels_rejection_percentage moves
_EVEN = 1.4


@dataclass(slots=True)
class DeltaFilter:
    """Rolling figures of all deltas that are not 0, which the [yolo] layers of a network share.

    largest, average: of their sizes. deviation: of their values from `average`. bound: what may be rejected is larger.
    Source:  AlexeyAB/darknet src/yolo_layer.c forward_yolo_layer
    Differs: a minibatch without deltas changes nothing; darknet's average is NaN from then on.
    """

    largest: float = 0.0
    average: float = 0.0
    deviation: float = 0.0
    bound: float = 0.0

    def apply(
        self, delta: Tensor, entries: int, net: NetSpec, updates: int, process_group: ProcessGroup = SINGLE_PROCESS
    ) -> None:
        """Set deltas to 0: the largest, from three quarters of the training on, for their labels may be bad
        (`num_sigmas_reject_badlabels`, `badlabels_rejection_percentage`), and the smallest after `equidistant_point`.

        entries: numbers of one prediction. updates: those done so far. ranks: that share the minibatch.
        """
        start = net.max_batches * 3 // 4
        rejects = updates > start and (net.num_sigmas_reject_badlabels or net.badlabels_rejection_percentage)
        evens = net.equidistant_point and updates > net.equidistant_point
        if not (rejects or evens):
            return
        size = delta.abs()
        count, total = _total(process_group, (size > 0).sum(), size.sum())
        if not count:
            return
        progress = (updates - net.equidistant_point) / max(1, net.max_batches - net.equidistant_point)
        least = self.average * progress * _EVEN
        largest = float(process_group.max_(size.max()))
        self.largest = _roll(self.largest or largest, largest)
        self.average = _roll(self.average, total / count)
        if rejects and net.num_sigmas_reject_badlabels:
            final = self.average + self.deviation * net.num_sigmas_reject_badlabels
            self._reject_far(delta, final, (updates - start) / max(1, start), process_group)
            least = min(final, self.average) * progress
        if rejects and net.badlabels_rejection_percentage:
            self._reject_share(delta, entries, net.badlabels_rejection_percentage, process_group)
        if evens:
            delta.masked_fill_(delta.abs() < least, 0.0)

    def _reject_far(self, delta: Tensor, final: float, progress: float, process_group: ProcessGroup) -> None:
        """What lies beyond a bound that comes down from the largest delta to `final`."""
        is_some = delta != 0
        away = delta[is_some] - self.average
        count, total = _total(process_group, is_some.sum(), away.square().sum())
        self.deviation = _roll(self.deviation, math.sqrt(total / count))
        bound = max(final, self.largest - progress * abs(self.largest - final))
        delta.masked_fill_(delta.abs() > bound, 0.0)

    def _reject_share(self, delta: Tensor, entries: int, percentage: float, process_group: ProcessGroup) -> None:
        """What lies beyond a bound that moves until this share of predictions lies there."""
        self.bound = self.bound or self.largest
        is_far = delta.abs() > self.bound
        far, count = _total(process_group, is_far.sum(), (delta != 0).sum())
        percent = 100 * entries * far / max(1, count)
        delta.masked_fill_(is_far, 0.0)
        if percent > percentage:
            self.bound += _STEP
        elif self.bound > _STEP:
            self.bound -= _STEP


def _total(process_group: ProcessGroup, *counted: Tensor) -> list[float]:
    """The sums over all ranks."""
    totals: list[float] = process_group.sum_(torch.stack([one.double() for one in counted])).tolist()
    return totals


def _roll(value: float, now: float) -> float:
    return _SLOW * value + (1 - _SLOW) * now
