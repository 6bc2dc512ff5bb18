"""Functions that change the gradient, each alone."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from darkpy.ops.activations import ACTIVATIONS_BY_NAME
from darkpy.ops.gradients import activate, constrain, smooth


def handed_back(y: torch.Tensor, gradient: torch.Tensor, leaf: torch.Tensor) -> torch.Tensor:
    torch.autograd.backward(y, gradient)
    assert leaf.grad is not None
    return leaf.grad


@pytest.mark.parametrize("bound", [0.5, 1.0, 3.0])
def test_constraint_clamps_the_gradient_and_leaves_the_numbers(bound: float) -> None:
    x = torch.linspace(-9, 9, 12).reshape(1, 3, 2, 2).requires_grad_(True)
    y = constrain(x, bound)
    assert torch.equal(y, x)
    gradient = torch.linspace(-2, 2, 12).reshape(1, 3, 2, 2)
    assert torch.equal(handed_back(y, gradient, x), gradient.clamp(-bound, bound))


def test_constraint_sees_the_sum_of_all_readers() -> None:
    x = torch.ones(3, requires_grad=True)
    y = constrain(x, 1.0)
    total = (5 * y + torch.tensor([-4.5, 1.0, -9.0]) * y).sum()
    assert handed_back(total, torch.tensor(1.0), x).tolist() == [0.5, 1.0, -1.0]


def test_constraint_of_a_sums_part_does_not_reach_the_other_part() -> None:
    x = torch.ones(1, requires_grad=True)
    total = 2 * x + constrain(3 * x, 1.0)
    assert handed_back(10 * total, torch.ones(1), x).tolist() == [2 * 10 + 3 * 1]


def test_constraint_lets_a_broken_gradient_be_seen() -> None:
    x = torch.ones(3, requires_grad=True)
    gradient = torch.tensor([float("nan"), float("inf"), -float("inf")])
    found = handed_back(constrain(x, 1.0), gradient, x)
    assert found[0].isnan() and found[1:].tolist() == [1, -1]


@pytest.mark.parametrize("bound", [0.0, 0.5])
@pytest.mark.parametrize("name", sorted(ACTIVATIONS_BY_NAME))
def test_activation_and_constraint_in_one_are_the_two_after_each_other(name: str, bound: float) -> None:
    activation = ACTIVATIONS_BY_NAME[name]
    x_BCHW = torch.linspace(-3, 3, 48).reshape(2, 4, 2, 3).requires_grad_()
    delta_BCHW = torch.linspace(2, -2, 48).reshape(2, 4, 2, 3)
    apart = activation(x_BCHW * 1)
    wanted = handed_back(constrain(apart, bound) if bound else apart, delta_BCHW, x_BCHW)
    before, x_BCHW.grad = delta_BCHW.clone(), None
    y_BCHW = activate(x_BCHW * 1, activation, bound)
    assert torch.equal(y_BCHW, apart)
    assert torch.equal(handed_back(y_BCHW, delta_BCHW, x_BCHW), wanted)
    assert torch.equal(delta_BCHW, before), "the gradient belongs to other readers, too"


@pytest.mark.parametrize(("h", "w"), [(1, 1), (2, 7), (6, 5)])
def test_smoothing_draws_each_delta_towards_its_neighbors(h: int, w: int) -> None:
    rate, generator = 0.3, torch.Generator().manual_seed(1)
    y_BCHW = torch.randn(2, 3, h, w, generator=generator, dtype=torch.float64, requires_grad=True)
    delta_BCHW = torch.randn(2, 3, h, w, generator=generator, dtype=torch.float64)
    smoothed = smooth(y_BCHW, rate)
    assert torch.equal(smoothed, y_BCHW)
    found = -handed_back(smoothed, -delta_BCHW, y_BCHW)
    y = y_BCHW.detach().numpy()
    wanted = delta_BCHW.numpy().copy()
    for b, c, j, i in product(*map(range, y.shape)):
        for row, column in product(range(j - 2, j + 3), range(i - 2, i + 3)):
            if 0 <= row < h and 0 <= column < w:
                wanted[b, c, j, i] += rate * (y[b, c, row, column] - y[b, c, j, i])
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-10, atol=1e-12)


def test_smoothing_of_an_even_map_changes_nothing() -> None:
    y_BCHW = torch.full((1, 2, 6, 6), 3.0, requires_grad=True)
    gradient_BCHW = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    found = handed_back(smooth(y_BCHW, 10.0), gradient_BCHW, y_BCHW)
    torch.testing.assert_close(found, gradient_BCHW)
