"""Search for bad samples: loss and gradient of every sample of a list, once, alone and in order.

Letters: C color, H height, W width; N samples.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from darkpy.data.augment.config import ColorRange
from darkpy.data.augment.sampler import Sampler
from darkpy.data.lists.labels import read_labels
from darkpy.data.lists.paths import find_label
from darkpy.data.loading.datasets import ClassificationData, Dataset, DetectionData, RegressionData
from darkpy.data.loading.images import load_image
from darkpy.data.loading.mask_datasets import MaskData
from darkpy.diagnostics.report.contact_sheet import Tile, as_png, contact_sheet, legend_tile
from darkpy.errors import DarkpyError
from darkpy.finding import Cause, Finding, Location, Severity, data_finding
from darkpy.layers.base import Layer
from darkpy.layers.loss import LossSpec, TrainingState
from darkpy.network import Network
from darkpy.training.setup import TrainingSetup
from darkpy.training.trainer import Trainer

SUSPECT_SCORE = 6.0
"""Score, in robust standard deviations, from which a sample is suspect. Of 205 clean images of blood cells the worst
has 4.3; with moved boxes, changed classes or the labels of another image they have 7 to 28."""
PROBE_SAMPLES = 8
"""Samples that decide which statistics batch norm uses."""
REWEIGHTING_ROUNDS = 20
MIN_DISTANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Scored:
    """Loss and gradient of one sample in an unchanged network.

    loss: sum over the layers with a loss; norm: 2-norm of the gradients of the last layers before them.
    objects: in its labels; 1 for a classifier. score: deviation from the usual loss and gradient; see `rank`.
    """

    path: str
    loss: float
    norm: float
    objects: int
    score: float = 0.0

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.loss) and math.isfinite(self.norm)


@dataclass(frozen=True, kw_only=True, slots=True)
class _InOrder(Sampler):
    """Sampler in the order of the list, without a replacement for an unreadable image."""

    def candidates(self, sample_index: int, source: int = 0) -> Iterator[int]:
        yield sample_index


class SampleScorer:
    """Computes loss and gradient of single samples without changing the network.

    Gradients are those of the last layers with weights before each loss: they rank samples as those of all layers do,
    and need no backward pass through the network.
    Batch norm uses its rolling statistics, or those of the sample if the loss is lower with them: rolling statistics
    start at 0 and are only good after some 500 minibatches.
    Raises: DarkpyError when the network takes sequences, or has no layer with a loss.
    """

    def __init__(self, network: Network, setup: TrainingSetup) -> None:
        net = network.plan.net
        if net.time_steps > 1:
            raise DarkpyError(f"{network.plan.file} takes sequences (time_steps={net.time_steps}), not single images")
        self._trainer = Trainer(network)
        self._task = setup
        self._dataset = _plain(setup)
        self._measured = {id(array) for array in _last_arrays(network)}
        seen = max(network.header.seen, net.minibatch * net.subdivisions)
        self._progress = TrainingState(net, seen)
        self.is_filled = True
        """True if all batch norm has rolling statistics: those of a new network are 0."""
        for node, layer in zip(network.plan.nodes, network.layers, strict=True):
            assert isinstance(layer, Layer)
            arrays = [layer.array(array_spec) for array_spec in node.arrays if array_spec.is_statistic]
            self.is_filled &= all(array is None or bool(array.any()) for array in arrays)
        few = self.indices(PROBE_SAMPLES)
        rolling, own = (
            np.median([one.loss if one.is_finite else math.inf for one in self._show(few, trains=trains)] or [0.0])
            for trains in (False, True)
        )
        self.uses_sample_statistics = bool(own < rolling)
        self.is_ruined = not math.isfinite(min(own, rolling))
        """True if most images have no finite loss, whatever the statistics."""

    def indices(self, limit: int | None = None) -> range:
        """Indices of the images to score: all, or about `limit`, spread over the list."""
        count = len(self._task.paths)
        return range(0, count, 1 if limit is None else max(1, -(-count // limit)))

    def run(self, numbers: Iterable[int]) -> Iterator[Scored]:
        """Score these images of the list; unreadable ones are left out."""
        yield from self._show(numbers, trains=self.uses_sample_statistics)

    def _show(self, numbers: Iterable[int], *, trains: bool) -> Iterator[Scored]:
        trainer = self._trainer
        others = [array for array in trainer.network.parameters() if id(array) not in self._measured]
        learned = [array for array in others if array.requires_grad]
        try:
            for array in learned:
                array.requires_grad_(False)
            with trainer.preserved():
                trainer.network.train(trains)
                for number in numbers:
                    try:
                        item = self._dataset.make(number, trainer.net.width, trainer.net.height)
                    except DarkpyError:
                        continue
                    trainer.network.reset_state()
                    losses, _ = trainer.accumulate(item.x_CHW[None], item.truth[None], self._progress)
                    gradients = [array.grad for array in trainer.network.parameters() if array.grad is not None]
                    norm = float(nn.utils.get_total_norm(gradients)) if gradients else 0.0
                    trainer.network.zero_grad()
                    cost = torch.stack([loss.cost.double() for loss in losses]).sum()
                    path = self._task.paths[number]
                    yield Scored(path, float(cost), norm, len(sample_boxes(self._task, path)))
        finally:
            for array in learned:
                array.requires_grad_(True)
            trainer.network.train()


def _last_arrays(network: Network) -> Iterator[nn.Parameter]:
    """Yield the learned arrays of the last layers with weights before each layer with a loss."""
    nodes = network.plan.nodes
    pending = [node.index for node in nodes if isinstance(node.spec, LossSpec) and node.spec.has_loss]
    seen: set[int] = set()
    while pending:
        index = pending.pop()
        if index < 0 or index in seen:
            continue
        seen.add(index)
        layer = network.layers[index]
        learned = [layer.get_parameter(spec.name) for spec in nodes[index].arrays if not spec.is_statistic]
        yield from learned
        if not learned:
            pending += nodes[index].sources


def rank(found: Sequence[Scored]) -> list[Scored]:
    """Worst first: samples with a non-finite loss or gradient, then by score.

    An image of 20 objects costs more than one of 2 and is no worse. So the score is how far the loss lies above a
    line, loss over objects, that most samples are near, and the logarithm of the gradient's norm above its own line;
    each in units of the usual deviation, the larger of the two.
    """
    whole = [one for one in found if one.is_finite]
    objects_N = np.array([one.objects for one in whole], dtype=float)
    loss_N = _excess(objects_N, np.array([one.loss for one in whole], dtype=float))
    norm_N = _excess(objects_N, np.log([max(one.norm, MIN_DISTANCE) for one in whole]))
    scored = [replace(one, score=float(score)) for one, score in zip(whole, np.maximum(loss_N, norm_N), strict=True)]
    scored.sort(key=lambda one: -one.score)
    return [replace(one, score=math.inf) for one in found if not one.is_finite] + scored


def _excess(x_N: NDArray[np.float64], y_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of each y above the least-absolute-deviations line, in robust standard deviations.

    The robust standard deviation is the median distance, scaled to that of a normal distribution.
    """
    if len(y_N) < 2:
        return np.zeros(len(y_N))
    columns_N2 = np.stack([np.ones_like(x_N), x_N], axis=1)
    weight_N = np.ones(len(y_N))
    rest_N = y_N
    for _ in range(REWEIGHTING_ROUNDS):
        root_N = np.sqrt(weight_N)
        line_2, *_ = np.linalg.lstsq(columns_N2 * root_N[:, None], y_N * root_N, rcond=None)
        rest_N = y_N - columns_N2 @ line_2
        weight_N = 1 / np.maximum(np.abs(rest_N), MIN_DISTANCE)
    usual = 1.4826 * float(np.median(np.abs(rest_N)))
    return rest_N / max(usual, MIN_DISTANCE)


def sample_boxes(setup: TrainingSetup, path: str) -> Tensor:
    """The boxes of an image, (N, 5); for a classifier, or without labels, one without a position, or none."""
    dataset = setup.source.dataset
    if not isinstance(dataset, DetectionData):
        return torch.zeros(1, 5)
    augment_config = dataset.augment_config
    try:
        file = find_label(path, augment_config.dialect)
        return read_labels(file, augment_config.classes, allow_class_only=augment_config.allow_class_only).boxes_N5
    except DarkpyError:
        return torch.zeros(0, 5)


def check_scores(ranked: Sequence[Scored], place: str) -> Iterator[Finding]:
    """Samples that alone are enough to lose a network; a note of how many are far from all others.

    place: the list's.
    """
    for one in ranked:
        if not one.is_finite:
            yield data_finding(
                "sample-not-finite",
                Location(one.path),
                f"gives a non-finite value: loss {one.loss:g}, gradient norm {one.norm:g}",
                "look at the image and its labels",
                "take it out of the list",
                severity=Severity.ERROR,
            )
    far = [one for one in ranked if one.is_finite and one.score >= SUSPECT_SCORE]
    if far:
        text = (
            f"{len(far)} of {len(ranked)} samples are {SUSPECT_SCORE:g} or more standard deviations worse than usual"
            f" for their number of objects; the worst, by {far[0].score:.1f}: {far[0].path}"
        )
        yield data_finding("samples-suspect", Location(place), text, severity=Severity.NOTE)


def ruined_by_samples(place: str) -> Finding:
    """Finding for weights with which most images have no finite loss, whatever the images."""
    return Finding(
        name="weights-ruined",
        severity=Severity.ERROR,
        cause=Cause.RATES,
        location=Location(place),
        message="the weights are ruined: most images have a loss that is NaN or infinite, and no image is ranked",
        hints=("an earlier checkpoint",),
    )


def as_csv(ranked: Sequence[Scored]) -> bytes:
    """CSV table of the samples, worst first."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("rank", "score", "loss", "gradient_norm", "objects", "image"))
    for number, one in enumerate(ranked, start=1):
        numbers = (f"{value:.6g}" for value in (one.score, one.loss, one.norm))
        writer.writerow((number, *numbers, one.objects, one.path))
    return stream.getvalue().encode("utf-8", errors="surrogateescape")


def draw_worst(setup: TrainingSetup, ranked: Sequence[Scored], names: Sequence[str]) -> bytes:
    """Draw a PNG of these samples with their boxes, in this order, and a legend of their classes.

    names: of the classes, as far as known.
    """
    tiles = []
    classes: Counter[int] = Counter()
    for number, one in enumerate(ranked, start=1):
        numbers = f"{number}.  score {one.score:.1f}  loss {one.loss:.4g}  gradient {one.norm:.3g}"
        pixels_HW3 = load_image(one.path).pixels_HWC
        boxes_N5 = sample_boxes(setup, one.path)
        classes.update(boxes_N5[boxes_N5[:, 2] > 0, 4].int().tolist())  # those of a classifier have no position
        tiles.append(Tile(pixels_HW3, boxes_N5, (numbers, one.path)))
    return as_png(contact_sheet([*tiles, legend_tile(classes, names)] if classes else tiles))


def _plain(setup: TrainingSetup) -> Dataset:
    """The data without augmentation, in order, each image once."""
    data = setup.source.dataset
    sampler = _InOrder(seed=0, count=len(setup.paths))
    if isinstance(data, DetectionData):
        augment_config = replace(data.augment_config, jitter=0.0, resize=1.0, flip=False, color=ColorRange(), blur=0)
        augment_config = replace(augment_config, gaussian_noise=0, mosaic=False, mixup=False)
        return replace(data, augment_config=augment_config, sampler=sampler)
    assert isinstance(data, ClassificationData | MaskData | RegressionData)
    plain = replace(
        data.augment_config, color=ColorRange(), angle=0.0, aspect=1.0, flip=False, center=True, blur=0, mixing=0
    )
    return replace(data, augment_config=replace(plain, min_crop=plain.width, max_crop=plain.width), sampler=sampler)
