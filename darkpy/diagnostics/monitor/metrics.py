"""Metrics of an update: measured on the device, fetched at once, returned as rows of one value a layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from darkpy.diagnostics.monitor.finding_history import rows_of
from darkpy.diagnostics.monitor.probes import ArrayProbes, LayerProbes
from darkpy.diagnostics.monitor.symptoms import Row
from darkpy.training.trainer import Trainer

EUCLIDEAN_NORM = 2.0
CLIP_EPSILON = 1e-6
"""Added to a norm by torch before it clips by it."""


class UpdateMetrics:
    """Measurements of an update and, where they are taken, of its layers.

    norm: the 2-norm of all gradients before clipping; gradient: of each layer's gradients; largest: the largest
        absolute value of all. The latter two are known where the layers were measured or something is wrong.
    clipped: fraction of the gradients that grad_clip_norm left, at the last such update.
    has_finite_gradients: all gradients are finite, the deferred ones too.
    has_finite_arrays: all weights and variances are finite, as of their last measurement.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.norm = self.largest = 0.0
        self.gradient: Row = {}
        self.has_finite_gradients = self.has_finite_arrays = True
        self._layers, self._arrays = LayerProbes(trainer), ArrayProbes(trainer)
        self._is_looking = False
        self._rows: dict[str, Row] = {}
        self._weight: Row = {}
        self._decayed: Row = {}
        self._least_weight = 0.0  # the smallest norm of any layer's weights
        self.clipped = 1.0

    def look(self, x_BCHW: Tensor) -> None:
        """Measure the layers during the coming minibatch."""
        self._is_looking = True
        self._layers.attach(x_BCHW)

    def end(self) -> None:
        """End the minibatch."""
        self._layers.detach()
        self._is_looking = False

    def fetch(self, norm: Tensor, rate: float, wants_layers: Callable[[float, float], bool]) -> None:
        """Wait for the gradients of the update that is prepared, and for what was seen of the layers.

        norm: by which grad_clip_norm clips. rate: the largest of any layer. wants_layers: whether the layers' gradients
            must be known of an update with this norm, and with at most such a share of rate times gradient in weights.
        """
        optimizer, net = self.trainer.optimizer, self.trainer.net
        if not (self._is_looking or optimizer.deferred) and net.grad_clip_type == EUCLIDEAN_NORM:
            self.norm, self.largest, self.gradient, self._decayed = float(norm), math.nan, {}, {}
            self.has_finite_gradients = math.isfinite(self.norm)
            max_step_ratio = rate * self.norm / self._least_weight if self._least_weight else math.inf
            if self.has_finite_gradients and not wants_layers(self.norm, max_step_ratio):
                return
        self._fetch_layers(norm)

    def _fetch_layers(self, norm: Tensor) -> None:
        owners, norms_N = self._arrays.gradients()
        figures = [*self._layers.taken(), *self._arrays.arrays()] if self._is_looking else []
        clipping, self.largest, *numbers = _fetched([norm, norms_N, *(figure.value for figure in figures)])
        norms, seen = numbers[: len(owners)], numbers[len(owners) :]
        self.has_finite_gradients = all(map(math.isfinite, norms))
        due = [(index, is_decayed, one) for (index, is_decayed), one in zip(owners, norms, strict=True) if index >= 0]
        self.gradient = _row((index, one) for index, _, one in due)
        self._decayed = _row((index, one) for index, is_decayed, one in due if is_decayed)
        self.norm = math.hypot(*self.gradient.values())
        bound = self.trainer.net.grad_clip_norm
        self.clipped = min(1.0, bound / (clipping + CLIP_EPSILON)) if bound else 1.0
        if figures:
            self._rows = rows_of((figure.name, figure.layer, one) for figure, one in zip(figures, seen, strict=True))
            self._weight = self._rows.pop("weight", {})
            arrays = [*self._weight.values(), *self._rows.pop("other", {}).values()]
            self.has_finite_arrays = all(map(math.isfinite, arrays))
            self._least_weight = min((one for one in self._weight.values() if one), default=math.inf)

    def step_ratio(self, rate: float) -> Row:
        """Ratio of rate times clipped gradient to the weights, where these have been measured."""
        nodes, limit = self.trainer.network.plan.nodes, self.trainer.net.grad_clip_value
        ratios: dict[int, float] = {}
        for index, gradient in self._decayed.items():
            if weight := self._weight.get(index):
                step = self.clipped * gradient
                if limit:
                    values = sum(math.prod(spec.shape) for spec in nodes[index].arrays if spec.is_decayed)
                    step = min(step, limit * math.sqrt(values))
                ratios[index] = rate * nodes[index].spec.learning_rate * step / weight
        return ratios

    def rows(self) -> dict[str, Row]:
        """Metrics of the layers, after the update with the size of its step; empty if they were not measured."""
        if not self._is_looking:
            return {}
        steps = self._arrays.steps()
        made = _row(zip((step.layer for step in steps), _fetched([step.value for step in steps]), strict=True))
        ratio = {index: step / self._weight[index] for index, step in made.items() if self._weight.get(index)}
        return {**self._rows, "ratio": ratio}


def _fetched(arrays: Sequence[Tensor]) -> list[float]:
    """Fetch all numbers of some arrays with one copy."""
    if not arrays:
        return []
    device = arrays[-1].device
    numbers: list[float] = torch.cat([array.detach().to(device).float().flatten() for array in arrays]).tolist()
    return numbers


def _row(figures: Iterable[tuple[int, float]]) -> Row:
    return rows_of(("", index, one) for index, one in figures).get("", {})
