"""Root cause of a refused update: the first non-finite layer, loss, delta or gradient, and the images to blame.

The minibatches are repeated with hooks on every layer; this is slow, and rare.
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

OUTLIER_PIXEL_RATIO = 100.0
"""Ratio of an image's largest pixel to the median of its minibatch, above which the image is an outlier."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SuspectSample:
    """Image of a refused update. kept, image: its minibatch, and its index there.

    loss: its part of the squared deltas of all heads, which is [yolo]'s cost. largest: its largest absolute pixel.
    nonfinite: description of its NaN and infinite values; empty for none. is_outlier: its pixels exceed the others'.
    """

    kept: RecordedBatch
    image: int
    loss: float
    largest: float
    nonfinite: str
    is_outlier: bool = False

    @property
    def name(self) -> str:
        return self.kept.name(self.image)

    @property
    def fault(self) -> str:
        """Message about a defect of the image itself; empty for none."""
        if self.nonfinite:
            return f"{self.name} has {self.nonfinite}"
        return f"{self.name} has pixel values up to {self.largest:.3g}" if self.is_outlier else ""

    @property
    def rank(self) -> tuple[bool, bool, float, float]:
        """Sort key: the worst image has the largest."""
        return bool(self.nonfinite), self.is_outlier, math.inf if math.isnan(self.loss) else self.loss, self.largest


@dataclass(kw_only=True, slots=True)
class RootCause:
    """First layers with non-finite values, by index; None if all values are finite.

    arrays: the first layer with a non-finite array, the array's name, and the count of its non-finite values.
    forward: the first layer with a non-finite output, in the order of the cfg. loss: the first with such a loss.
    backward: the first layer, going back, with a non-finite delta at its output.
    gradient: the first layer, in the order of the cfg, with non-finite gradients of its own.
    samples: all images, the worst first. largest_weight: a layer, and the largest of its finite weights and biases.
    """

    arrays: tuple[int, str, int] | None = None
    forward: int | None = None
    loss: int | None = None
    backward: int | None = None
    gradient: int | None = None
    samples: list[SuspectSample] = field(default_factory=list)
    largest_weight: tuple[int | None, float] = (None, 0.0)

    @property
    def is_clean(self) -> bool:
        return (self.arrays, self.forward, self.loss, self.backward, self.gradient) == (None,) * 5


def find_nonfinite_array(trainer: Trainer) -> tuple[int, str, int] | None:
    """Find the first array with non-finite values: its layer, its name, the count of these values."""
    network = trainer.network
    for node in network.plan.nodes:
        layer: Any = network.layers[node.index]
        for array_spec in node.arrays:
            array = layer.array(array_spec)
            if array is not None and not array.isfinite().all():
                return node.index, array_spec.name, int((~array.isfinite()).sum())
    return None


def find_largest_weight(trainer: Trainer) -> tuple[int | None, float]:
    """Find the largest absolute value that was learned, and its layer."""
    largest: tuple[int | None, float] = (None, 0.0)
    for node in trainer.network.plan.nodes:
        layer: Any = trainer.network.layers[node.index]
        for array_spec in node.arrays:
            array = layer.array(array_spec)
            if array is not None and not array_spec.is_statistic:
                value = float(torch.linalg.vector_norm(array.detach(), torch.inf))
                largest = (node.index, value) if value > largest[1] else largest
    return largest


def find_root_cause(trainer: Trainer, minibatches: Sequence[RecordedBatch]) -> RootCause:
    """Repeat minibatches and find the first non-finite values; the trainer stays unchanged."""
    cause = RootCause(arrays=find_nonfinite_array(trainer), largest_weight=find_largest_weight(trainer))
    network, net = trainer.network, trainer.net
    with trainer.preserved():
        for kept in minibatches:
            with _watch_layers(trainer, cause):
                if kept.x_BCHW.dim() == 4 and net.width:
                    network.resize(kept.x_BCHW.shape[3], kept.x_BCHW.shape[2])
                network.header = network.header.with_seen(trainer.seen + net.minibatch)
                trainer.seed_rank()
                state = TrainingState(trainer.net, trainer.seen, trainer.delta_filter, trainer.process_group)
                losses, _ = trainer.accumulate(kept.x_BCHW, kept.truth, state)
            cause.samples += _samples(kept, losses)
            nodes = [node.index for node in trainer.network.plan.nodes if node.spec in trainer.network.loss_specs]
            bad = [index for index, loss in zip(nodes, losses, strict=True) if not math.isfinite(loss.cost)]
            cause.loss = bad[0] if bad and cause.loss is None else cause.loss
            if cause.gradient is None:
                cause.gradient = _bad_gradient(trainer)
            if not cause.is_clean:
                break  # later minibatches add to gradients that are non-finite already
    cause.samples.sort(key=lambda sample: sample.rank, reverse=True)
    return cause


@contextmanager
def _watch_layers(trainer: Trainer, cause: RootCause) -> Iterator[None]:
    """Check the output of every layer, and the delta that comes back to it."""

    def look(index: int, layer: Any, inputs: Any, output: Tensor) -> None:
        if cause.forward is None and not output.detach().isfinite().all():
            cause.forward = index
        if output.requires_grad:
            output.register_hook(partial(feel, index))  # type: ignore[no-untyped-call]

    def feel(index: int, gradient: Tensor) -> None:
        if cause.backward is None and not gradient.isfinite().all():
            cause.backward = index

    layers = enumerate(trainer.network.layers)
    handles = [layer.register_forward_hook(partial(look, index)) for index, layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _samples(kept: RecordedBatch, losses: Sequence[Loss]) -> list[SuspectSample]:
    loss_B = torch.zeros(len(kept.x_BCHW), dtype=torch.float64)
    for loss in losses:
        squared = loss.delta.detach().double().square().flatten(1).sum(1).cpu()
        if len(squared) == len(loss_B):
            loss_B += squared
    largest_B = kept.x_BCHW.detach().float().flatten(1).abs().amax(1).tolist()
    usual = median(largest_B)
    nonfinite = kept.nonfinite()
    return [
        SuspectSample(
            kept=kept,
            image=image,
            loss=float(loss),
            largest=largest_B[image],
            nonfinite=nonfinite.get(image, ""),
            is_outlier=largest_B[image] > OUTLIER_PIXEL_RATIO * usual,
        )
        for image, loss in enumerate(loss_B)
    ]


def _bad_gradient(trainer: Trainer) -> int | None:
    network = trainer.network
    for node in network.plan.nodes:
        layer: Any = network.layers[node.index]
        arrays = [layer.get_parameter(array_spec.name) for array_spec in node.arrays if not array_spec.is_statistic]
        # finite gradients with an infinite norm count as non-finite, because the norm of all gradients is unknown
        if any(array.grad is not None and not torch.linalg.vector_norm(array.grad).isfinite() for array in arrays):
            return node.index
    return None
