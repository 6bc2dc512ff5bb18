"""Layer-by-layer comparison with a dump, other weights or an ONNX file: the first layer that differs, and why.

Legend: B images, C H W channels, rows, columns.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from darkpy.build import Plan
from darkpy.errors import DarkpyError, ShapeError
from darkpy.evaluation.dump import is_dump, open_dump
from darkpy.evaluation.onnx_outputs import Matching, matchings, run_onnx
from darkpy.layers.base import field_values
from darkpy.layers.head import HeadSpec
from darkpy.layers.maxpool import MaxpoolSpec
from darkpy.network import Network
from darkpy.shapes import Shape

RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 1e-5, 1e-6
"""Outputs agree when no value differs by more than relative tolerance * largest value + absolute tolerance."""

MAX_TRACE_VALUES = 1 << 30  # 4 GiB of float32: the outputs of all layers for the whole batch


@dataclass(frozen=True, slots=True)
class LayerDifference:
    """Difference of one layer's output from the other program's.

    index: -1 for the network's input.
    difference: the largest |a - b|, b being the other's; infinite where only one of them is NaN.
    largest: the largest finite |b|.
    at: image, channel, row, column of the largest difference. departs: True if above the tolerance.
    """

    index: int
    type: str
    shape: Shape
    difference: float
    largest: float
    at: tuple[int, int, int, int]
    departs: bool

    @property
    def relative(self) -> float:
        """Difference divided by the largest value."""
        if self.largest:
            return self.difference / self.largest
        return math.inf if self.difference else 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Result of a comparison: `rows` in cfg order, `notes` on the outputs that were matched or ignored.

    Shapes: x_BCHW is the network's input.
    place, cause: the first layer that departs, as the cfg names it, and its likely cause, if known.
    """

    x_BCHW: torch.Tensor
    rows: tuple[LayerDifference, ...]
    notes: tuple[str, ...] = ()
    place: str | None = None
    cause: str | None = None

    @property
    def first(self) -> LayerDifference | None:
        """First layer that departs."""
        return next((row for row in self.rows if row.departs), None)


def random_input(network: Network, seed: int) -> torch.Tensor:
    """Random input between 0 and 1, a batch of one; the same seed reproduces it."""
    return torch.rand((1, *network.plan.input_shape), generator=torch.Generator().manual_seed(seed))


def compare(
    network: Network,
    against: str | os.PathLike[str],
    x_BCHW: torch.Tensor | None = None,
    *,
    other: Plan | None = None,
    seed: int = 0,
    tolerance: float = RELATIVE_TOLERANCE,
) -> Comparison:
    """Compare the outputs of all layers with a dump (`.npz`), an ONNX file (`.onnx`) or other weights for the same cfg.

    x_BCHW: the input; None takes the dump's own, otherwise `random_input(seed)`.
    other: the plan of the other weights, if it is not the network's.
    tolerance: relative; the absolute one is fixed.
    Raises: DarkpyError when the file cannot be read or has other shapes than the cfg.
    """
    path = Path(against)
    is_onnx = path.suffix.lower() == ".onnx"
    is_weights = not is_onnx and not is_dump(path)
    if other is not None and not is_weights:
        raise DarkpyError(f"{other.file} cannot be used: {path} is not a weight file")
    if not is_onnx and not is_weights:
        return _with_dump(network, path, x_BCHW, tolerance)
    if x_BCHW is None:
        x_BCHW = random_input(network, seed)
    if is_onnx:
        return _with_onnx(network, path, x_BCHW, tolerance)
    theirs = Network(network.plan if other is None else other)
    theirs.load_weights(path)
    theirs.initialize()
    return _with_network(network, theirs.to(network.device), x_BCHW, tolerance)


def trace(network: Network, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
    """Compute the outputs of all layers, recurrent ones from their initial state.

    Raises: ShapeError when they would take too much memory together.
    """
    values = len(x_BCHW) * _values_per_image(network.plan)
    if values > MAX_TRACE_VALUES:
        raise ShapeError(
            f"the outputs of all layers for {len(x_BCHW)} images of {network.plan.input_shape} take "
            f"{values * 4 / 2**30:.1f} GiB, the limit is {MAX_TRACE_VALUES * 4 / 2**30:.0f}",
            hint="make [net] width and height smaller",
        )
    network.reset_state()
    with torch.inference_mode():
        return network.trace(x_BCHW.to(network.device))


def _values_per_image(plan: Plan) -> int:
    return sum(node.shape.outputs for node in plan.nodes)


def _with_dump(network: Network, path: Path, x_BCHW: torch.Tensor | None, tolerance: float) -> Comparison:
    plan, rows = network.plan, []
    with open_dump(path) as dump:
        known = [index for index in dump.layers if index < len(plan.nodes)]
        if not known:
            raise DarkpyError(
                f"{path} holds no layer of {plan.file}",
                hint="its arrays are called layer0, layer1, ..., and x the input",
            )
        if dump.has_input:
            dumped_BCHW = dump.read_input(
                plan.input_shape, max_batch=max(1, MAX_TRACE_VALUES // _values_per_image(plan))
            )
            if x_BCHW is not None:
                rows.append(_difference(-1, "input", x_BCHW, dumped_BCHW, tolerance))
            x_BCHW = dumped_BCHW if x_BCHW is None else x_BCHW
        if x_BCHW is None:
            raise DarkpyError(f"{path} does not hold the network's input x", hint="name the image it was made from")
        ours = trace(network, x_BCHW)
        for index in known:
            theirs_BCHW = dump.read_layer(index, len(x_BCHW), plan.nodes[index].shape)
            rows.append(_difference(index, plan.nodes[index].type, ours[index], theirs_BCHW, tolerance))
        missing = sorted(set(range(len(plan.nodes))) - set(known))
        unknown = [*(f"layer{index}" for index in dump.layers if index not in known), *dump.unknown_names]
    notes = [f"{path} does not hold {_listed([f'layer{index}' for index in missing])}"] if missing else []
    notes += [f"{plan.file} has no {_listed(unknown)}, which {path} holds"] if unknown else []
    return _conclude(plan, x_BCHW, rows, notes, lambda index: likely_cause(plan, index))


def _with_network(network: Network, other: Network, x_BCHW: torch.Tensor, tolerance: float) -> Comparison:
    """Compare the other network's outputs in hooks, while they appear, so that only one trace is in memory."""
    plan = network.plan
    if plan.input_shape != other.plan.input_shape:
        raise ShapeError(f"{plan.file} reads {plan.input_shape}, {other.plan.file} reads {other.plan.input_shape}")
    for node, other_node in zip(plan.nodes, other.plan.nodes, strict=False):
        if node.shape != other_node.shape:
            place, other_place = plan.place(node.index), other.plan.place(other_node.index)
            raise ShapeError(f"{place} is {node.shape}, but {other_place} is {other_node.shape}: nothing to compare")
    if len(plan.nodes) != len(other.plan.nodes):
        raise ShapeError(f"{plan.file} has {len(plan.nodes)} layers, {other.plan.file} has {len(other.plan.nodes)}")
    ours = trace(network, x_BCHW)
    rows: list[LayerDifference] = []

    def comparing_hook(index: int) -> Callable[[Any, Any, torch.Tensor], None]:
        return lambda layer, inputs, output: rows.append(
            _difference(index, plan.nodes[index].type, ours[index], output, tolerance)
        )

    hooks = [layer.register_forward_hook(comparing_hook(index)) for index, layer in enumerate(other.layers)]
    with torch.inference_mode():
        other(x_BCHW.to(other.device))
    for hook in hooks:
        hook.remove()
    return _conclude(plan, x_BCHW, rows, [], lambda index: _different_arrays_or_keys(network, other, index))


def _with_onnx(network: Network, path: Path, x_BCHW: torch.Tensor, tolerance: float) -> Comparison:
    plan = network.plan
    outputs = run_onnx(path, x_BCHW)
    ours = trace(network, x_BCHW)

    def rows_of(matching: Matching) -> list[LayerDifference]:
        return [
            _difference(index, plan.nodes[index].type, ours[index], outputs[name].reshape(ours[index].shape), tolerance)
            for index, name in sorted(matching.items())
        ]

    # a head's output and its input have the same shape: of two matchings take the one with the smaller difference
    def quality(matching: Matching) -> tuple[int, float]:
        return -len(matching), max((row.relative for row in rows_of(matching)), default=0.0)

    best = min(matchings(plan, network.outputs, outputs, len(x_BCHW)), key=quality)
    if not best:
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in outputs.items())
        raise ShapeError(
            f"{path}: no output has the shape of a head's output: {shapes}",
            hint="export the raw outputs of the heads, or outputs named layer0, layer1, ...",
        )
    notes = [f"output {name!r} was taken for {plan.place(index)}" for index, name in sorted(best.items())]
    ignored = [name for name in outputs if name not in best.values()]
    notes += [f"nothing was compared with output {_listed(ignored)}"] if ignored else []
    return _conclude(plan, x_BCHW, rows_of(best), notes, lambda index: likely_cause(plan, index))


def _difference(index: int, type: str, ours: torch.Tensor, theirs: torch.Tensor, tolerance: float) -> LayerDifference:
    ours_BCHW, theirs_BCHW = ours.float().cpu(), theirs.float().cpu()
    is_equal = (ours_BCHW == theirs_BCHW) | (ours_BCHW.isnan() & theirs_BCHW.isnan())
    diff_BCHW = torch.where(is_equal, 0.0, (ours_BCHW - theirs_BCHW).abs()).nan_to_num(nan=math.inf, posinf=math.inf)
    position = int(diff_BCHW.argmax())
    at = torch.unravel_index(torch.tensor(position), diff_BCHW.shape)
    difference = float(diff_BCHW.flatten()[position])
    largest = float(theirs_BCHW.abs().nan_to_num(nan=0.0, posinf=0.0).max())
    shape = Shape(*diff_BCHW.shape[1:])
    b, c, h, w = (int(coordinate) for coordinate in at)
    departs = difference > tolerance * largest + ABSOLUTE_TOLERANCE
    return LayerDifference(index, type, shape, difference, largest, (b, c, h, w), departs)


def _conclude(
    plan: Plan,
    x_BCHW: torch.Tensor,
    rows: Sequence[LayerDifference],
    notes: Sequence[str],
    explain: Callable[[int], str | None],
) -> Comparison:
    comparison = Comparison(x_BCHW, tuple(rows), tuple(notes))
    if comparison.first is None:
        return comparison
    index = comparison.first.index
    place = "the network's input" if index < 0 else plan.place(index)
    return replace(comparison, place=place, cause=explain(index))


def likely_cause(plan: Plan, index: int) -> str | None:
    """Known difference of other programs from darknet in a layer of this kind (-1 for the input)."""
    if index < 0:
        return (
            "the image: letterboxing (pjreddie) against stretching (AlexeyAB) or cropping; resizing 8-bit pixels, "
            "where darknet resizes floats; red and blue swapped"
        )
    node = plan.nodes[index]
    if isinstance(node.spec, MaxpoolSpec):
        return (
            "the border: darknet pads with minus infinity, a window of 2 at stride 1 only on the right and below; "
            "other programs pad with zeros or on all sides"
        )
    if isinstance(node.spec, HeadSpec):
        return "the decoding of boxes: scale_x_y= and new_coords= are often ignored or taken for fixed"
    if any(array_spec.is_norm for array_spec in node.arrays):
        return (
            "batch norm's epsilon: darknet divides by sqrt(variance + 1e-5), pjreddie's CPU code by sqrt(variance) + "
            "1e-6, other programs add 1e-4 or 1e-3"
        )
    return None


def _different_arrays_or_keys(network: Network, other: Network, index: int) -> str | None:
    """Name the arrays of a layer, or else its keys, that differ between two networks."""
    ours, theirs = network.layers[index].state_dict(), other.layers[index].state_dict()
    arrays = [name for name in ours if name not in theirs or not torch.equal(ours[name], theirs[name])]
    if arrays:
        return f"its {_listed(arrays)}: not the same in the two weight files"
    theirs_keys = dict(field_values(other.plan.nodes[index].spec))
    keys = [name for name, value in field_values(network.plan.nodes[index].spec) if theirs_keys.get(name) != value]
    return f"its {_listed([f'{key}=' for key in keys])}: not the same in the two cfgs" if keys else None


def _listed(names: Sequence[str]) -> str:
    first = ", ".join(names[:8])
    return f"{first} and {len(names) - 8} more" if len(names) > 8 else first
