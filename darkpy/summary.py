"""Summary of a network: darknet's table of layers, and the same as JSON data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from darkpy.build import Node, Plan
from darkpy.config.schema import MAX_INT
from darkpy.layers.base import field_values
from darkpy.layers.loss import LossSpec

_TABLE_HEADINGS = ("layer", "type", "filters", "size/stride", "input", "", "output", "BF", "weights")
_LEFT_ALIGNED = (1, 3, 5)
"""Columns of text; numbers are aligned to the right."""


def table(plan: Plan) -> str:
    """Format the table of layers, with the totals in the last line.

    Units:  sizes are width x height x channels; BF are 1e9 operations an image; weights are the values in a
            `.weights` file, with rolling statistics.
    Source: AlexeyAB/darknet src/parser.c parse_network_cfg
    """
    rows = [_TABLE_HEADINGS, *map(_row, plan.nodes)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if column in _LEFT_ALIGNED else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    totals = f"{len(plan.nodes)} layers, {plan.parameter_count:,} weights, {plan.bflops:.3f} BFLOPs an image"
    return "\n".join([*lines, f"{plan.file}: {totals}"])


def delta_constraint(plan: Plan) -> str:
    """Describe the bounds of the delta constraint: once if all layers with one have the same, else layer by layer."""
    layers_by_bound: dict[float, list[int]] = {}
    for node in plan.nodes:
        if (bound := node.spec.delta_bound(node.inputs, plan.net)) is not None:
            layers_by_bound.setdefault(bound, []).append(node.index)
    texts = {bound: f"[{-bound:g}, {bound:g}]" if bound else "off" for bound in layers_by_bound}
    if len(texts) <= 1:
        return next(iter(texts.values()), "off")
    return "; ".join(
        f"{texts[bound]} in layer{'s' * (len(layers) > 1)} {_ranges(layers)}"
        for bound, layers in layers_by_bound.items()
    )


def describe_training(plan: Plan, frozen_layers: int = 0) -> str:
    """Tell which layers with weights learn in training: `layers 0-9 frozen, batch norm statistics too; ...`.

    frozen_layers: number of the first layers that `--freeze` freezes.
    """
    states = _training_states(plan, frozen_layers)
    learned = [node for node in plan.nodes if any(not array.is_statistic for array in node.arrays)]
    learned_states = dict.fromkeys(states[node.index] for node in learned)
    if list(learned_states) == [""]:
        return "every layer learns"
    count = sum(node.parameter_count for node in learned if not states[node.index])
    parts: list[str] = []
    for state in learned_states:
        indices = [node.index for node in plan.nodes if states[node.index] == state]
        what = state or f"learn{'s' * (len(indices) == 1)} ({count:,} of {plan.parameter_count:,} weights)"
        parts.append(f"layer{'s' * (len(indices) > 1)} {_ranges(indices)} {what}")
    return "; ".join(parts) or "no layer has weights"


def _training_states(plan: Plan, frozen_layers: int) -> list[str]:
    """Describe for each layer why its weights stay as they are; empty where they learn.

    Source: `Network.losses` and `Optimizer.prepare`, which do this.
    """
    nodes, burn_in = plan.nodes, plan.net.burn_in
    whole = max(frozen_layers, *(node.index for node in nodes if node.spec.freezes_inputs), 0)
    last_stopped = max((node.index for node in nodes if node.spec.is_frozen(MAX_INT)), default=-1)
    last_only_norm = max((node.index for node in nodes if node.spec.train_only_bn), default=-1)
    reached = _reached_by_gradient(plan)
    states: list[str] = []
    for node in nodes:
        spec = node.spec
        # the largest of the keys that defer the updates; stopbackward=N does so for all layers before, too
        begins = max(
            spec.dont_update + 1,
            math.ceil(spec.burnin_update * burn_in),
            *(other.spec.stopbackward for other in nodes[node.index :] if other.spec.is_frozen(1)),
        )
        if node.index < whole:
            state = "frozen, batch norm statistics too"
        elif node.index <= max(last_stopped, last_only_norm) or not spec.learning_rate:
            state = "frozen, batch norm statistics roll on"
        elif not reached[node.index]:
            state = "frozen: no gradient reaches them (onlyforward)"
        else:
            state = f"frozen until update {begins}" if begins > 1 else ""
        states.append(state)
    return states


def _reached_by_gradient(plan: Plan) -> list[bool]:
    """Tell for each layer whether the gradient of a loss reaches it past the layers that block it."""
    reached = [isinstance(node.spec, LossSpec) and node.spec.has_loss for node in plan.nodes]
    reached[-1] |= not any(reached)
    for node in reversed(plan.nodes):
        reached[node.index] &= not node.spec.blocks_gradient
        if reached[node.index]:
            for source in node.sources:
                if source >= 0:
                    reached[source] = True
    return reached


def _ranges(indices: Sequence[int]) -> str:
    """Format ascending numbers as `0-3, 5`."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def count_operations(plan: Plan) -> int:
    """Count multiplications and additions of the layers with weights for one image, as darknet's `ops` does.

    Source: pjreddie/darknet examples/darknet.c numops
    Differs: all types of layers with weights count; AlexeyAB's program ignores groups.
    """
    weighted = (node for node in plan.nodes if node.arrays or node.spec.shared_with(node.index))
    return sum(node.spec.operations(node.inputs) for node in weighted)


def as_record(plan: Plan, frozen_layers: int = 0) -> dict[str, Any]:
    """Return the content of `table`, what `--freeze` and keys freeze, and the values of all keys, as JSON data."""
    states = _training_states(plan, frozen_layers)
    return {
        "file": plan.file,
        "dialect": str(plan.dialect),
        "input": plan.input_shape,
        "parameter_count": plan.parameter_count,
        "bflops": round(plan.bflops, 9),
        "foreign": plan.extensions,
        "layers": [
            {
                "index": node.index,
                "type": node.type,
                "line": node.section.line,
                "sources": node.sources,
                "shape": node.shape,
                "parameter_count": node.parameter_count,
                "bflops": round(node.bflops, 9),
                "frozen": states[node.index],
                "delta_bound": node.spec.delta_bound(node.inputs, plan.net),
                "keys": {
                    name: str(value) if isinstance(value, Path) else value for name, value in field_values(node.spec)
                },
            }
            for node in plan.nodes
        ],
    }


def _row(node: Node) -> tuple[str, ...]:
    keys = dict(field_values(node.spec))
    return (
        str(node.index),
        node.type,
        str(keys.get("filters", "")),
        _window(keys) if node.sources == (node.index - 1,) else f"reads {', '.join(map(str, node.sources))}",
        str(node.inputs[0]),
        "->",
        str(node.shape),
        f"{node.bflops:.3f}" if node.bflops else "",
        f"{node.parameter_count:,}" if node.parameter_count else "",
    )


def _window(keys: Mapping[str, Any]) -> str:
    """Format `3 x 3 / 2 (dilation 4)`, as far as the layer has these keys."""
    stride = keys.get("stride")
    if stride is None:
        return ""
    stride_x, stride_y = keys.get("stride_x") or stride, keys.get("stride_y") or stride
    size = keys["size"] or stride if "size" in keys else None
    window = f"{size} x {size} / " if size else "/ "
    strides = f"{stride_x}" if stride_x == stride_y else f"{stride_x} x {stride_y}"
    dilation = keys.get("dilation", 1)
    return f"{window}{strides}" + (f" (dilation {dilation})" if dilation != 1 else "")
