"""[normalization] beyond the goldens, against darknet's running window in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from darkpy.build import make_plan
from darkpy.network import Network


def lrn(channels: int, **keys: float) -> Network:
    lines = "".join(f"{name}={value}\n" for name, value in keys.items())
    return Network(make_plan(f"[net]\nwidth=4\nheight=3\nchannels={channels}\n[lrn]\n{lines}"))


def norms(x_BCHW: NDArray[Any], size: int, alpha: float, kappa: float) -> NDArray[Any]:
    """kappa + alpha * the running sum, which darknet updates from channel to channel."""
    squared, channels = x_BCHW.astype(np.float64) ** 2, x_BCHW.shape[1]
    total = squared[:, : size // 2].sum(1)
    result = []
    for k in range(channels):
        if k:
            before, after = k - (size - 1) // 2 - 1, k + size // 2
            total = total - (squared[:, before] if before >= 0 else 0) + (squared[:, after] if after < channels else 0)
        result.append(kappa + alpha * total)
    return np.stack(result, 1)


@pytest.mark.parametrize(
    ("channels", "size"), [(8, 5), (8, 4), (9, 1), (9, 2), (3, 7), (2, 5), (1, 3), (1, 1), (6, 99)]
)
def test_sums_are_darknets_including_the_square_it_loses(channels: int, size: int) -> None:
    x_BCHW = torch.randn(2, channels, 3, 4, generator=torch.Generator().manual_seed(channels))
    (actual,) = lrn(channels, size=size, alpha=0.01, beta=0.6, kappa=2)(x_BCHW)
    expected = x_BCHW.numpy() * norms(x_BCHW.numpy(), size, 0.01, 2) ** -0.6
    np.testing.assert_allclose(actual.numpy(), expected, rtol=2e-6)


def test_digits_survive_large_numbers_in_the_lost_channel() -> None:
    x_BCHW = torch.rand(1, 8, 3, 4)
    x_BCHW[:, 2] = 1e4
    (actual,) = lrn(8, size=5)(x_BCHW)
    expected = x_BCHW[:, :5].numpy() * norms(x_BCHW.numpy(), 5, 1e-4, 1)[:, :5] ** -0.75
    np.testing.assert_allclose(actual[:, :5].numpy(), expected, rtol=1e-5)


def test_delta_is_multiplied_by_the_norms_power_only() -> None:
    x_BCHW = torch.randn(2, 8, 3, 4, requires_grad=True)
    delta = torch.randn(2, 8, 3, 4)
    (y_BCHW,) = lrn(8, size=5, alpha=0.1)(x_BCHW)
    y_BCHW.backward(delta)
    assert x_BCHW.grad is not None
    power = norms(x_BCHW.detach().numpy(), 5, 0.1, 1) ** -0.75
    np.testing.assert_allclose(x_BCHW.grad.numpy(), delta.numpy() * power, rtol=1e-5)


def test_input_is_left_alone() -> None:
    x_BCHW = torch.rand(1, 8, 3, 4)
    kept = x_BCHW.clone()
    lrn(8)(x_BCHW)
    assert torch.equal(x_BCHW, kept)
