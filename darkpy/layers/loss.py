"""Base class of layers with a loss, which compute their own gradient, as darknet's do.

Rejection of [yolo] deltas towards the end of a training: the largest (bad labels), and the smallest.

Keys of [net]: num_sigmas_reject_badlabels, badlabels_rejection_percentage, equidistant_point.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from darkpy.config.net import NetSpec
from darkpy.distributed import SINGLE_PROCESS, ProcessGroup
from darkpy.errors import ShapeError
from darkpy.layers.base import LayerSpec
from darkpy.shapes import Shape

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


MASKED_TRUTH = -1234  # darknet's SECRET_NUM: an element of the truth that is unknown


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Position of a training, and what its losses carry from one minibatch to the next.

    Units: `seen` counts images, this minibatch's included; `batch_num` counts updates, from 1; `updates` those done.
    process_group: the processes that share the minibatch.
    """

    net: NetSpec
    seen: int
    delta_filter: DeltaFilter = field(default_factory=DeltaFilter)
    process_group: ProcessGroup = SINGLE_PROCESS

    @property
    def batch_num(self) -> int:
        return self.seen // (self.net.minibatch * self.net.subdivisions)

    @property
    def updates(self) -> int:
        """Updates done so far: darknet's `cur_iteration`."""
        return (self.seen - 1) // (self.net.minibatch * self.net.subdivisions)


@dataclass(frozen=True, slots=True)
class Loss:
    """Delta and cost of a layer for one minibatch.

    delta: minus the gradient, summed over the minibatch, in the output's shape: darknet's `l.delta`.
    input_delta: the delta passed to the layer before; the same unless the layer's backward pass scales it.
    cost: the number that darknet averages into its printed loss; `delta` need not be its gradient.
    report: counts and sums for `log_line`, each a scalar tensor.
    means: names of the report's entries that are means over the minibatch rather than sums.
    """

    delta: Tensor
    input_delta: Tensor
    cost: Tensor
    report: Mapping[str, Tensor] = field(default_factory=dict)
    means: frozenset[str] = frozenset()

    def all_reduced(self, process_group: ProcessGroup) -> Loss:
        """Sum cost and report over the processes that share a minibatch; the deltas stay this process's own."""
        if process_group.is_alone:
            return self
        cost, *values = process_group.sum_(
            torch.stack([self.cost.double(), *(value.double() for value in self.report.values())])
        )
        report = {
            name: value / process_group.world_size if name in self.means else value
            for name, value in zip(self.report, values, strict=True)
        }
        return replace(self, cost=cost, report=report)


@dataclass(frozen=True, kw_only=True, slots=True)
class LossSpec(LayerSpec):
    """A section that compares its input with a truth."""

    truth_on_any_device: ClassVar[bool] = False  # the truth may be on another device than the network
    max_instances: ClassVar[int] = 0  # rows of a truth whose rows are the class and the mask of an instance

    @property
    def has_loss(self) -> bool:
        """True if it takes part in training: `noloss` and `onlyforward` switch its loss off."""
        return not self.onlyforward

    @property
    def compares_images(self) -> bool:
        """True if the delta of an image depends on the other images of its minibatch."""
        return False

    def truth_shape(self, output: Shape) -> tuple[int, ...]:
        """Shape of the truth of one image: (max, 5 or 6) boxes for most heads, the flat output by default."""
        return (output.outputs,)

    def row_sizes(self, output: Shape) -> tuple[int, ...]:
        """Allowed lengths of a row, for a truth of rows."""
        return self.truth_shape(output)[1:]

    def choices(self, output: Shape) -> int:
        """Number of classes, if the loss of equal scores is its logarithm; 0 for other losses."""
        return 0

    def check_truth(self, truth: Tensor, images: int, output: Shape) -> None:
        """Raises: ShapeError when the truth does not fit; the number of rows is free."""
        expected = self.truth_shape(output)
        if len(expected) == 2:
            fits = truth.dim() == 3 and truth.shape[2] in self.row_sizes(output)
        else:
            fits = truth.dim() >= 2 and truth[:1].numel() == expected[0]
        if not fits or len(truth) != images:
            sizes = " or ".join(map(str, self.row_sizes(output) if len(expected) == 2 else expected))
            rows = f"{expected[0]}, " if len(expected) == 2 else ""
            raise ShapeError(f"the truth is {tuple(truth.shape)}, [{self.type}] needs ({images}, {rows}{sizes})")

    def loss(self, input_BCHW: Tensor, output_BCHW: Tensor, truth: Tensor, state: TrainingState) -> Loss:
        """Compute delta and cost of a whole minibatch; the tensors carry no gradient.

        Shapes: truth is (B, *truth_shape).
        """
        raise NotImplementedError

    def log_line(self, index: int, loss: Loss) -> str:
        """darknet's log line of a minibatch for the layer `index`; empty for layers that print none."""
        return ""


def mean_text(total: Tensor, count: Tensor | int) -> str:
    """Format a mean as darknet's %f: -nan for a count of 0, which programs that read logs know."""
    return f"{float(total) / float(count):f}" if count else "-nan"
