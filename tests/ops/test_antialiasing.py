"""The blur, against sums over its windows."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from darkpy.ops.antialiasing import blur, blurred_sides

KINDS = {1: ((1, 2, 1), 1), 2: ((1, 1), 0), 7: ((1, 2, 1), 1)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (3, 1), (1, 2)])
def test_every_channel_is_blurred_by_itself(kind: int, strides: tuple[int, int]) -> None:
    x_BCHW = torch.rand(2, 3, 6, 9, generator=torch.Generator().manual_seed(1))
    found = blur(x_BCHW, kind, strides).numpy()
    line, padding = KINDS[kind]
    padded = np.pad(x_BCHW.numpy(), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    kernel = np.outer(line, line) / np.sum(line) ** 2
    assert found.shape == (2, 3, *blurred_sides((6, 9), kind, strides))
    for b, c, j, i in product(*map(range, found.shape)):
        row, column = j * strides[0], i * strides[1]
        window = padded[b, c, row : row + len(line), column : column + len(line)]
        assert found[b, c, j, i] == pytest.approx((window * kernel).sum(), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_even_field_stays_even_inside(kind: int) -> None:
    blurred = blur(torch.full((1, 2, 5, 5), 3.0), kind, (1, 1))
    assert torch.equal(blurred[:, :, 1:-1, 1:-1], torch.full_like(blurred[:, :, 1:-1, 1:-1], 3))


@pytest.mark.parametrize(
    ("sides", "kind", "strides", "blurred"),
    [
        ((13, 26), 1, (2, 2), (7, 13)),
        ((13, 26), 2, (2, 2), (6, 13)),
        ((1, 1), 1, (1, 1), (1, 1)),
        ((2, 2), 2, (1, 1), (1, 1)),
        ((5, 5), 1, (4, 3), (2, 2)),
        ((1, 8), 2, (2, 2), (0, 4)),  # the builder refuses it
    ],
)
def test_sides_are_those_of_a_convolution(
    sides: tuple[int, int], kind: int, strides: tuple[int, int], blurred: tuple[int, int]
) -> None:
    assert blurred_sides(sides, kind, strides) == blurred


def test_delta_is_spread_by_the_same_blur() -> None:
    x_BCHW = torch.rand(1, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: blur(x, 1, (2, 1)), (x_BCHW,))
    torch.autograd.backward(blur(x_BCHW, 1, (1, 1)).sum())
    assert x_BCHW.grad is not None
    inner = x_BCHW.grad[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(inner, torch.ones_like(inner))
