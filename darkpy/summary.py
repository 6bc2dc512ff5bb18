"""A network at a glance: darknet's table, which people quote, and the same for programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from darkpy.build import Node, Plan
from darkpy.layers.base import field_values

_HEADINGS = ("layer", "type", "filters", "size/stride", "input", "", "output", "BF", "weights")
_LEFT = (1, 3, 5)
"""Columns of text; numbers stand on the right."""


def table(plan: Plan) -> str:
    """A line for each layer, the sums below it.

    Units:  sizes are width x height x channels; BF billions of operations for one image; weights the numbers that a
            `.weights` file holds, rolling statistics included.
    Source: AlexeyAB/darknet src/parser.c parse_network_cfg
    """
    rows = [_HEADINGS, *map(_row, plan.nodes)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(_aligned(row, place, widths[place]) for place in range(len(row))).rstrip() for row in rows]
    sums = f"{len(plan.nodes)} layers, {plan.parameter_count:,} weights, {plan.bflops:.3f} BFLOPs an image"
    return "\n".join([*lines, f"{plan.file}: {sums}"])


def count_operations(plan: Plan) -> int:
    """Multiplications and additions of the layers with weights, for one image: the number of darknet's `ops`.

    Source: pjreddie/darknet examples/darknet.c numops
    Differs: layers with weights of all kinds count; AlexeyAB's program forgets groups.
    """
    weighing = (node for node in plan.nodes if node.arrays or node.spec.shared_with(node.index))
    return sum(node.spec.operations(node.inputs) for node in weighing)


def as_record(plan: Plan) -> dict[str, Any]:
    """What `table` shows, and every key with the value it has, in numbers and words that JSON knows."""
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
                "keys": {name: _plain(value) for name, value in field_values(node.spec)},
            }
            for node in plan.nodes
        ],
    }


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


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
    """`3 x 3 / 2 (dilation 4)`, or what there is of that."""
    stride = keys.get("stride")
    if stride is None:
        return ""
    across, down = keys.get("stride_x") or stride, keys.get("stride_y") or stride
    size = keys["size"] or stride if "size" in keys else None
    window = f"{size} x {size} / " if size else "/ "
    step = f"{across}" if across == down else f"{across} x {down}"
    dilation = keys.get("dilation", 1)
    return f"{window}{step}" + (f" (dilation {dilation})" if dilation != 1 else "")


def _aligned(row: tuple[str, ...], place: int, width: int) -> str:
    return row[place].ljust(width) if place in _LEFT else row[place].rjust(width)
