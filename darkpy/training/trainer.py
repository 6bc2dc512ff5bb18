"""The training step, top to bottom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch

from darkpy.config.net import NetSpec
from darkpy.distributed import SINGLE_PROCESS, ProcessGroup
from darkpy.errors import DarkpyError
from darkpy.layers.base import Layer
from darkpy.layers.delta_filter import DeltaFilter
from darkpy.layers.loss import Loss, TrainingState
from darkpy.network import Network
from darkpy.training.ema import WeightEma
from darkpy.training.optimizer import Optimizer
from darkpy.training.rank_sync import check_shares, seed_chance
from darkpy.training.schedule import current_rate
from darkpy.training.step_guard import NO_GUARD, StepGuard
from darkpy.training.undo import Before, owners_of_statistics

PRECISIONS = ("fp32", "bf16")
CHANNELS_LAST_FROM = 0.001  # BFLOPs


@dataclass(frozen=True, slots=True)
class StepReport:
    """One minibatch. `rate` is that of the current update, `updated` says whether it came; `norm` is then the norm of
    its gradients, before any clipping. `refused`: whether a guard refused it, or its update; `seen` counts it all the
    same.
    """

    rate: float
    seen: int
    updated: bool
    losses: tuple[Loss, ...]
    norm: torch.Tensor | None = None
    refused: bool = False

    @property
    def cost(self) -> float:
        """darknet's: the mean over the layers that have one. It is fetched when asked for, and waits for the GPU."""
        return mean_cost([self])


def mean_cost(steps: Sequence[StepReport]) -> float:
    """The mean cost of minibatches, fetched from the GPU at once."""
    return float(torch.stack([loss.cost.double() for step in steps for loss in step.losses]).mean())


class Trainer:
    """Trains a network as its [net] says: darknet's train_network_datum.

    precision: "fp32", or "bf16" for mixed precision; weights, updates, heads and losses are float32 in both.
    ranks: that share each minibatch and together make the update that one alone would make.
    Raises: DarkpyError when the network has no layer with a loss, for another precision, or when the ranks cannot
        share its minibatches.
    """

    def __init__(
        self, network: Network, *, seed: int = 0, precision: str = "fp32", process_group: ProcessGroup = SINGLE_PROCESS
    ) -> None:
        if precision not in PRECISIONS:
            raise DarkpyError(f"{precision!r} is no precision", hint=f"one of {', '.join(PRECISIONS)}")
        if not network.loss_specs:
            raise DarkpyError(
                f"{network.plan.file} has no layer with a loss", hint="add [yolo], [softmax], [cost], ..."
            )
        network.plan.net.check_batch()
        check_shares(network, process_group)
        self.network = _lay_out(network.train())
        self.process_group, self.seed = process_group, seed
        for layer in network.modules():
            if isinstance(layer, Layer):
                layer.process_group = process_group
        self.device = network.device
        self.is_mixed = precision == "bf16"
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizer = Optimizer(network, process_group)
        self.ema = WeightEma(network)
        self.delta_filter = DeltaFilter()
        self.guard: StepGuard = NO_GUARD
        self.statistics = owners_of_statistics(network)
        self.skipped_images = 0
        """Images of the stream that were refused: it goes on behind them, and `seen` does not count them."""
        self.accumulated_images = 0
        """Images of the update that is not made yet, on all ranks."""
        self._before: Before | None = None  # this update

    @property
    def net(self) -> NetSpec:
        return self.network.plan.net

    @property
    def seen(self) -> int:
        """Images trained on so far: the header's count, with which the weights are saved."""
        return self.network.header.seen

    @property
    def batch_num(self) -> int:
        """Updates done so far."""
        return TrainingState(self.net, self.seen).batch_num

    def train_minibatch(
        self, x_BCHW: torch.Tensor, truth: torch.Tensor, paths: Sequence[Sequence[str]] = ()
    ) -> StepReport:
        """One forward and backward pass, and the update when the subdivisions are full.

        Where a guard refuses the minibatch, or at its end the update, the trainer is again as it was before.
        Shapes: x is (B, c, h, w) or (B, inputs); truth (B, *truth_shape) of the heads. B images are this rank's part.
        paths: what each image was made of, for those who tell of it.
        """
        network, net, guard = self.network, self.net, self.guard
        before = self._remember()
        guard.begin(x_BCHW, truth, paths)
        network.header = network.header.with_seen(self.seen + net.minibatch)
        state = TrainingState(net, self.seen, self.delta_filter, self.process_group)
        rate = current_rate(net, state.batch_num, self._uniform)
        seed_chance(self.process_group, self.seed, self.seen)
        losses, has_passed = self.gather(x_BCHW, truth, state, guard)
        self.accumulated_images += len(x_BCHW) * self.process_group.world_size
        norm, is_updated = None, False
        if not has_passed:
            self._take_back(before)
        elif self.seen // net.minibatch % net.subdivisions == 0:
            images = self.accumulated_images if net.dynamic_minibatch else net.minibatch * net.subdivisions
            norm = self.optimizer.prepare(rate, state.batch_num, images)
            if is_updated := guard.accept_update(norm):
                self.accumulated_images = 0
                self.optimizer.step()
                self.ema.follow(state.batch_num)
            else:
                has_passed = False
                self._take_back(self._before)
        report = StepReport(rate, state.seen, is_updated, losses, norm, refused=not has_passed)
        guard.end(report)
        return report

    def gather(
        self, x_BCHW: torch.Tensor, truth: torch.Tensor, state: TrainingState, guard: StepGuard = NO_GUARD
    ) -> tuple[tuple[Loss, ...], bool]:
        """Add the gradients of a minibatch to those that are there, if the guard lets its losses pass.

        Returns: the losses, and whether they have passed.
        """
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_mixed):
            inputs, own = self.network.losses(self._fetch_images(x_BCHW), truth, state)
        losses = tuple(loss.all_reduced(self.process_group) for loss in own)
        if not guard.accept_losses(losses):
            return losses, False
        share = 1 / self._images(x_BCHW) if self.net.loss_reduction == "mean" else 1
        starts = [(x, -share * loss.input_delta) for x, loss in zip(inputs, losses, strict=True) if x.requires_grad]
        if starts:  # with every layer frozen there is nothing to go back to
            torch.autograd.backward([x for x, _ in starts], [gradient for _, gradient in starts])
        return losses, True

    def _remember(self) -> Before | None:
        """What the coming minibatch may have to be taken back to."""
        if not self.guard.needs_snapshots:
            return None
        is_first = self._before is None or self.seen // self.net.minibatch % self.net.subdivisions == 0
        before = Before(self, has_gradients=is_first)
        if is_first:
            self._before = before
        return before

    def _take_back(self, before: Before | None) -> None:
        assert before is not None
        self.skipped_images += self.seen - before.seen
        before.restore(self)

    def _images(self, x_BCHW: torch.Tensor) -> int:
        """Of the whole update, if its other minibatches are as large; with `dynamic_minibatch` they are not [net]'s."""
        minibatch = len(x_BCHW) * self.process_group.world_size if self.net.dynamic_minibatch else self.net.minibatch
        return minibatch * self.net.subdivisions

    def _fetch_images(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Laid out like the weights, or the first convolution does so on its way forward, and back once more."""
        x_BCHW = x_BCHW.to(self.device, non_blocking=True)
        is_laid_out = x_BCHW.dim() == 4 and _is_channels_last(self.network)
        return x_BCHW.contiguous(memory_format=torch.channels_last) if is_laid_out else x_BCHW

    def _uniform(self) -> float:
        return float(torch.rand((), generator=self.generator))


def _lay_out(network: Network) -> Network:
    """Give every array memory of its own, and convolutions' weights the order they are fastest in.

    What was read from a file is a view of it until now, at any address. Networks so small that a step is all overhead
    gain nothing, and keep darknet's order of summation.
    """
    is_channels_last = _is_channels_last(network)
    for array in chain(network.parameters(), network.buffers()):
        form = torch.channels_last if is_channels_last and array.dim() == 4 else torch.contiguous_format
        array.data = array.detach().clone(memory_format=form)
    return network


def _is_channels_last(network: Network) -> bool:
    return network.plan.bflops > CHANNELS_LAST_FROM
