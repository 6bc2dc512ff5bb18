"""A network's layers as a flat list of functions, in torch.

Legend: B images, C H W channels, rows, columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple, cast

import torch

from darkpy.build import Node, Plan
from darkpy.inference.conv_kernels import ConvTask
from darkpy.inference.lowering import Function, Lowering, accepts_unconcatenated, conv_task, lower
from darkpy.layers.base import Layer
from darkpy.process import release_free_memory

LARGE_LAYER_PARAMETERS = 1 << 22


class Step(NamedTuple):
    """One layer: the slots of the values that it reads, writes, and frees because no later step reads them.

    source: the slot of its only source, -1 if it has several.
    """

    function: Function
    source: int
    sources: tuple[int, ...]
    target: int
    freed: tuple[int, ...]


class Executor:
    """Runs a network's layers in inference, each by the function given for it.

    A layer without a function passes its sources on. Outputs are freed after their last reader, and are float32.
    Hooks of the layers are not called.
    """

    def __init__(self, plan: Plan, outputs: Sequence[int], functions: Mapping[int, Function]) -> None:
        # the slots of each layer's output: several where it stays unconcatenated
        slots: dict[int, tuple[int, ...]] = {-1: (0,)}
        calls: list[tuple[Function, tuple[int, ...], int]] = []
        for node in plan.nodes:
            slots[node.index] = tuple(chain.from_iterable(slots[source] for source in node.sources))
            if node.index in functions:
                calls.append((functions[node.index], slots[node.index], len(calls) + 1))
                slots[node.index] = (len(calls),)
        self._slot_count = len(calls) + 1
        assert all(len(slots[index]) == 1 for index in outputs)
        self._outputs = tuple(slots[index][0] for index in outputs)
        last_use: dict[int, int] = {}  # slot -> step
        for step, (_, sources, target) in enumerate(calls):
            for slot in (*sources, target):
                last_use[slot] = step
        freed: dict[int, list[int]] = {}
        for slot, step in last_use.items():
            if slot not in self._outputs:
                freed.setdefault(step, []).append(slot)
        self._steps = [
            Step(function, sources[0] if len(sources) == 1 else -1, sources, target, tuple(freed.get(step, ())))
            for step, (function, sources, target) in enumerate(calls)
        ]

    def __call__(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        values: list[torch.Tensor] = [x_BCHW.contiguous(memory_format=torch.channels_last)] * self._slot_count
        empty = cast("torch.Tensor", None)
        del x_BCHW  # so that the first layer's input can be freed, too
        for function, source, sources, target, freed in self._steps:
            values[target] = function(values[source]) if source >= 0 else function(*[values[slot] for slot in sources])
            for slot in freed:
                values[slot] = empty
        return [values[slot].float() for slot in self._outputs]


def is_elided(node: Node, layer: Layer) -> bool:
    """True if a layer passes its only source on unchanged."""
    return layer.is_identity and len(node.sources) == 1


def in_lowering_order(plan: Plan) -> list[Node]:
    """Return layers with few weights first: kernels that need more memory gain most per byte there."""
    return sorted(plan.nodes, key=lambda node: node.parameter_count)


def conv_tasks(plan: Plan, layers: Sequence[Layer], lowering: Lowering) -> dict[int, ConvTask]:
    """Return the plain convolutions of folded layers, by layer, in the order in which kernels are chosen."""
    tasks = {node.index: conv_task(layers[node.index], node.inputs, lowering) for node in in_lowering_order(plan)}
    return {index: task for index, task in tasks.items() if task is not None}


def lower_layers(plan: Plan, layers: Sequence[Layer], lowering: Lowering) -> dict[int, Function]:
    """Return the fastest function of each layer that runs; it takes over their arrays: irreversible."""
    functions: dict[int, Function] = {}
    for node in in_lowering_order(plan):
        layer = layers[node.index]
        if _runs(plan, layers, node):
            source = node.sources[0]
            reads = sum(reader.sources.count(source) for reader in plan.nodes)
            # layers with weights allocate their output; recurrent ones may still read it at the next call
            is_new = source >= 0 and bool(plan.nodes[source].arrays) and not layers[source].has_memory
            function = lower(layer, node.inputs, lowering, inplace=is_new and reads == 1)
            accepts_dtype = lowering.dtype == torch.float32 or layer.preserves_dtype
            functions[node.index] = function if accepts_dtype else in_float32(function)
            if node.parameter_count >= LARGE_LAYER_PARAMETERS:  # its weights were copied several times
                release_free_memory()
    return functions


def reference_executor(
    plan: Plan, layers: Sequence[Layer], outputs: Sequence[int], functions: Mapping[int, Function] | None = None
) -> Executor:
    """Return an executor of the layers' own arithmetic, to be compiled as a whole. functions: those of some layers."""
    chosen: dict[int, Function] = {}
    for node, layer in zip(plan.nodes, layers, strict=True):
        if _runs(plan, layers, node):
            function = (functions or {}).get(node.index, layer)
            chosen[node.index] = _concatenated(function) if accepts_unconcatenated(layer) else function
    return Executor(plan, outputs, chosen)


def _runs(plan: Plan, layers: Sequence[Layer], node: Node) -> bool:
    """Return False for a layer that is elided, or whose concatenation no reader needs."""
    if not layers[node.index].is_identity:
        return True
    readers = [reader.index for reader in plan.nodes if node.index in reader.sources]
    stays_unconcatenated = bool(readers) and all(accepts_unconcatenated(layers[reader]) for reader in readers)
    return not (stays_unconcatenated or is_elided(node, layers[node.index]))


def _concatenated(function: Function) -> Function:
    """Return a function that processes each of several parts on its own; a single part is not copied."""

    def concatenated(*parts_BCHW: torch.Tensor) -> torch.Tensor:
        outputs = [function(part_BCHW) for part_BCHW in parts_BCHW]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)

    return concatenated


def in_float32(function: Function) -> Function:
    """Return the function for inputs of any dtype; a conversion to the same dtype would become a step of a program."""
    return lambda *sources: function(*(x if x.dtype is torch.float32 else x.float() for x in sources))
