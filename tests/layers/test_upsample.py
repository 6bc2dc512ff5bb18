"""[upsample] beyond the goldens: both directions, and the backward pass."""

from __future__ import annotations

import pytest
import torch

from darkpy.config.net import NetSpec
from darkpy.errors import ShapeError
from darkpy.layers.upsample import UpsampleSpec
from darkpy.shapes import Shape

X = Shape(2, 4, 6)


def image(x: Shape = X) -> torch.Tensor:
    return torch.rand(2, *x, generator=torch.Generator().manual_seed(1))


def resized(layer_spec: UpsampleSpec, x_BCHW: torch.Tensor) -> torch.Tensor:
    y_BCHW: torch.Tensor = layer_spec.build((X,), NetSpec())(x_BCHW)
    assert tuple(y_BCHW.shape[1:]) == layer_spec.shape((Shape(*x_BCHW.shape[1:]),))
    return y_BCHW


def test_without_keys_rows_and_columns_are_doubled() -> None:
    assert UpsampleSpec().shape((X,)) == (2, 8, 12)


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_each_element_is_repeated_over_a_block(stride: int, form: torch.memory_format) -> None:
    actual = resized(UpsampleSpec(stride=stride, scale=0.5), image().contiguous(memory_format=form))
    rows, columns = torch.arange(4 * stride) // stride, torch.arange(6 * stride) // stride
    assert torch.equal(actual, 0.5 * image()[:, :, rows][:, :, :, columns])


@pytest.mark.parametrize("stride", [1, 2])
def test_negative_stride_sums_up_each_block(stride: int) -> None:
    actual = resized(UpsampleSpec(stride=-stride, scale=2.0), image())
    expected = sum(image()[:, :, j::stride, i::stride] for j in range(stride) for i in range(stride))
    torch.testing.assert_close(actual, 2 * torch.as_tensor(expected))


@pytest.mark.parametrize(("stride", "scale"), [(2, 1.0), (3, 0.5), (-2, 1.0), (-2, 3.0)])
def test_delta_goes_the_other_way_with_the_same_scale(stride: int, scale: float) -> None:
    x_BCHW = image().requires_grad_(True)
    y_BCHW = resized(UpsampleSpec(stride=stride, scale=scale), x_BCHW)
    delta_BCHW = torch.rand(y_BCHW.shape, generator=torch.Generator().manual_seed(2))
    torch.autograd.backward(y_BCHW, delta_BCHW)
    assert x_BCHW.grad is not None
    torch.testing.assert_close(x_BCHW.grad, resized(UpsampleSpec(stride=-stride, scale=scale), delta_BCHW))


@pytest.mark.parametrize("stride", [0, -3, -4])
def test_stride_that_does_not_divide_the_image_is_refused(stride: int) -> None:
    with pytest.raises(ShapeError, match=f"stride={stride} does not divide the input, 6 x 4 x 2"):
        UpsampleSpec(stride=stride).shape((X,))
