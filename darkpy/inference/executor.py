"""A network's layers as a flat list of functions, in torch.

Legend: B images, C H W channels, rows, columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple, cast

import torch

from darkpy.build import Node, Plan
from darkpy.layers.base import Layer

Function = Callable[..., torch.Tensor]


class Step(NamedTuple):
    """One layer: what it reads, where its output goes, and what nobody reads any more after it.

    source: the place of its only source, or -1 where there are several.
    """

    function: Function
    source: int
    sources: tuple[int, ...]
    target: int
    done: tuple[int, ...]


class Steps:
    """Runs a network's layers in inference, each by a function of its own.

    Layers without one only hand on what they read. Outputs are freed after their last reader. Hooks of the layers are
    not called. Outputs are float32.
    """

    def __init__(self, plan: Plan, outputs: Sequence[int], functions: Mapping[int, Function]) -> None:
        # of each layer's output among all values; in several parts where nobody wants it whole
        places: dict[int, tuple[int, ...]] = {-1: (0,)}
        made: list[tuple[Function, tuple[int, ...], int]] = []
        for node in plan.nodes:
            places[node.index] = tuple(chain.from_iterable(places[source] for source in node.sources))
            if node.index in functions:
                made.append((functions[node.index], places[node.index], len(made) + 1))
                places[node.index] = (len(made),)
        self._size = len(made) + 1
        assert all(len(places[index]) == 1 for index in outputs)
        self._outputs = tuple(places[index][0] for index in outputs)
        self._steps = _with_last_reads(made, self._outputs)

    def __call__(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        values: list[torch.Tensor] = [x_BCHW.contiguous(memory_format=torch.channels_last)] * self._size
        nothing = cast("torch.Tensor", None)
        del x_BCHW
        for function, source, sources, target, done in self._steps:
            values[target] = function(values[source]) if source >= 0 else function(*[values[one] for one in sources])
            for place in done:
                values[place] = nothing
        return [values[place].float() for place in self._outputs]


def is_left_out(node: Node, layer: Layer) -> bool:
    """Whether nothing happens in a layer."""
    return layer.is_transparent and len(node.sources) == 1


def _is_read_in_parts(plan: Plan, layers: Sequence[Layer], index: int) -> bool:
    """Whether a layer only lays its sources behind each other, for readers that need not have them so."""
    readers = [node.index for node in plan.nodes if index in node.sources]
    return layers[index].is_transparent and bool(readers) and all(layers[reader].takes_parts for reader in readers)


def _is_own(plan: Plan, layers: Sequence[Layer], index: int) -> bool:
    """Whether a layer writes its output into memory of its own, as products do, and one other reads it once."""
    reads = sum(node.sources.count(index) for node in plan.nodes)
    return index >= 0 and reads == 1 and bool(plan.nodes[index].arrays) and not layers[index].has_memory


def quicken(plan: Plan, layers: Sequence[Layer], dtype: torch.dtype) -> dict[int, Function]:
    """The fastest function of each layer that is not left out; it takes arrays away from them, with no way back.

    dtype: of the convolutions, float32 or bfloat16.
    """
    functions: dict[int, Function] = {}
    for node, layer in zip(plan.nodes, layers, strict=True):
        if not (is_left_out(node, layer) or _is_read_in_parts(plan, layers, node.index)):
            function = layer.quicken(node.inputs, dtype, may_overwrite=_is_own(plan, layers, node.sources[0]))
            is_exact = dtype == torch.float32 or layer.keeps_type
            functions[node.index] = function if is_exact else _in_float32(function)
    return functions


def plain_steps(plan: Plan, layers: Sequence[Layer], outputs: Sequence[int]) -> Steps:
    """The layers' own arithmetic, for somebody who makes it fast as a whole."""
    functions: dict[int, Function] = {}
    for node, layer in zip(plan.nodes, layers, strict=True):
        if not (is_left_out(node, layer) or _is_read_in_parts(plan, layers, node.index)):
            functions[node.index] = _by_parts(layer) if layer.takes_parts else layer
    return Steps(plan, outputs, functions)


def _by_parts(layer: Layer) -> Function:
    return lambda *parts_BCHW: torch.cat([layer(part_BCHW) for part_BCHW in parts_BCHW], dim=1)


def _in_float32(function: Function) -> Function:
    return lambda *sources: function(*(source.float() for source in sources))


def _with_last_reads(made: Sequence[tuple[Function, tuple[int, ...], int]], kept: Sequence[int]) -> list[Step]:
    last: dict[int, int] = {}
    for number, (_, sources, target) in enumerate(made):
        for place in (*sources, target):
            last[place] = number
    done: dict[int, list[int]] = {}
    for place, number in last.items():
        if place not in kept:
            done.setdefault(number, []).append(place)
    return [
        Step(function, sources[0] if len(sources) == 1 else -1, sources, target, tuple(done.get(number, ())))
        for number, (function, sources, target) in enumerate(made)
    ]
