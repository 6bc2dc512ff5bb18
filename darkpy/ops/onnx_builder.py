"""Builder of ONNX graphs: layers add their operators, `export` writes the file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from darkpy.shapes import Shape

if TYPE_CHECKING:
    import numpy as np

ONNX_OPSET = 17
Attribute = int | float | str | Sequence[int]


class Value(NamedTuple):
    """A tensor of the graph, (batch, *shape)."""

    name: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class Operator:
    """One node of the graph. Source: github.com/onnx/onnx docs/Operators.md, opset 17."""

    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]


class Graph:
    """Operators in execution order, and their constants.

    scope: prefix of the names of new tensors.
    native_activations: darknet's names of those for which the target has one operator, which opset 17 has not.
    dynamic_size: height and width of the input vary, so that no constant may depend on them.
    """

    def __init__(self, native_activations: Collection[str] = (), *, dynamic_size: bool = False) -> None:
        self.operators: list[Operator] = []
        self.constants: dict[str, Tensor] = {}
        self.scope = "graph"
        self.native_activations, self.dynamic_size = native_activations, dynamic_size
        self._names: set[str] = set()

    def add(self, type: str, *inputs: str | Tensor, **attributes: Attribute) -> str:
        """Add an operator with one output; tensors among its inputs become constants. Returns: the output's name."""
        (output,) = self._add(type, inputs, 1, attributes)
        return output

    def split(self, source: str, sizes: Sequence[int], axis: int) -> tuple[str, ...]:
        """Split a tensor along an axis."""
        return self._add("Split", (source, torch.tensor(sizes)), len(sizes), {"axis": axis})

    def slice(self, source: str, ranges: Mapping[int, tuple[int, int, int]]) -> str:
        """Slice a tensor; `ranges` maps an axis to start, end, step."""
        starts, ends, steps = zip(*ranges.values(), strict=True)
        return self.add("Slice", source, *map(torch.tensor, (starts, ends, list(ranges), steps)))

    def reshape(self, source: str, *shape: int) -> str:
        """Reshape a tensor; 0 keeps a side, -1 is inferred."""
        return self.add("Reshape", source, torch.tensor(shape))

    def reshape_like(self, source: str, other: Value, shape: Shape | None = None) -> str:
        """Reshape a tensor to the shape of another one, or to `shape`, whose sides stay in proportion to that one's."""
        shape = other.shape if shape is None else shape
        if not self.dynamic_size:
            return self.reshape(source, 0, *shape)
        ratios = [Fraction(*sides) for sides in zip(shape, other.shape, strict=True)]
        sides = self.add("Shape", other.name)
        for type, factors in (("Mul", [r.numerator for r in ratios]), ("Div", [r.denominator for r in ratios])):
            if set(factors) != {1}:
                sides = self.add(type, sides, torch.tensor([1, *factors]))
        return self.add("Reshape", source, sides)

    def pad(self, source: str, borders: Sequence[int], value: float = 0.0) -> str:
        """Pad a tensor; `borders` are the starts of all axes, then the ends of all axes."""
        return self.add("Pad", source, torch.tensor(borders), torch.tensor(value))

    def rename(self, old: str, new: str) -> None:
        """Rename a tensor in all inputs and outputs."""
        self.operators = [
            replace(
                operator,
                inputs=tuple(new if name == old else name for name in operator.inputs),
                outputs=tuple(new if name == old else name for name in operator.outputs),
            )
            for operator in self.operators
        ]

    def _add(
        self, type: str, inputs: Sequence[str | Tensor], count: int, attributes: Mapping[str, Attribute]
    ) -> tuple[str, ...]:
        names = []
        for value in inputs:
            if isinstance(value, str):
                names.append(value)
            else:
                names.append(self._name(f"{type}.constant"))
                self.constants[names[-1]] = value.detach().to("cpu").contiguous()
        outputs = tuple(self._name(type) for _ in range(count))
        self.operators.append(Operator(type, tuple(names), outputs, attributes))
        return outputs

    def _name(self, kind: str) -> str:
        """Reserve an unused name: `scope/kind`, `scope/kind_2`, ..."""
        name = stem = f"{self.scope}/{kind}"
        suffix = 1
        while name in self._names:
            suffix += 1
            name = f"{stem}_{suffix}"
        self._names.add(name)
        return name


def to_numpy(constant: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    """Convert a constant for the file."""
    array: np.ndarray[tuple[int, ...], np.dtype[np.generic]] = constant.numpy()
    return array
