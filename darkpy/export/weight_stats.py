"""What the arrays of a weight file hold, for people and programs: darknet's statistics and print.

Legend: F filters, K numbers of one.
Source: pjreddie/darknet examples/darknet.c statistics_net, print_weights; src/utils.c print_statistics.
Differs: all layers and all their arrays, where darknet looks at connected layers and [gru] with batch norm and, of the
    weights, at the first numbers only; print knows groups and layers of all kinds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from darkpy.build import Node
from darkpy.errors import DarkpyError
from darkpy.export.weight_tools import LoadedWeights, array_values, layer_at_node
from darkpy.layers.base import ArraySpec

DECAYED = "weights"


@dataclass(frozen=True, slots=True)
class ArrayStats:
    """An array at a glance. mse: darknet's word for the root of the mean square. not_finite: NaN and infinities,
    which the rest leaves out.
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


def array_stats(opened: LoadedWeights, node: Node) -> list[ArrayStats]:
    """Of each array of a layer, in file order."""
    return [_figures(node, array_spec, array_values(opened.network, node, array_spec)) for array_spec in node.arrays]


def _figures(node: Node, array_spec: ArraySpec, array: torch.Tensor) -> ArrayStats:
    numbers = array.detach().double().flatten()
    finite = numbers[torch.isfinite(numbers)]
    lost = len(numbers) - len(finite)
    if not len(finite):
        return ArrayStats(
            node.index, array_spec.name, array_spec.count, math.nan, math.nan, math.nan, math.nan, math.nan, lost
        )
    variance, mean = torch.var_mean(finite, correction=0)
    return ArrayStats(
        layer=node.index,
        array=array_spec.name,
        count=array_spec.count,
        mse=float(finite.square().mean().sqrt()),
        mean=float(mean),
        variance=float(variance),
        minimum=float(finite.min()),
        maximum=float(finite.max()),
        not_finite=lost,
    )


def _is_weights(array_spec: ArraySpec) -> bool:
    return array_spec.name.rpartition(".")[2] == DECAYED


def layer_at(opened: LoadedWeights, index: int) -> Node:
    """A layer with weights. Raises: DarkpyError when there is none of that number in the file."""
    plan = opened.plan
    if not 0 <= index < len(plan.nodes):
        hint = f"{plan.file} has the layers 0 to {len(plan.nodes) - 1}"
        raise DarkpyError(f"there is no layer {index}", hint=hint)
    node = plan.nodes[index]
    if not node.arrays:
        full = ", ".join(str(other.index) for other in opened.nodes if other.arrays)
        raise DarkpyError(f"{plan.place(index)} has no weights", hint=f"these have: {full}")
    if index >= len(opened.nodes):
        raise DarkpyError(f"the file ends before {plan.place(index)}")
    return node


def rows_of(opened: LoadedWeights, node: Node, name: str | None = None) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights of a layer, or its array of that name, a filter a row.

    Shapes: each FK; the weights of layers made of layers come one part after another.
    Raises: DarkpyError when there is no such array.
    """
    names = [array_spec.name for array_spec in node.arrays]
    wanted = [
        array_spec
        for array_spec in node.arrays
        if (_is_weights(array_spec) if name is None else array_spec.name == name)
    ]
    if not wanted:
        raise DarkpyError(
            f"{opened.plan.place(node.index)} has no array {name or DECAYED}", hint=f"its arrays: {', '.join(names)}"
        )
    for array_spec in wanted:
        array = array_values(opened.network, node, array_spec).detach()
        axis = getattr(layer_at_node(opened.network, node), "filter_axis", 0) if array.dim() > 1 else 0
        yield array_spec.name, array.movedim(axis, 0).reshape(array.shape[axis], -1)
