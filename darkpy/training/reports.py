"""Reports of a training: a minibatch, an update, a validation, a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from darkpy.data.loading.loader import Batch
    from darkpy.evaluation.average_precision import MeanAveragePrecision
    from darkpy.evaluation.mask_overlap import ClassOverlap
    from darkpy.layers.loss import Loss

Figures = Mapping[str, Sequence[float | None]]
"""Rows of numbers by name, one number per layer of the cfg; None for layers without it."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """One minibatch.

    rate: learning rate of the current update. seen: images trained on, including this minibatch even where refused.
    updated: True if it completed an update. norm: of the update's gradients, before clipping, not fetched from the GPU.
    refused: True if the monitor refused the minibatch, or the update that it would have completed.
    """

    rate: float
    seen: int
    updated: bool
    losses: tuple[Loss, ...]
    norm: Tensor | None = None
    refused: bool = False

    @property
    def cost(self) -> float:
        """darknet's cost: the mean over the layers that have one. Fetching it waits for the GPU."""
        return mean_cost([self])


@dataclass(frozen=True, kw_only=True, slots=True)
class UpdateReport:
    """One update of the weights, as callbacks get it and as the run's log stores it.

    loss: mean cost of an image. average: darknet's running average of the losses. rate: learning rate.
    seen: images trained on so far; images: those of this update.
    seconds: duration of the update, `waited` of them waiting for images.
    refused: True if the update was not applied, and only the log has it.
    norm, largest, layers: measured by the monitor before clipping, NaN or empty without one: the 2-norm of all
        gradients, the largest of them (where the layers were measured), and numbers for each layer (in a few updates):
        `gradient`: 2-norm of its gradients; `ratio`: norm of the update over norm of the weights; `delta`: largest one
        at its output, before clamping; `clamped`: fraction of clamped deltas; `low`, `high`: range of its outputs;
        `zero`: fraction of outputs that are 0; `dead`: fraction of units constant for long; `variance`: smallest
        rolling variance of batch norm.
    size: width and height of the images. Not in the log, as `steps` and `batches`:
    batches: this rank's part of each minibatch, with the problems of all parts; losses and steps are those of all.
    """

    batch_num: int
    loss: float
    average: float
    rate: float
    seen: int
    images: int
    seconds: float = 0.0
    waited: float = 0.0
    norm: float = math.nan
    largest: float = math.nan
    refused: bool = False
    layers: Figures = field(default_factory=dict)
    size: tuple[int, int] = (0, 0)
    steps: tuple[StepReport, ...] = ()
    batches: tuple[Batch, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidationReport:
    """Evaluation after an update.

    mean: mean average precision of a detector, accuracy of a classifier, mean IoU of masks, 0 to 1; else NaN.
    result: counts and precision of each class of a detector, else None. overlaps: pixels and IoU of each class of a
        segmentation network, else empty.
    ema_mean: that of the averaged weights (`ema_alpha`), None without them.
    metric: name of the number by which the best weights are kept, value: this number, as messages show it.
    is_best: True if no earlier evaluation of the run beats it. is_ema_best: the averaged weights have it.
    stale: evaluations since the best one.
    """

    batch_num: int
    mean: float
    iou_thresh: float
    is_best: bool
    result: MeanAveragePrecision | None
    overlaps: tuple[ClassOverlap, ...] = ()
    ema_mean: float | None = None
    metric: str = ""
    value: str = ""
    is_ema_best: bool = False
    stale: int = 0

    @property
    def is_by_map(self) -> bool:
        """True if the best weights are those of AlexeyAB's program, by the mAP at `iou_thresh`."""
        return self.result is not None and self.metric in ("", f"mAP@{self.iou_thresh:.2f}")


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointReport:
    """Weight files written after an update. is_last: True if the run ends with them."""

    batch_num: int
    paths: tuple[Path, ...]
    is_last: bool


def mean_cost(steps: Sequence[StepReport]) -> float:
    """Mean cost of minibatches, fetched from the GPU at once."""
    import torch

    return float(torch.stack([loss.cost.double() for step in steps for loss in step.losses]).mean())


def next_average(average: float, loss: float) -> float:
    """.9 of the average and .1 of the loss; restarts at the loss where the average is non-finite or negative.

    Source:  AlexeyAB/darknet src/detector.c train_detector
    Differs: pjreddie's stays NaN forever.
    """
    return loss if average < 0 or not math.isfinite(average) else 0.9 * average + 0.1 * loss
