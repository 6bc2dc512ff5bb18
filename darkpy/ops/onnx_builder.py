"""A computation written down operator by operator, in ONNX's words; rooms add theirs, `export` makes a file of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from darkpy.shapes import Shape

if TYPE_CHECKING:
    import numpy as np

OPSET = 17
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
    """Operators in the order in which they run, and the constants that they read.

    scope: what the names of new tensors begin with.
    """

    def __init__(self) -> None:
        self.operators: list[Operator] = []
        self.constants: dict[str, Tensor] = {}
        self.scope = "graph"
        self._names: set[str] = set()

    def add(self, type: str, *inputs: str | Tensor, **attributes: Attribute) -> str:
        """An operator with one result; tensors among its inputs become constants. Returns: the result's name."""
        (output,) = self._add(type, inputs, 1, attributes)
        return output

    def split(self, source: str, sizes: Sequence[int], axis: int) -> tuple[str, ...]:
        """A tensor cut along an axis."""
        return self._add("Split", (source, torch.tensor(sizes)), len(sizes), {"axis": axis})

    def slice(self, source: str, ranges: Mapping[int, tuple[int, int, int]]) -> str:
        """Parts of a tensor: axis -> first, end, step."""
        starts, ends, steps = zip(*ranges.values(), strict=True)
        return self.add("Slice", source, *map(torch.tensor, (starts, ends, list(ranges), steps)))

    def reshape(self, source: str, *shape: int) -> str:
        """The same numbers in another shape; 0 keeps a side, -1 follows from the others."""
        return self.add("Reshape", source, torch.tensor(shape))

    def pad(self, source: str, borders: Sequence[int], value: float = 0.0) -> str:
        """borders: all sides' beginnings, then all sides' ends."""
        return self.add("Pad", source, torch.tensor(borders), torch.tensor(value))

    def rename(self, old: str, new: str) -> None:
        """Call a tensor otherwise, wherever it is written and read."""
        self.operators = [
            replace(
                one,
                inputs=tuple(new if name == old else name for name in one.inputs),
                outputs=tuple(new if name == old else name for name in one.outputs),
            )
            for one in self.operators
        ]

    def _add(
        self, type: str, inputs: Sequence[str | Tensor], count: int, attributes: Mapping[str, Attribute]
    ) -> tuple[str, ...]:
        names = tuple(one if isinstance(one, str) else self._constant(type, one) for one in inputs)
        outputs = tuple(self._name(type) for _ in range(count))
        self.operators.append(Operator(type, names, outputs, attributes))
        return outputs

    def _constant(self, type: str, tensor: Tensor) -> str:
        name = self._name(f"{type}.constant")
        self.constants[name] = tensor.detach().to("cpu").contiguous()
        return name

    def _name(self, kind: str) -> str:
        for name in self._candidates(f"{self.scope}/{kind}"):
            if name not in self._names:
                self._names.add(name)
                return name
        raise AssertionError

    @staticmethod
    def _candidates(name: str) -> Iterator[str]:
        yield name
        number = 1
        while True:
            number += 1
            yield f"{name}_{number}"


def numbers(constant: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    """A constant as a file holds it."""
    array: np.ndarray[tuple[int, ...], np.dtype[np.generic]] = constant.numpy()
    return array
