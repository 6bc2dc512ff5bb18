"""`binary` and `xnor`: forward, back, and folded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from darkpy.dialect import Dialect
from darkpy.shapes import Shape
from tests.layers.convolutions import AX, PJ, Array, X, built, correlated, image, numbers, spec


def binary(weights_FCKK: Array) -> Array:
    mean = np.abs(weights_FCKK).mean(axis=(1, 2, 3), keepdims=True)
    signed: Array = np.where(weights_FCKK > 0, mean, -mean)
    return signed


@pytest.mark.parametrize("dialect", [AX, PJ])
def test_binary_uses_the_signs_of_a_filter_times_its_mean(dialect: Dialect) -> None:
    layer = built(spec(dialect, filters=3, size=3, pad=True, binary=True))
    with torch.no_grad():
        layer.weights[0, 0, 0, 0] = 0  # counts as negative
    weights, biases = numbers(layer)
    expected = correlated(image().double().numpy(), binary(weights), padding=1) + biases
    np.testing.assert_allclose(layer(image()).detach().numpy(), expected, rtol=1e-5, atol=1e-5)


def test_xnor_reads_the_input_as_plus_and_minus_one_and_the_border_as_zero() -> None:
    layer = built(spec(filters=3, size=3, pad=True, xnor=True))
    x_BCHW = image()
    x_BCHW[:, :, 2, 3] = 0  # counts as positive
    weights, biases = numbers(layer)
    signs = np.where(x_BCHW.numpy() >= 0, 1.0, -1.0)
    expected = correlated(signs, binary(weights), padding=1) + biases
    np.testing.assert_allclose(layer(x_BCHW).detach().numpy(), expected, rtol=1e-5, atol=1e-5)


def test_binary_numbers_have_no_rounding_noise() -> None:
    layer = built(spec(filters=1, xnor=True), Shape(1, 7, 10))
    layer.weights.detach().fill_(0.3)
    layer.biases.detach().fill_(0)
    seen = layer(torch.linspace(-1.3, 1.3, 70).reshape(1, 1, 7, 10))
    assert set(seen.flatten().tolist()) == {layer.weights.item(), -layer.weights.item()}


def test_xnor_is_never_grouped_in_alexeyabs_dialect() -> None:
    grouped = {"filters": 4, "groups": 2, "xnor": True}
    assert [array_spec.shape for array_spec in spec(AX, **grouped).arrays((X,))] == [(4,), (4, 4, 1, 1)]
    assert [array_spec.shape for array_spec in spec(PJ, **grouped).arrays((X,))] == [(4,), (4, 2, 1, 1)]
    assert built(spec(AX, **grouped))(image()).shape == (2, 4, 7, 10)


@pytest.mark.parametrize("is_xnor", [False, True])
def test_gradient_goes_straight_to_the_weights_and_to_inputs_within_one(is_xnor: bool) -> None:
    layer = built(spec(filters=3, size=3, pad=True, binary=not is_xnor, xnor=is_xnor))
    x_BCHW = image()
    x_BCHW[0, 0, 0, :4] = torch.tensor([1.0, -1.0, 0.999, -0.999])
    x_BCHW.requires_grad_(True)
    y_BFHW = layer(x_BCHW)
    gradient_BFHW = torch.rand(y_BFHW.shape, generator=torch.Generator().manual_seed(3))
    torch.autograd.backward(y_BFHW, gradient_BFHW)

    binary_FCKK = torch.from_numpy(binary(layer.weights.detach().numpy())).requires_grad_(True)
    read_BCHW = torch.where(x_BCHW >= 0, 1.0, -1.0) if is_xnor else x_BCHW.detach().clone()
    read_BCHW.requires_grad_(True)
    torch.autograd.backward(torch.nn.functional.conv2d(read_BCHW, binary_FCKK, padding=1), gradient_BFHW)
    assert read_BCHW.grad is not None
    passes_BCHW = x_BCHW.detach().abs() < 1 if is_xnor else True
    torch.testing.assert_close(x_BCHW.grad, read_BCHW.grad * passes_BCHW)
    torch.testing.assert_close(layer.weights.grad, binary_FCKK.grad)


@pytest.mark.parametrize("keys", [{"binary": True}, {"xnor": True}], ids=str)
def test_binary_layer_computes_the_same_once_folded(keys: dict[str, Any]) -> None:
    layer = built(spec(filters=8, size=3, batch_normalize=1, **keys)).eval()
    layer.rolling_variance.abs_()
    assert layer.scales.min() < 0 < layer.scales.max()
    expected = layer(image()).detach()
    layer.fold()
    assert not layer.is_normalized
    torch.testing.assert_close(layer(image()).detach(), expected, rtol=1e-4, atol=1e-4)
