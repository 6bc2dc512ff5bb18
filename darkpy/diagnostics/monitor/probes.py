"""Measurements of the layers during a minibatch; they stay on the device until they are fetched.

Legend: B images, C channels (units), H W rows and columns.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from darkpy.build import Node
from darkpy.layers.base import Layer
from darkpy.ops.norms import NORM_EPS
from darkpy.training.trainer import Trainer

MAX_OUTPUTS = 1 << 16
"""Outputs of a layer that are measured, or those of one image: one image of a large map is enough."""
DEAD_OUTPUTS = 1000
"""Consecutive equal outputs of a dead unit: for a map one measurement, for [connected] many."""
DEAD_MEASUREMENTS = 3
"""Consecutive measurements as well: a unit may ignore the images of one minibatch."""


INPUT_INDEX = -1
"""The layer number of the images themselves."""


SMALL_ARRAY_NUMBERS = 4096


class Figure(NamedTuple):
    """A number of a layer."""

    name: str
    layer: int
    value: Tensor


class LayerProbes:
    """Forward and backward hooks that measure the layers during one minibatch."""

    def __init__(self, trainer: Trainer) -> None:
        self.network = trainer.network
        self._handles: list[RemovableHandle] = []
        self._figures: list[Figure] = []
        self._still: dict[int, Tensor] = {}  # for how many outputs each unit has been constant

    def attach(self, x_BCHW: Tensor) -> None:
        pixels = _some(x_BCHW)
        self._figures = [Figure("low", INPUT_INDEX, pixels.min()), Figure("high", INPUT_INDEX, pixels.max())]
        for node, layer in zip(self.network.plan.nodes, self.network.layers, strict=True):
            self._handles.append(layer.register_forward_hook(partial(self._look, node)))

    def detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def taken(self) -> list[Figure]:
        """Remove and return the measurements, with batch norm's present variances.

        These are the smallest rolling variance of each layer, and the share of those below batch norm's epsilon.
        """
        self.detach()
        for node in self.network.plan.nodes:
            variances = [
                self.network.layers[node.index].get_buffer(array_spec.name).flatten()
                for array_spec in node.arrays
                if array_spec.is_statistic and array_spec.name.endswith("rolling_variance")
            ]
            if variances:
                variance_C = torch.cat(variances)
                self._note("variance", node, variance_C.min())
                self._note("collapsed", node, (variance_C < NORM_EPS).float().mean())
        figures, self._figures = self._figures, []
        return figures

    @torch.no_grad()
    def _look(self, node: Node, layer: Layer, inputs: Any, output: Tensor) -> None:
        y_BCHW = _some(output.detach())
        axes = [axis for axis in range(y_BCHW.dim()) if axis != 1] or [0]
        low_C, high_C = y_BCHW.amin(axes), y_BCHW.amax(axes)
        self._note("low", node, low_C.min())
        self._note("high", node, high_C.max())
        self._note("zero", node, 1 - torch.count_nonzero(y_BCHW) / y_BCHW.numel())
        if node.arrays and layer.training:
            outputs = y_BCHW.numel() // len(low_C)
            still_C = self._still.get(node.index)
            self._still[node.index] = still_C = (low_C == high_C) * (outputs if still_C is None else still_C + outputs)
            is_dead_C = still_C >= max(DEAD_OUTPUTS, DEAD_MEASUREMENTS * outputs)
            self._note("dead", node, is_dead_C.float().mean())
        if output.requires_grad:
            output.register_hook(partial(self._feel, node, layer.bound))  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def _feel(self, node: Node, bound: float, gradient: Tensor) -> None:
        size_BCHW = _some(gradient).abs()
        self._note("delta", node, size_BCHW.max())
        if bound:
            self._note("clamped", node, (size_BCHW > bound).float().mean())

    def _note(self, name: str, node: Node, value: Tensor) -> None:
        self._figures.append(Figure(name, node.index, value))


def _some(array: Tensor) -> Tensor:
    """First images of an array, no more than are needed."""
    if not array.dim() or not len(array):
        return array
    return array[: max(1, math.ceil(MAX_OUTPUTS * len(array) / max(1, array.numel())))]


class ArrayProbes:
    """Norms of weights and gradients, layer by layer; the arrays of a layer count as one vector."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def gradients(self) -> tuple[list[tuple[int, bool]], Tensor]:
        """The gradients of the prepared update, and the deferred ones.

        Returns: of each its layer (-1 for deferred ones) and whether it is one of weights that decay; and (1 + N,),
            the largest value of any that is not deferred, and the 2-norm of each.
        """
        optimizer = self.trainer.optimizer
        owners: list[tuple[int, bool]] = []
        gradients: list[Tensor] = []
        for group in optimizer.active_groups:
            owner = (group["node"].index, group["is_decayed"])
            for param in group["params"]:
                if param.grad is not None:
                    owners.append(owner)
                    gradients.append(param.grad)
        deferred = [gradient for _, gradient in optimizer.deferred if gradient is not None]
        owners += [(-1, False)] * len(deferred)
        if not owners:
            return [], torch.zeros(1)
        norms = _norms([*gradients, *deferred])
        return owners, torch.stack([_largest(gradients) if gradients else norms[0].new_zeros(()), *norms])

    def arrays(self) -> list[Figure]:
        """The norms of the arrays of each layer: of the `weight`s that decay, and of all the `other`s."""
        owners: list[tuple[str, int]] = []
        arrays: list[Tensor] = []
        network = self.trainer.network
        for node in network.plan.nodes:
            layer = cast("Layer", network.layers[node.index])
            for array_spec in node.arrays:
                if (array := layer.array(array_spec)) is not None:
                    owners.append(("weight" if array_spec.is_decayed else "other", node.index))
                    arrays.append(array.detach())
        return [Figure(*owner, norm) for owner, norm in zip(owners, _norms(arrays), strict=True)]

    def steps(self) -> list[Figure]:
        """The norms of the last update of the parameters that took part in it."""
        optimizer = self.trainer.optimizer
        groups = [group for group in optimizer.active_groups if group["is_decayed"]]
        owners = [group["node"].index for group in groups for _ in group["params"]]
        steps = [optimizer.last_step(param, group) for group in groups for param in group["params"]]
        made = [(index, step) for index, step in zip(owners, steps, strict=True) if step is not None]
        norms = _norms([step for _, step in made])
        return [Figure("step", index, norm) for (index, _), norm in zip(made, norms, strict=True)]


def _norms(arrays: list[Tensor]) -> list[Tensor]:
    return list(torch._foreach_norm(arrays, 2)) if arrays else []


def _largest(arrays: list[Tensor]) -> Tensor:
    """Largest absolute value of all arrays."""
    if arrays[0].device.type != "cpu":
        return torch.stack(list(torch._foreach_norm(arrays, math.inf))).max()
    # on a CPU torch's own takes ten times as long, and small arrays take as long as large ones
    parts = []
    for array in arrays:
        if array.numel() > SMALL_ARRAY_NUMBERS:
            if array.dim() == 4 and array.is_contiguous(memory_format=torch.channels_last):
                array = array.permute(0, 2, 3, 1)  # flattened in memory order, without a copy
            parts.append(array.reshape(-1))
    if len(parts) < len(arrays):
        parts.append(torch.cat([array.flatten() for array in arrays if array.numel() <= SMALL_ARRAY_NUMBERS]))
    return torch.stack([end for part in parts for end in torch.aminmax(part)]).abs().max()
