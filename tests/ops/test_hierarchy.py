"""Tensors over a tree of classes, against darknet's loops over groups and classes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from darkpy.ops.hierarchy import Hierarchy

ANIMALS = ([-1, -1, 0, 0, 1, 3, 3, 3], [2, 2, 1, 3])

# for each group after the roots, which class before it is its parent (as a place among those without children)
growth = st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 7)), max_size=12)


def grown(roots: int, steps: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    parent, sizes, leaves = [-1] * roots, [roots], list(range(roots))
    for place, size in steps:
        above = leaves.pop(place % len(leaves))
        leaves += range(len(parent), len(parent) + size)
        parent += [above] * size
        sizes.append(size)
    return parent, sizes


def softmax_by_group(x: torch.Tensor, sizes: list[int], dim: int, temperature: float) -> torch.Tensor:
    return torch.cat([torch.softmax(part / temperature, dim) for part in x.split_with_sizes(sizes, dim)], dim)


def multiplied_in_index_order(prob_NK: torch.Tensor, parent: list[int]) -> torch.Tensor:
    prob_NK = prob_NK.clone()
    for number, above in enumerate(parent):
        if above >= 0:
            prob_NK[:, number] *= prob_NK[:, above]
    return prob_NK


@settings(deadline=None)
@given(st.integers(1, 5), growth, st.sampled_from([1.0, 3.0]))
def test_softmax_is_that_of_each_group(roots: int, steps: list[tuple[int, int]], temperature: float) -> None:
    parent, sizes = grown(roots, steps)
    x_BKHW = torch.randn(2, len(parent), 1, 3, generator=torch.Generator().manual_seed(len(parent))) * 30
    found = Hierarchy(parent, sizes).softmax(x_BKHW, 1, temperature)
    torch.testing.assert_close(found, softmax_by_group(x_BKHW, sizes, 1, temperature), rtol=1e-6, atol=0)


@settings(deadline=None)
@given(st.integers(1, 5), growth)
def test_absolute_probabilities_are_those_of_darknets_loop(roots: int, steps: list[tuple[int, int]]) -> None:
    parent, sizes = grown(roots, steps)
    prob_NK = torch.rand(3, len(parent), generator=torch.Generator().manual_seed(len(parent)))
    assert torch.equal(Hierarchy(parent, sizes).absolute(prob_NK, 1), multiplied_in_index_order(prob_NK, parent))


@pytest.mark.parametrize("dim", [0, 2, -1, -2])
def test_classes_may_stand_in_any_dimension(dim: int) -> None:
    hierarchy = Hierarchy(*ANIMALS)
    x = torch.randn([3, 2, 4], generator=torch.Generator().manual_seed(1)).movedim(0, dim)
    x = x.repeat_interleave(8, dim).narrow(dim, 0, 8)
    last = x.movedim(dim, -1)
    assert torch.equal(hierarchy.softmax(x, dim).movedim(dim, -1), hierarchy.softmax(last, -1))
    assert torch.equal(hierarchy.absolute(x, dim).movedim(dim, -1), hierarchy.absolute(last, -1))


def test_leaves_of_each_root_add_up_to_the_root() -> None:
    parent, sizes = ANIMALS
    hierarchy = Hierarchy(parent, sizes)
    prob_K = hierarchy.absolute(hierarchy.softmax(torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 8]), 0), 0)
    torch.testing.assert_close(prob_K[[2, 5, 6, 7]].sum(), prob_K[0])
    torch.testing.assert_close(prob_K[[2, 4, 5, 6, 7]].sum(), torch.tensor(1.0))


def test_gradients_are_true() -> None:
    hierarchy = Hierarchy(*ANIMALS)
    x_NK = torch.randn(2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)

    def probabilities(x_NK: torch.Tensor) -> torch.Tensor:
        return hierarchy.absolute(hierarchy.softmax(x_NK, 1, 2.0), 1)

    assert torch.autograd.gradcheck(probabilities, [x_NK])


def test_nothing_of_a_tree_is_saved_with_a_network() -> None:
    assert not Hierarchy(*ANIMALS).state_dict()
