"""Statistics and values of the arrays of a weight file: darknet's statistics and print.

Legend: F filters, K values of one filter.
Source: pjreddie/darknet examples/darknet.c statistics_net, print_weights; src/utils.c print_statistics.
Differs: all layers and all their arrays, where darknet looks at connected layers and [gru] with batch norm and, of the
    weights, at the first values only; print handles groups and layers of all kinds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from darkpy.build import Node
from darkpy.errors import DarkpyError
from darkpy.export.weight_tools import LoadedWeights, array_values, layer_at_node

WEIGHTS_ARRAY = "weights"


@dataclass(frozen=True, slots=True)
class ArrayStats:
    """Statistics of an array's finite values.

    mse: darknet's word for the root mean square. not_finite: count of NaN and infinities.
    """

    layer: int
    array: str
    count: int
    mse: float
    mean: float
    variance: float
    minimum: float
    maximum: float
    not_finite: int


def array_stats(loaded: LoadedWeights, node: Node) -> list[ArrayStats]:
    """Compute the statistics of each array of a layer, in file order; NaN for an array without finite values."""
    stats = []
    for array_spec in node.arrays:
        values = array_values(loaded.network, node, array_spec).detach().double().flatten()
        finite = values[torch.isfinite(values)]
        numbers = (math.nan,) * 5
        if len(finite):
            variance, mean = torch.var_mean(finite, correction=0)
            rms = finite.square().mean().sqrt()
            numbers = (float(rms), float(mean), float(variance), float(finite.min()), float(finite.max()))
        not_finite = len(values) - len(finite)
        stats.append(ArrayStats(node.index, array_spec.name, array_spec.count, *numbers, not_finite))
    return stats


def layer_at(loaded: LoadedWeights, index: int) -> Node:
    """Return a layer that has weights. Raises: DarkpyError when there is none with that index in the file."""
    plan = loaded.plan
    if not 0 <= index < len(plan.nodes):
        hint = f"{plan.file} has the layers 0 to {len(plan.nodes) - 1}"
        raise DarkpyError(f"there is no layer {index}", hint=hint)
    node = plan.nodes[index]
    if not node.arrays:
        with_weights = ", ".join(str(other.index) for other in loaded.nodes if other.arrays)
        raise DarkpyError(f"{plan.place(index)} has no weights", hint=f"layers with weights: {with_weights}")
    if index >= len(loaded.nodes):
        raise DarkpyError(f"the file ends before {plan.place(index)}")
    return node


def rows_of(loaded: LoadedWeights, node: Node, name: str | None = None) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the weights of a layer, or its array of that name, one filter a row.

    Shapes: each FK; the weights of recurrent layers come one part after another.
    Raises: DarkpyError when there is no such array.
    """
    selected = [
        array_spec
        for array_spec in node.arrays
        if (array_spec.name.rpartition(".")[2] == WEIGHTS_ARRAY if name is None else array_spec.name == name)
    ]
    if not selected:
        names = ", ".join(array_spec.name for array_spec in node.arrays)
        raise DarkpyError(
            f"{loaded.plan.place(node.index)} has no array {name or WEIGHTS_ARRAY}", hint=f"its arrays: {names}"
        )
    for array_spec in selected:
        array = array_values(loaded.network, node, array_spec).detach()
        axis = getattr(layer_at_node(loaded.network, node), "filter_axis", 0) if array.dim() > 1 else 0
        yield array_spec.name, array.movedim(axis, 0).reshape(array.shape[axis], -1)
