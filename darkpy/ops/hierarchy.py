"""Classes that are kinds of each other: one softmax a group of siblings, and probabilities down the branches.

Legend: K classes in any dimension, the others as they come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import nn

from darkpy.ops.onnx_builder import Graph


class Hierarchy(nn.Module):
    """What a tree does to tensors; on the device of the layer that holds it.

    parent: the class above each class, which comes before it, or -1.
    group_size: how many classes in a row share a parent; in total as many as there are classes.
    """

    by_size_K: torch.Tensor
    from_size_K: torch.Tensor
    by_depth_K: torch.Tensor
    from_depth_K: torch.Tensor
    parent_K: torch.Tensor

    def __init__(self, parent: Sequence[int], group_size: Sequence[int]) -> None:
        super().__init__()
        self._sizes = sorted(Counter(group_size).items())
        self._place("by_size_K", "from_size_K", [size for size in group_size for _ in range(size)])
        depth: list[int] = []
        for above in parent:
            depth.append(depth[above] + 1 if above >= 0 else 0)
        self._levels = [count for _, count in sorted(Counter(depth).items())]
        self._place("by_depth_K", "from_depth_K", depth)
        starts = list(accumulate(self._levels, initial=0))
        above_K = torch.tensor(parent, device="cpu")[self.by_depth_K].clamp(min=0)
        level_K = torch.tensor(depth, device="cpu")[self.by_depth_K]
        # where each class's parent stands in the level before its own
        before_K = torch.tensor([0, *starts], device="cpu")[level_K]
        self.register_buffer("parent_K", self.from_depth_K[above_K] - before_K, persistent=False)

    def _place(self, name: str, back: str, value_K: Sequence[int]) -> None:
        """Keep the order that sorts the classes by a value, and the order that undoes it."""
        order_K = torch.tensor(value_K, device="cpu").argsort(stable=True)
        self.register_buffer(name, order_K, persistent=False)
        self.register_buffer(back, order_K.argsort(), persistent=False)

    def softmax(self, x: torch.Tensor, dim: int, temperature: float = 1.0) -> torch.Tensor:
        """Each group's softmax of x / temperature.

        Source: pjreddie/darknet src/blas_kernels.cu softmax_tree.
        """
        dim = dim % x.dim()
        sorted_x = x.index_select(dim, self.by_size_K) / temperature
        # groups of one size, 41 sizes in YOLO9000, go in one call
        parts = sorted_x.split_with_sizes([size * count for size, count in self._sizes], dim)
        done = [
            torch.unflatten(part, dim, (count, size)).softmax(dim + 1).flatten(dim, dim + 1)
            for part, (size, count) in zip(parts, self._sizes, strict=True)
        ]
        return torch.cat(done, dim).index_select(dim, self.from_size_K)

    def softmax_to_onnx(self, graph: Graph, x: str, axis: int, behind: Sequence[int], temperature: float = 1.0) -> str:
        """The same as operators of a graph; `behind` are the sides after the axis."""
        if temperature != 1:
            x = graph.add("Div", x, torch.tensor(temperature))
        before = (0,) * axis
        sizes = [size * count for size, count in self._sizes]
        sorted_x = graph.add("Gather", x, self.by_size_K, axis=axis)
        done = []
        for part, (size, count) in zip(graph.split(sorted_x, sizes, axis), self._sizes, strict=True):
            groups = graph.add("Softmax", graph.reshape(part, *before, count, size, *behind), axis=axis + 1)
            done.append(graph.reshape(groups, *before, size * count, *behind))
        return graph.add("Gather", graph.add("Concat", *done, axis=axis), self.from_size_K, axis=axis)

    def absolute(self, prob: torch.Tensor, dim: int) -> torch.Tensor:
        """Each class's probability times its parent's, and so on up to the root.

        Source: pjreddie/darknet src/tree.c hierarchy_predictions.
        """
        levels = prob.index_select(dim, self.by_depth_K).split_with_sizes(self._levels, dim)
        places = self.parent_K.split_with_sizes(self._levels)
        done = [levels[0]]
        for level, place in zip(levels[1:], places[1:], strict=True):
            done.append(level * done[-1].index_select(dim, place))
        return torch.cat(done, dim).index_select(dim, self.from_depth_K)
