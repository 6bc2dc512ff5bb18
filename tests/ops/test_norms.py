"""Batch norm, against the formulas of darknet's GPU path written out."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from darkpy.errors import ShapeError
from darkpy.ops.norms import batch_normalize, fold_factors

Array = NDArray[Any]
EPS = 1e-5


class Norm(NamedTuple):
    scales_C: torch.Tensor
    biases_C: torch.Tensor
    rolling_mean_C: torch.Tensor
    rolling_variance_C: torch.Tensor


def norm() -> Norm:
    generator = torch.Generator().manual_seed(1)
    scales_C, biases_C, mean_C = (torch.randn(3, generator=generator, dtype=torch.float64) for _ in range(3))
    return Norm(scales_C, biases_C, mean_C, torch.tensor([0.0, 1e-4, 2.0], dtype=torch.float64))


def image() -> torch.Tensor:
    return torch.randn(4, 3, 2, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 3 + 1


def across(array_C: torch.Tensor) -> Array:
    numbers: Array = array_C.detach().numpy()[:, None, None]
    return numbers


def test_inference_normalizes_by_the_rolling_statistics() -> None:
    arrays = norm()
    mean, variance = across(arrays.rolling_mean_C), across(arrays.rolling_variance_C)
    wanted = (image().numpy() - mean) / np.sqrt(variance + EPS) * across(arrays.scales_C) + across(arrays.biases_C)
    np.testing.assert_allclose(batch_normalize(image(), *arrays, training=False).numpy(), wanted, rtol=1e-12)
    assert all(torch.equal(*pair) for pair in zip(arrays, norm(), strict=True))


def test_training_normalizes_by_the_biased_variance_of_the_minibatch() -> None:
    arrays, x = norm(), image().numpy()
    mean, variance = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
    wanted = (x - mean) / np.sqrt(variance + EPS) * across(arrays.scales_C) + across(arrays.biases_C)
    np.testing.assert_allclose(batch_normalize(image(), *arrays, training=True).numpy(), wanted, rtol=1e-10)


def test_rolling_statistics_move_by_a_hundredth_towards_mean_and_unbiased_variance() -> None:
    arrays, before, x = norm(), norm(), image().numpy()
    batch_normalize(image(), *arrays, training=True)
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), ddof=1)
    np.testing.assert_allclose(arrays.rolling_mean_C, 0.99 * before.rolling_mean_C.numpy() + 0.01 * mean)
    np.testing.assert_allclose(arrays.rolling_variance_C, 0.99 * before.rolling_variance_C.numpy() + 0.01 * variance)


def test_gradient_is_that_of_the_formula_with_the_statistics_learned_through() -> None:
    arrays = norm()
    x_BCHW = image().requires_grad_(True)
    for array_C in (arrays.scales_C, arrays.biases_C):
        array_C.requires_grad_(True)
    y_BCHW = batch_normalize(x_BCHW, *arrays, training=True)
    delta_BCHW = torch.randn(y_BCHW.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    learned = (x_BCHW, arrays.biases_C, arrays.scales_C)
    found, biases, scales = (part.numpy() for part in torch.autograd.grad(y_BCHW, learned, delta_BCHW))

    x, delta, axes = image().numpy(), delta_BCHW.numpy(), (0, 2, 3)
    count = x.size / 3
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    spread = np.sqrt(variance + EPS)
    unit, scaled = (x - mean) / spread, delta * across(arrays.scales_C)
    mean_delta = -scaled.sum(axes, keepdims=True) / spread
    variance_delta = -0.5 * (scaled * (x - mean)).sum(axes, keepdims=True) / spread**3
    wanted = scaled / spread + 2 * variance_delta * (x - mean) / count + mean_delta / count
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(biases, delta.sum(axes))
    np.testing.assert_allclose(scales, (delta * unit).sum(axes))


def test_one_number_a_channel_cannot_be_normalized_in_training() -> None:
    x_BCHW = image()[:1, :, :1, :1]
    with pytest.raises(ShapeError, match="batch norm cannot train on one value a channel") as caught:
        batch_normalize(x_BCHW, *norm(), training=True)
    assert caught.value.hint == "use a minibatch of 2 or more (batch / subdivisions)"
    assert batch_normalize(x_BCHW, *norm(), training=False).isfinite().all()
    assert batch_normalize(image()[:1, :, :1, :2], *norm(), training=True).isfinite().all()


def test_factor_and_bias_take_the_place_of_inference() -> None:
    arrays = norm()
    factor_C, bias_C = fold_factors(*arrays)
    folded = image().numpy() * across(factor_C) + across(bias_C)
    np.testing.assert_allclose(folded, batch_normalize(image(), *arrays, training=False).numpy(), rtol=1e-9)


def test_factors_are_computed_in_double() -> None:
    single, double = Norm(*(array.float() for array in norm())), fold_factors(*norm())
    for found, wanted in zip(fold_factors(*single), double, strict=True):
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    as_double = fold_factors(*(array.double() for array in single))
    assert all(torch.equal(*pair) for pair in zip(fold_factors(*single), as_double, strict=True))
