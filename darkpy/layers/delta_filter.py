"""Rejection of [yolo] deltas towards the end of a training: the largest (bad labels), and the smallest.

Keys of [net]: num_sigmas_reject_badlabels, badlabels_rejection_percentage, equidistant_point.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from darkpy.config.net import NetSpec
from darkpy.distributed import SINGLE_PROCESS, ProcessGroup

_ROLLING_DECAY = 0.99  # of the rolling statistics, per minibatch
_BOUND_STEP = 0.01  # by which the bound of badlabels_rejection_percentage moves per minibatch
_EQUIDISTANT_FACTOR = 1.4  # darknet's; of the rolling average, at the end of the training


@dataclass(slots=True)
class DeltaFilter:
    """Rolling statistics of all nonzero deltas, shared by the [yolo] layers of a network.

    largest, average: of the absolute deltas. deviation: root mean square distance of the signed deltas from `average`.
    bound: of badlabels_rejection_percentage; larger deltas are rejected.
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
        """Set deltas to 0 in place: the largest (probably bad labels) in the last quarter of the training, and the
        smallest after `equidistant_point`.

        entries: channels of one prediction. updates: done so far. process_group: processes that share the minibatch.
        """
        start = net.max_batches * 3 // 4
        rejects = updates > start and (net.num_sigmas_reject_badlabels or net.badlabels_rejection_percentage)
        drops_smallest = net.equidistant_point and updates > net.equidistant_point
        if not (rejects or drops_smallest):
            return
        size = delta.abs()
        count, total = _total(process_group, (size > 0).sum(), size.sum())
        if not count:
            return
        # from 0 at equidistant_point to 1 at max_batches
        progress = (updates - net.equidistant_point) / max(1, net.max_batches - net.equidistant_point)
        # by the average of the minibatches before: darknet takes it before it rolls this one in
        smallest = self.average * progress * _EQUIDISTANT_FACTOR
        largest = float(process_group.max_(size.max()))
        self.largest = _roll(self.largest or largest, largest)
        self.average = _roll(self.average, total / count)
        if rejects and net.num_sigmas_reject_badlabels:
            final = self.average + self.deviation * net.num_sigmas_reject_badlabels
            # darknet divides by `start`, not by what is left: from 0 to 1/3
            self._reject_outliers(delta, final, (updates - start) / max(1, start), process_group)
            smallest = min(final, self.average) * progress
        if rejects and net.badlabels_rejection_percentage:
            self._reject_share(delta, entries, net.badlabels_rejection_percentage, process_group)
        if drops_smallest:
            delta.masked_fill_(delta.abs() < smallest, 0.0)

    def _reject_outliers(self, delta: Tensor, final: float, progress: float, process_group: ProcessGroup) -> None:
        """Reject deltas beyond a bound that falls from the largest delta towards `final` with `progress`."""
        is_nonzero = delta != 0
        distance = delta[is_nonzero] - self.average
        count, total = _total(process_group, is_nonzero.sum(), distance.square().sum())
        self.deviation = _roll(self.deviation, math.sqrt(total / count))
        bound = max(final, self.largest - progress * abs(self.largest - final))
        delta.masked_fill_(delta.abs() > bound, 0.0)

    def _reject_share(self, delta: Tensor, entries: int, percentage: float, process_group: ProcessGroup) -> None:
        """Reject deltas beyond a bound that moves until `percentage` of the predictions exceeds it."""
        self.bound = self.bound or self.largest
        exceeds = delta.abs() > self.bound
        exceeding, count = _total(process_group, exceeds.sum(), (delta != 0).sum())
        percent = 100 * entries * exceeding / max(1, count)
        delta.masked_fill_(exceeds, 0.0)
        if percent > percentage:
            self.bound += _BOUND_STEP
        elif self.bound > _BOUND_STEP:
            self.bound -= _BOUND_STEP


def _total(process_group: ProcessGroup, *values: Tensor) -> list[float]:
    """Sum each value over all processes."""
    totals: list[float] = process_group.sum_(torch.stack([value.double() for value in values])).tolist()
    return totals


def _roll(value: float, now: float) -> float:
    return _ROLLING_DECAY * value + (1 - _ROLLING_DECAY) * now
