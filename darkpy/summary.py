"""Summary of a network: darknet's table of layers, and the same as JSON data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from darkpy.build import Node, Plan
from darkpy.layers.base import field_values

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


def as_record(plan: Plan) -> dict[str, Any]:
    """Return the content of `table`, and the values of all keys, as JSON data."""
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
