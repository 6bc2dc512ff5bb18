"""A second look at an update that was refused: what in it was the first to be no number, and which image is at fault.

It happens seldom, so it may take its time: the minibatches go through once more, with every layer looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from darkpy.diagnostics.monitor.label_symptoms import RecordedBatch
from darkpy.layers.loss import Loss, TrainingState
from darkpy.training.trainer import Trainer

FAR = 100.0
"""How many times the median of its minibatch an image's largest pixel is, where it is no image like the others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One image of the update. kept, image: its minibatch, and its place there.

    loss: its part of the squared deltas of all heads, which is [yolo]'s cost. largest: its largest pixel, without sign.
    spoilt: what of it is no number; empty for a whole one. is_far: whether its pixels go far beyond the others'.
    """

    kept: RecordedBatch
    image: int
    loss: float
    largest: float
    spoilt: str
    is_far: bool = False

    @property
    def name(self) -> str:
        return self.kept.name(self.image)

    @property
    def fault(self) -> str:
        """What is wrong with it as it is; empty where nothing is."""
        if self.spoilt:
            return f"{self.name} has {self.spoilt}"
        return f"{self.name} has pixel values up to {self.largest:.3g}" if self.is_far else ""

    @property
    def rank(self) -> tuple[bool, bool, float, float]:
        """The worst is the largest."""
        return bool(self.spoilt), self.is_far, math.inf if math.isnan(self.loss) else self.loss, self.largest


@dataclass(kw_only=True, slots=True)
class Autopsy:
    """What was found; layers are named by their numbers, None where all is well.

    arrays: the first layer with arrays that are no numbers, the array's name, and how many of its numbers.
    forward: the first layer whose outputs are no numbers, in the order of the cfg. loss: the first whose loss is none.
    backward: the first layer, going back, at whose output the delta is none.
    gradient: the first layer, in the order of the cfg, whose own gradients are none.
    samples: all images, the worst first.
    """

    arrays: tuple[int, str, int] | None = None
    forward: int | None = None
    loss: int | None = None
    backward: int | None = None
    gradient: int | None = None
    samples: list[Sample] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return (self.arrays, self.forward, self.loss, self.backward, self.gradient) == (None,) * 5


def bad_array(trainer: Trainer) -> tuple[int, str, int] | None:
    """The first of the network's arrays that is not all numbers: its layer, its name, how many of them."""
    network = trainer.network
    for node in network.plan.nodes:
        layer: Any = network.layers[node.index]
        for array_spec in node.arrays:
            array = layer.array(array_spec)
            if array is not None and not array.isfinite().all():
                return node.index, array_spec.name, int((~array.isfinite()).sum())
    return None


def examine(trainer: Trainer, minibatches: Sequence[RecordedBatch]) -> Autopsy:
    """Repeat minibatches that a trainer has not seen, and leave it as it is."""
    autopsy = Autopsy(arrays=bad_array(trainer))
    with trainer.preserved():
        for kept in minibatches:
            with _eyes(trainer, autopsy):
                losses = _repeat(trainer, kept)
            autopsy.samples += _samples(kept, losses)
            nodes = [node.index for node in trainer.network.plan.nodes if node.spec in trainer.network.loss_specs]
            bad = [index for index, loss in zip(nodes, losses, strict=True) if not math.isfinite(loss.cost)]
            autopsy.loss = bad[0] if bad and autopsy.loss is None else autopsy.loss
            if autopsy.gradient is None:
                autopsy.gradient = _bad_gradient(trainer)
            if not autopsy.is_clean:
                break  # what comes after it adds to gradients that are no numbers
    autopsy.samples.sort(key=lambda sample: sample.rank, reverse=True)
    return autopsy


def _repeat(trainer: Trainer, kept: RecordedBatch) -> tuple[Loss, ...]:
    network, net = trainer.network, trainer.net
    if kept.x_BCHW.dim() == 4 and net.width:
        network.resize(kept.x_BCHW.shape[3], kept.x_BCHW.shape[2])
    network.header = network.header.with_seen(trainer.seen + net.minibatch)
    trainer.seed_rank()
    state = TrainingState(trainer.net, trainer.seen, trainer.delta_filter, trainer.process_group)
    losses, _ = trainer.accumulate(kept.x_BCHW, kept.truth, state)
    return losses


@contextmanager
def _eyes(trainer: Trainer, autopsy: Autopsy) -> Iterator[None]:
    """Look at the output of every layer, and at what comes back to it."""

    def look(index: int, layer: Any, inputs: Any, output: Tensor) -> None:
        if autopsy.forward is None and not output.detach().isfinite().all():
            autopsy.forward = index
        if output.requires_grad:
            output.register_hook(partial(feel, index))  # type: ignore[no-untyped-call]

    def feel(index: int, gradient: Tensor) -> None:
        if autopsy.backward is None and not gradient.isfinite().all():
            autopsy.backward = index

    layers = enumerate(trainer.network.layers)
    handles = [layer.register_forward_hook(partial(look, index)) for index, layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _samples(kept: RecordedBatch, losses: Sequence[Loss]) -> list[Sample]:
    loss_B = torch.zeros(len(kept.x_BCHW), dtype=torch.float64)
    for loss in losses:
        squared = loss.delta.detach().double().square().flatten(1).sum(1).cpu()
        if len(squared) == len(loss_B):
            loss_B += squared
    largest_B = kept.x_BCHW.detach().float().flatten(1).abs().amax(1).tolist()
    usual = median(largest_B)
    spoilt = kept.spoilt()
    return [
        Sample(
            kept=kept,
            image=image,
            loss=float(loss),
            largest=largest_B[image],
            spoilt=spoilt.get(image, ""),
            is_far=largest_B[image] > FAR * usual,
        )
        for image, loss in enumerate(loss_B)
    ]


def _bad_gradient(trainer: Trainer) -> int | None:
    network = trainer.network
    for node in network.plan.nodes:
        layer: Any = network.layers[node.index]
        arrays = [layer.get_parameter(array_spec.name) for array_spec in node.arrays if not array_spec.is_statistic]
        # numbers whose squares are none count as none: the norm of all gradients is not known
        if any(array.grad is not None and not torch.linalg.vector_norm(array.grad).isfinite() for array in arrays):
            return node.index
    return None
