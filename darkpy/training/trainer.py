"""The training step, top to bottom."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from darkpy.errors import DarkpyError
from darkpy.layers.loss import Loss, Progress
from darkpy.network import Network
from darkpy.training.optimizer import Optimizer
from darkpy.training.schedule import current_rate


@dataclass(frozen=True, slots=True)
class StepReport:
    """One minibatch. `cost` is darknet's: the mean over the layers that have one; `rate` that of the current update."""

    cost: float
    rate: float
    seen: int
    updated: bool
    losses: tuple[Loss, ...]


class Trainer:
    """Trains a network as its [net] says: darknet's train_network_datum.

    Raises: DarkpyError when the network has no layer with a loss.
    """

    def __init__(self, network: Network, *, seed: int = 0) -> None:
        self.network = network.train()
        self.net = network.plan.net
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizer = Optimizer(network)
        if not network.loss_specs:
            raise DarkpyError(
                f"{network.plan.file} has no layer with a loss", hint="add [yolo], [softmax], [cost], ..."
            )

    @property
    def seen(self) -> int:
        """Images trained on so far: the header's count, with which the weights are saved."""
        return self.network.header.seen

    def train_minibatch(self, x_BCHW: torch.Tensor, truth: torch.Tensor) -> StepReport:
        """One forward and backward pass, and the update when the subdivisions are full.

        Shapes: x is (B, c, h, w) or (B, inputs); truth (B, *truth_shape) of the heads.
        """
        self.network.header = self.network.header.with_seen(self.seen + self.net.minibatch)
        progress = Progress(self.net, self.seen)
        inputs, losses = self.network.losses(x_BCHW, truth, progress)
        torch.autograd.backward(inputs, [-loss.input_delta for loss in losses])
        rate = current_rate(self.net, progress.batch_num, self._uniform)
        is_due = self.seen // self.net.minibatch % self.net.subdivisions == 0
        if is_due:
            self.optimizer.update(rate, progress.batch_num)
        cost = sum(float(loss.cost) for loss in losses) / len(losses)
        return StepReport(cost, rate, self.seen, is_due, tuple(losses))

    def _uniform(self) -> float:
        return float(torch.rand((), generator=self.generator))
