"""Base class of layers with a loss, which compute their own gradient, as darknet's do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from darkpy.config.net import NetSpec
from darkpy.distributed import SINGLE_PROCESS, ProcessGroup
from darkpy.errors import ShapeError
from darkpy.layers.base import LayerSpec
from darkpy.layers.delta_filter import DeltaFilter
from darkpy.shapes import Shape

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
    """Format a mean as darknet's %f; `-` for a count of 0, where darknet prints -nan."""
    return f"{float(total) / float(count):f}" if count else "-"
