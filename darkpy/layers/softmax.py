"""[softmax]: softmax over all outputs, groups of them, or the groups of a class tree.

Legend: B images, C channels, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.config.tree import read_tree
from darkpy.errors import ShapeError
from darkpy.layers.base import Layer, section
from darkpy.layers.loss import MASKED_TRUTH, Loss, LossSpec, TrainingState
from darkpy.ops.hierarchy import Hierarchy
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape


@section("softmax", "soft")
@dataclass(frozen=True, kw_only=True, slots=True)
class SoftmaxSpec(LossSpec):
    """One softmax for each group of a `tree`; with `spatial` for each pixel; else for each of `groups` equal parts.

    Source: pjreddie/darknet src/softmax_layer.c forward_softmax_layer_gpu.
    Differs: darknet's `spatial` is wrong from the second image of a minibatch on, and missing in its CPU code.
    """

    needs_image: ClassVar[bool] = False

    groups: int = key(1, minimum=1)
    temperature: float = key(1.0, minimum=1e-6, usual=(1e-3, 1000))
    tree: Path | None = key(None)
    spatial: bool = key(False)  # at temperature 1
    noloss: bool = key(False)

    @property
    def has_loss(self) -> bool:
        return not (self.noloss or self.onlyforward)

    @property
    def is_exclusive(self) -> bool:
        return self.spatial

    def choices(self, output: Shape) -> int:
        return 0 if self.spatial or self.tree is not None or self.groups > 1 else output.outputs

    def loss(self, input_BCHW: Tensor, output_BCHW: Tensor, truth: Tensor, state: TrainingState) -> Loss:
        """Cross entropy, but a class with a fractional truth costs as much as one with a truth of 1.

        Differs: with a tree, groups without a truth are skipped, as in darknet's GPU code; its CPU code does not.
        """
        truth_BCHW = truth.reshape(output_BCHW.shape)
        delta_BCHW = torch.where(truth_BCHW == MASKED_TRUTH, 0.0, truth_BCHW - output_BCHW)
        is_true_BCHW = (truth_BCHW != 0) & (truth_BCHW != MASKED_TRUTH)
        return Loss(delta_BCHW, delta_BCHW, -torch.where(is_true_BCHW, output_BCHW, 1.0).log().sum())

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        (x,) = inputs
        if x.outputs % self.groups:
            raise ShapeError(f"{x.outputs} inputs cannot be split into groups={self.groups}")
        return x

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        """Raises: ConfigError when the tree cannot be read; ShapeError when its classes do not match the input."""
        if self.tree is None:
            return _Softmax(self)
        tree = read_tree(self.tree)
        if tree.classes != inputs[0].outputs:
            raise ShapeError(
                f"tree={self.tree} has {tree.classes} classes, [softmax] reads {inputs[0].outputs} values",
                hint=f"set filters={tree.classes} in the last convolutional, or use the network's own tree",
            )
        return _TreeSoftmax(Hierarchy(tree.parent, tree.group_size), self.temperature)


class _Temperature(Layer):
    """Base of the modules whose logits are divided by a temperature."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def set_temperature(self, temperature: float) -> None:
        self.temperature = temperature


class _Softmax(_Temperature):
    def __init__(self, spec: SoftmaxSpec) -> None:
        super().__init__(spec.temperature)
        self.groups, self.spatial = spec.groups, spec.spatial

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if self.spatial:
            return x_BCHW.softmax(1)
        parts = x_BCHW.reshape(x_BCHW.shape[0], self.groups, -1) / self.temperature
        return parts.softmax(2).reshape(x_BCHW.shape)

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        ((x, shape),) = sources
        if self.temperature != 1 and not self.spatial:
            x = graph.add("Div", x, torch.tensor(self.temperature))
        if self.spatial or (self.groups == 1 and shape == Shape.vector(shape.c)):
            return graph.add("Softmax", x, axis=1)
        return graph.reshape(graph.add("Softmax", graph.reshape(x, 0, self.groups, -1), axis=2), 0, *shape)


class _TreeSoftmax(_Temperature):
    def __init__(self, hierarchy: Hierarchy, temperature: float) -> None:
        super().__init__(temperature)
        self.hierarchy = hierarchy

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.hierarchy.softmax(x_BCHW.flatten(1), 1, self.temperature).reshape(x_BCHW.shape)

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        ((x, shape),) = sources
        flat = graph.reshape(x, 0, -1)
        return graph.reshape(self.hierarchy.softmax_to_onnx(graph, flat, 1, (), self.temperature), 0, *shape)
