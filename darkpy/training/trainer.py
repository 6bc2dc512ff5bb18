"""The training step."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor

from darkpy.build import Plan
from darkpy.config.net import NetSpec
from darkpy.distributed import SINGLE_PROCESS, ProcessGroup
from darkpy.errors import DarkpyError, DarkpyWarning
from darkpy.layers.base import Layer
from darkpy.layers.loss import DeltaFilter, Loss, TrainingState
from darkpy.network import Network, require_network
from darkpy.training.ema import WeightEma
from darkpy.training.optimizer import Optimizer, current_rate
from darkpy.training.reports import StepReport
from darkpy.training.step_guard import StepGuard
from darkpy.weightfile import Header

TRAINING_PRECISIONS = ("fp32", "bf16")
CHANNELS_LAST_MIN_BFLOPS = 0.001
"""Smaller networks do not gain: their steps are mostly overhead."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """State of a trainer between two updates: everything that a minibatch changes before the weights change.

    Weights, their EMA and the optimizer's state are not in it: only an update changes them, which cannot be undone.
    statistics: copies of batch norm's rolling means and variances, with the buffers they belong to.
    gradients: copies, in the order of the optimizer's parameters; None if they were not requested.
    """

    plan: Plan
    header: Header
    skipped_images: int
    accumulated_images: int
    delta_filter: DeltaFilter
    statistics: tuple[tuple[Tensor, Tensor], ...]
    random: tuple[Tensor, Tensor | None, Tensor]
    gradients: tuple[Tensor | None, ...] | None

    @property
    def seen(self) -> int:
        return self.header.seen


class Trainer:
    """Trains a network as its [net] says: darknet's train_network_datum.

    precision: "fp32", or "bf16" for mixed precision; weights, updates, heads and losses are float32 in both.
    clear: start the schedule anew, as if the weights had seen no images.
    monitor: sees every step and may refuse it, such as `darkpy.Monitor(folder)`.
    process_group: the ranks that share each minibatch and together make the update that one alone would make.
    Raises: DarkpyError when the network has no layer with a loss, for another precision, or when the ranks cannot
        share its minibatches.
    """

    def __init__(
        self,
        network: Network,
        *,
        seed: int = 0,
        precision: str = "fp32",
        clear: bool = False,
        monitor: StepGuard | None = None,
        process_group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        require_network(network, "Trainer")
        if precision not in TRAINING_PRECISIONS:
            raise DarkpyError(f"unknown precision {precision!r}", hint=f"one of {', '.join(TRAINING_PRECISIONS)}")
        if not network.loss_specs:
            raise DarkpyError(
                f"{network.plan.file} has no layer with a loss", hint="add [yolo], [softmax], [cost], ..."
            )
        network.plan.net.check_batch()
        _check_shares(network, process_group)
        self.network = _lay_out(network.train())
        self.process_group, self.seed = process_group, seed
        for layer in network.modules():
            if isinstance(layer, Layer):
                layer.process_group = process_group
        self.device = network.device
        self.mixed_precision = precision == "bf16"
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizer = Optimizer(network, process_group)
        self.ema = WeightEma(network) if network.plan.net.ema_alpha else None
        self.delta_filter = DeltaFilter()
        self.average_loss = math.nan
        """darknet's running average of the updates' losses, which the training loop computes."""
        self.skipped_images = 0
        """Images of refused minibatches: the stream of images continues behind them, and `seen` does not count them."""
        self.accumulated_images = 0
        """Images, on all ranks, whose gradients the next update will use."""
        self.update_start: Snapshot | None = None
        """State before the current update, None before its first minibatch."""
        self._is_updating = False
        self._has_begun = False
        # what training saves has its dialect's header, whatever file it started from: the header may decide the
        # dialect when the weights are loaded again
        network.header = Header.new(network.plan.dialect).with_seen(0 if clear else network.header.seen)
        self._statistics = _statistics(network)
        self.monitor = monitor or StepGuard()
        self.monitor.attach(self)

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

    def train_minibatch(self, x_BCHW: Tensor, truth: Tensor, paths: Sequence[Sequence[str]] = ()) -> StepReport:
        """One forward and backward pass, and the update when the subdivisions are full.

        Where the monitor refuses the minibatch, or the update at its end, the trainer is again as it was before.
        Shapes: x is (B, c, h, w) or (B, inputs); truth (B, *truth_shape) of the heads. B images are this rank's part.
        paths: the files each image was made of, for reports.
        """
        network, net, monitor = self.network, self.net, self.monitor
        if not self._has_begun:
            self._has_begun = True
            self._warn_of_ended_schedule()
        before = self._snapshot_step()
        monitor.begin(x_BCHW, truth, paths)
        network.header = network.header.with_seen(self.seen + net.minibatch)
        state = TrainingState(net, self.seen, self.delta_filter, self.process_group)
        rate = current_rate(net, state.batch_num, lambda: float(torch.rand((), generator=self.generator)))
        self.seed_rank()
        losses, accepted = self.accumulate(x_BCHW, truth, state, monitor)
        self.accumulated_images += len(x_BCHW) * self.process_group.world_size
        norm, updated = None, False
        if not accepted:
            self._take_back(before)
        elif self.seen // net.minibatch % net.subdivisions == 0:
            images = self.accumulated_images if net.dynamic_minibatch else net.minibatch * net.subdivisions
            norm = self.optimizer.prepare(rate, state.batch_num, images)
            if updated := monitor.accept_update(norm):
                self.accumulated_images, self.update_start = 0, None
                self._is_updating = True
                self.optimizer.step()
                if self.ema is not None:
                    self.ema.follow(state.batch_num)
                self._is_updating = False
            else:
                accepted = False
                self._take_back(self.update_start)
        report = StepReport(rate, state.seen, updated, losses, norm, refused=not accepted)
        monitor.end(report)
        return report

    def accumulate(
        self, x_BCHW: Tensor, truth: Tensor, state: TrainingState, monitor: StepGuard | None = None
    ) -> tuple[tuple[Loss, ...], bool]:
        """Add the gradients of a minibatch to those that are there, if the monitor accepts its losses.

        Returns: the losses, and whether they were accepted.
        """
        x_BCHW = x_BCHW.to(self.device, non_blocking=True)
        if x_BCHW.dim() == 4 and _is_channels_last(self.network):
            # laid out like the weights: else the first convolution converts them, in both passes
            x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed_precision):
            inputs, own_losses = self.network.losses(x_BCHW, truth, state)
        losses = tuple(loss.all_reduced(self.process_group) for loss in own_losses)
        if monitor is not None and not monitor.accept_losses(losses):
            return losses, False
        share = 1.0
        if self.net.loss_reduction == "mean":
            # over the whole update, if its other minibatches are as large; with dynamic_minibatch they are not [net]'s
            minibatch = (
                len(x_BCHW) * self.process_group.world_size if self.net.dynamic_minibatch else self.net.minibatch
            )
            share = 1 / (minibatch * self.net.subdivisions)
        starts = [(x, -share * loss.input_delta) for x, loss in zip(inputs, losses, strict=True) if x.requires_grad]
        if starts:  # with every layer frozen nothing has a gradient
            torch.autograd.backward([x for x, _ in starts], [gradient for _, gradient in starts])
        return losses, True

    def snapshot(self, *, gradients: bool = True) -> Snapshot:
        """Copy what a minibatch changes; see `Snapshot`.

        gradients: also copy what has been accumulated so far, which is as large as the weights.
        """
        network, device = self.network, self.device
        buffers = [getattr(owner, name) for owner, name in self._statistics]
        grads = (param.grad for param in self.optimizer.params)
        return Snapshot(
            plan=network.plan,
            header=network.header,
            skipped_images=self.skipped_images,
            accumulated_images=self.accumulated_images,
            delta_filter=replace(self.delta_filter),
            statistics=tuple((buffer, buffer.clone()) for buffer in buffers),
            random=(
                torch.get_rng_state(),
                torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
                self.generator.get_state(),
            ),
            gradients=tuple(None if grad is None else grad.clone() for grad in grads) if gradients else None,
        )

    @torch.no_grad()
    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot; it can be done more than once. Gradients stay where it has none."""
        self.network.plan, self.network.header = snapshot.plan, snapshot.header
        self.skipped_images, self.accumulated_images = snapshot.skipped_images, snapshot.accumulated_images
        self.delta_filter = replace(snapshot.delta_filter)
        for buffer, copy in snapshot.statistics:
            buffer.copy_(copy)
        cpu_state, cuda_state, schedule_state = snapshot.random
        torch.set_rng_state(cpu_state)
        if cuda_state is not None:
            torch.cuda.set_rng_state(cuda_state, self.device)
        self.generator.set_state(schedule_state)
        if snapshot.gradients is not None:
            for param, grad in zip(self.optimizer.params, snapshot.gradients, strict=True):
                param.grad = None if grad is None else grad.clone()

    def rewind(self) -> bool:
        """Go back to the end of the last update, after an exception in the middle of the next one.

        Returns: False if the exception came while the weights were changed: then only some are new.
        """
        if self.update_start is not None:
            self.restore(self.update_start)
        return not self._is_updating

    @contextmanager
    def preserved(self) -> Iterator[None]:
        """Restore the trainer on leaving, for steps that only try or measure something."""
        before = self.snapshot()
        try:
            yield
        finally:
            self.restore(before)

    def _warn_of_ended_schedule(self) -> None:
        net, n = self.net, self.batch_num
        if net.max_batches and n >= net.max_batches:
            rate = current_rate(net, n + 1, lambda: 1.0)
            message = (
                f"{self.network.plan.file}: the weights have seen {self.seen} images, which is update {n} of"
                f" max_batches={net.max_batches}: the learning rate is {rate:g}"
            )
            hint = "Trainer(network, clear=True) restarts the schedule, as -clear does in darkpy train"
            warnings.warn(f"{message}\n  hint: {hint}", DarkpyWarning, stacklevel=3)

    def seed_rank(self) -> None:
        """Let the random numbers of a rank follow from the seed, `seen` and the rank, so that runs can be resumed."""
        ranks = self.process_group
        if not ranks.is_alone:
            torch.manual_seed((self.seed * 1_000_003 + self.seen * ranks.world_size + ranks.rank) % 2**63)

    def _snapshot_step(self) -> Snapshot | None:
        """State to go back to if the coming minibatch is refused: a copy of gradients only at an update's start."""
        if self.update_start is None or self.seen // self.net.minibatch % self.net.subdivisions == 0:
            self.update_start = self.snapshot()
            return self.update_start
        return self.snapshot(gradients=False) if self.monitor.needs_snapshots else None

    def _take_back(self, before: Snapshot | None) -> None:
        assert before is not None
        skipped_images = self.skipped_images + self.seen - before.seen
        self.restore(before)
        self.skipped_images = skipped_images


def _check_shares(network: Network, process_group: ProcessGroup) -> None:
    """Raises: DarkpyError when the ranks cannot share the minibatches of a network."""
    net, file = network.plan.net, network.plan.file
    if process_group.is_alone:
        return
    if net.minibatch % process_group.world_size:
        raise DarkpyError(
            f"{file}: a minibatch of {net.minibatch} (batch={net.batch} / subdivisions={net.subdivisions})"
            f" cannot be shared by {process_group.world_size} devices",
            hint=f"make batch / subdivisions a multiple of {process_group.world_size}",
        )
    if net.time_steps > 1:
        raise DarkpyError(f"{file}: time_steps={net.time_steps} trains on one device only", hint="give one device")
    if any(spec.compares_images for spec in network.loss_specs):
        raise DarkpyError(
            f"{file}: a loss compares the images of a minibatch: it trains on one device only", hint="give one device"
        )


def _statistics(network: Network) -> list[tuple[torch.nn.Module, str]]:
    """Modules with rolling means and variances, and the buffers' names: loading weights may replace the buffers."""
    statistics = []
    for node in network.plan.nodes:
        for array_spec in node.arrays:
            if array_spec.is_statistic:
                part, _, name = array_spec.name.rpartition(".")
                statistics.append((network.layers[node.index].get_submodule(part), name))
    return statistics


def _lay_out(network: Network) -> Network:
    """Give every array memory of its own, and convolutions' weights the order they are fastest in.

    Arrays read from a file are views of it until now, at any address. Very small networks do not gain, and keep
    darknet's order of summation.
    """
    channels_last = _is_channels_last(network)
    for array in chain(network.parameters(), network.buffers()):
        form = torch.channels_last if channels_last and array.dim() == 4 else torch.contiguous_format
        array.data = array.detach().clone(memory_format=form)
    return network


def _is_channels_last(network: Network) -> bool:
    return network.plan.bflops > CHANNELS_LAST_MIN_BFLOPS
