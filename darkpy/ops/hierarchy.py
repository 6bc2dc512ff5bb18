"""Class hierarchy: a softmax for each group of siblings, and absolute probabilities along the branches.

Legend: K classes, in any dimension of a tensor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import nn

from darkpy.ops.onnx_builder import Graph


class Hierarchy(nn.Module):
    """Tensor operations of a class tree, as a module: its index buffers follow the device of their layer.

    To avoid a loop over groups or classes, classes are sorted so that groups of one size (or classes of one depth) are
    contiguous, each of these blocks is computed at once, and the result is sorted back.

    parent: the parent of each class, which is before it, or -1.
    group_size: numbers of consecutive classes with the same parent; their sum is the number of classes.
    """

    by_size_K: torch.Tensor
    from_size_K: torch.Tensor
    by_depth_K: torch.Tensor
    from_depth_K: torch.Tensor
    parent_K: torch.Tensor

    def __init__(self, parent: Sequence[int], group_size: Sequence[int]) -> None:
        super().__init__()
        self._sizes = sorted(Counter(group_size).items())
        self._register_order("by_size_K", "from_size_K", [size for size in group_size for _ in range(size)])
        depth: list[int] = []
        for above in parent:
            depth.append(depth[above] + 1 if above >= 0 else 0)
        self._level_sizes = [count for _, count in sorted(Counter(depth).items())]
        self._register_order("by_depth_K", "from_depth_K", depth)
        starts = list(accumulate(self._level_sizes, initial=0))
        above_K = torch.tensor(parent, device="cpu")[self.by_depth_K].clamp(min=0)
        level_K = torch.tensor(depth, device="cpu")[self.by_depth_K]
        # in the order by depth: the parent's index within its own level, of which [0, *starts][depth] is the start
        level_start_K = torch.tensor([0, *starts], device="cpu")[level_K]
        self.register_buffer("parent_K", self.from_depth_K[above_K] - level_start_K, persistent=False)

    def _register_order(self, name: str, inverse: str, value_K: Sequence[int]) -> None:
        """Register the order that sorts the classes by a value, and its inverse, as buffers."""
        order_K = torch.tensor(value_K, device="cpu").argsort(stable=True)
        self.register_buffer(name, order_K, persistent=False)
        self.register_buffer(inverse, order_K.argsort(), persistent=False)

    def softmax(self, x: torch.Tensor, dim: int, temperature: float = 1.0) -> torch.Tensor:
        """Compute the softmax of x / temperature within each group.

        Source: pjreddie/darknet src/blas_kernels.cu softmax_tree.
        """
        dim = dim % x.dim()
        sorted_x = x.index_select(dim, self.by_size_K) / temperature
        # one call for all groups of a size: YOLO9000 has 41 sizes
        parts = sorted_x.split_with_sizes([size * count for size, count in self._sizes], dim)
        probabilities = [
            torch.unflatten(part, dim, (count, size)).softmax(dim + 1).flatten(dim, dim + 1)
            for part, (size, count) in zip(parts, self._sizes, strict=True)
        ]
        return torch.cat(probabilities, dim).index_select(dim, self.from_size_K)

    def softmax_to_onnx(
        self, graph: Graph, x: str, axis: int, sides_after: Sequence[int], temperature: float = 1.0
    ) -> str:
        """Add `softmax` to a graph; `sides_after` are the sides after the axis."""
        if temperature != 1:
            x = graph.add("Div", x, torch.tensor(temperature))
        sides_before = (0,) * axis  # 0: keep the side
        sizes = [size * count for size, count in self._sizes]
        sorted_x = graph.add("Gather", x, self.by_size_K, axis=axis)
        parts = []
        for part, (size, count) in zip(graph.split(sorted_x, sizes, axis), self._sizes, strict=True):
            groups = graph.add("Softmax", graph.reshape(part, *sides_before, count, size, *sides_after), axis=axis + 1)
            parts.append(graph.reshape(groups, *sides_before, size * count, *sides_after))
        return graph.add("Gather", graph.add("Concat", *parts, axis=axis), self.from_size_K, axis=axis)

    def absolute(self, prob: torch.Tensor, dim: int) -> torch.Tensor:
        """Compute absolute probabilities: each class's times those of its ancestors.

        Source: pjreddie/darknet src/tree.c hierarchy_predictions.
        """
        levels = prob.index_select(dim, self.by_depth_K).split_with_sizes(self._level_sizes, dim)
        parents = self.parent_K.split_with_sizes(self._level_sizes)
        absolute = [levels[0]]
        for level, parent in zip(levels[1:], parents[1:], strict=True):
            absolute.append(level * absolute[-1].index_select(dim, parent))
        return torch.cat(absolute, dim).index_select(dim, self.from_depth_K)
