"""What the layers with a loss share: they write their gradient themselves, as darknet's do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch

from darkpy.config.net import NetSpec
from darkpy.distributed import SINGLE_PROCESS, ProcessGroup
from darkpy.errors import ShapeError
from darkpy.layers.base import LayerSpec
from darkpy.layers.delta_filter import DeltaFilter
from darkpy.shapes import Shape

MASKED_TRUTH = -1234  # a truth that says nothing


@dataclass(frozen=True, slots=True)
class TrainingState:
    """How far a training is, and what its losses remember of the minibatches before.

    Units: `seen` counts images, this minibatch's included; `batch_num` updates, from 1; `updates` those already done.
    ranks: that share the minibatch.
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
        """darknet's `cur_iteration`."""
        return (self.seen - 1) // (self.net.minibatch * self.net.subdivisions)


@dataclass(frozen=True, slots=True)
class Loss:
    """What a layer says of one minibatch.

    delta: minus the gradient, summed over the minibatch, of the output's shape: darknet's `l.delta`.
    input_delta: what the layer before receives of it; the same unless the layer's backward scales it.
    cost: the number darknet averages into its loss; a monitor, of which `delta` need not be the gradient.
    report: counts and sums for `log_line`, each a tensor of one number.
    means: those of the report that are no sums but means over the minibatch.
    """

    delta: torch.Tensor
    input_delta: torch.Tensor
    cost: torch.Tensor
    report: Mapping[str, torch.Tensor] = field(default_factory=dict)
    means: frozenset[str] = frozenset()

    def over(self, process_group: ProcessGroup) -> Loss:
        """With cost and report of the whole minibatch that these ranks share; the deltas stay those of this one."""
        if process_group.is_alone:
            return self
        cost, *said = process_group.sum_(
            torch.stack([self.cost.double(), *(one.double() for one in self.report.values())])
        )
        named = dict(zip(self.report, said, strict=True))
        report = {name: one / process_group.world_size if name in self.means else one for name, one in named.items()}
        return replace(self, cost=cost, report=report)


@dataclass(frozen=True, kw_only=True, slots=True)
class LossSpec(LayerSpec):
    """A section that compares its input with a truth."""

    truth_on_any_device: ClassVar[bool] = False  # whether the truth may be on another device than the network

    @property
    def has_loss(self) -> bool:
        """Whether it takes part in training: `noloss` and `onlyforward` say no."""
        return not self.onlyforward

    @property
    def compares_images(self) -> bool:
        """Whether what an image learns depends on the others of its minibatch."""
        return False

    def truth_shape(self, output: Shape) -> tuple[int, ...]:
        """The truth of one image: (max, 5 or 6) boxes for most heads, the output's numbers by default."""
        return (output.outputs,)

    def row_sizes(self, output: Shape) -> tuple[int, ...]:
        """How many numbers a row of a truth of rows may have."""
        return self.truth_shape(output)[1:]

    def check_truth(self, truth: torch.Tensor, images: int, output: Shape) -> None:
        """Raises: ShapeError when it is no truth of so many images. Of rows there may be any number."""
        wanted = self.truth_shape(output)
        if len(wanted) == 2:
            fits = truth.dim() == 3 and truth.shape[2] in self.row_sizes(output)
        else:
            fits = truth.dim() >= 2 and truth[:1].numel() == wanted[0]
        if not fits or len(truth) != images:
            numbers = " or ".join(map(str, self.row_sizes(output) if len(wanted) == 2 else wanted))
            rows = f"{wanted[0]}, " if len(wanted) == 2 else ""
            raise ShapeError(f"the truth is {tuple(truth.shape)}, [{self.type}] wants ({images}, {rows}{numbers})")

    def loss(
        self, input_BCHW: torch.Tensor, output_BCHW: torch.Tensor, truth: torch.Tensor, state: TrainingState
    ) -> Loss:
        """Delta and cost of a whole minibatch; the tensors carry no gradient.

        Shapes: truth is (B, *truth_shape).
        """
        raise NotImplementedError

    def log_line(self, index: int, loss: Loss) -> str:
        """What darknet's layer number `index` prints of a minibatch; empty, as most print nothing."""
        return ""


def mean_text(total: torch.Tensor, count: torch.Tensor | int) -> str:
    """darknet's %f of a mean; `-` where it divides by a count of 0 and prints -nan."""
    return f"{float(total) / float(count):f}" if count else "-"
