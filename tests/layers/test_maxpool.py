"""[maxpool] beyond the goldens: against darknet's own loop over windows."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import darkpy
from darkpy.build import make_plan
from darkpy.config.net import NetSpec
from darkpy.errors import ConfigError, ShapeError
from darkpy.layers.maxpool import MaxpoolSpec
from darkpy.network import Network
from darkpy.shapes import Shape

Array = NDArray[Any]
AX, PJ = darkpy.Dialect.ALEXEYAB, darkpy.Dialect.PJREDDIE
LOWEST = float(np.finfo(np.float32).min)
X = Shape(3, 8, 11)


def spec(dialect: darkpy.Dialect = AX, **keys: Any) -> MaxpoolSpec:
    return MaxpoolSpec(dialect=dialect, **keys)


def pooled(layer_spec: MaxpoolSpec, x_BCHW: torch.Tensor) -> torch.Tensor:
    shape = Shape(*x_BCHW.shape[1:])
    y_BCHW: torch.Tensor = layer_spec.build((shape,), NetSpec())(x_BCHW)
    assert tuple(y_BCHW.shape[1:]) == layer_spec.shape((shape,))
    return y_BCHW


def image(x: Shape = X) -> torch.Tensor:
    """Negative everywhere, so that a zero border would show."""
    return -torch.rand(2, *x, generator=torch.Generator().manual_seed(1)) - 1


def maxima(x_BCHW: Array, size: int, padding: int, strides: tuple[int, int]) -> tuple[Array, Array]:
    """Maximum of each window, and the delta at the input for an output delta of 1."""
    batch, channels, height, width = x_BCHW.shape
    down, across = strides
    h, w = (height + padding - size) // down + 1, (width + padding - size) // across + 1
    y_BCHW, delta_BCHW = np.full((batch, channels, h, w), LOWEST), np.zeros(x_BCHW.shape)
    for b, c, j, i in product(*map(range, y_BCHW.shape)):
        first = None
        for row, column in product(range(size), range(size)):
            place = (b, c, j * down - padding // 2 + row, i * across - padding // 2 + column)
            is_inside = 0 <= place[2] < height and 0 <= place[3] < width
            if is_inside and x_BCHW[place] > y_BCHW[b, c, j, i]:
                first, y_BCHW[b, c, j, i] = place, x_BCHW[place]
        if first is not None:
            delta_BCHW[first] += 1
    return y_BCHW, delta_BCHW


CASES: list[tuple[dict[str, Any], int, int, tuple[int, int]]] = [  # keys and geometry
    ({}, 1, 0, (1, 1)),
    ({"stride": 2}, 2, 1, (2, 2)),
    ({"size": 2}, 2, 1, (1, 1)),
    ({"size": 2, "stride": 2}, 2, 1, (2, 2)),
    ({"size": 3, "stride": 2}, 3, 2, (2, 2)),
    ({"size": 5}, 5, 4, (1, 1)),
    ({"size": 9}, 9, 8, (1, 1)),
    ({"size": 13}, 13, 12, (1, 1)),
    ({"size": 4, "stride": 3}, 4, 3, (3, 3)),
    ({"size": 2, "stride": 3}, 2, 1, (3, 3)),
    ({"size": 1, "stride": 4}, 1, 0, (4, 4)),
    ({"size": 3, "stride": 5, "padding": 1}, 3, 1, (5, 5)),
    ({"size": 3, "padding": 0}, 3, 0, (1, 1)),
    ({"size": 2, "stride": 2, "padding": 0}, 2, 0, (2, 2)),
    ({"size": 3, "stride": 2, "padding": 1}, 3, 1, (2, 2)),
    ({"size": 2, "stride": 2, "padding": 5}, 2, 5, (2, 2)),
    ({"size": 3, "stride": 3, "padding": 8}, 3, 8, (3, 3)),
    ({"size": 3, "stride_x": 2}, 3, 2, (1, 2)),
    ({"size": 3, "stride": 2, "stride_y": 3}, 3, 2, (3, 2)),
    ({"stride": 3, "stride_x": 1, "stride_y": 2}, 3, 2, (2, 1)),
]


@pytest.mark.parametrize(("keys", "size", "padding", "strides"), CASES, ids=[str(case[0]) for case in CASES])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=str)
def test_windows_are_darknets(
    keys: dict[str, Any], size: int, padding: int, strides: tuple[int, int], form: torch.memory_format
) -> None:
    x_BCHW = image().contiguous(memory_format=form).requires_grad_(True)
    y_BCHW = pooled(spec(**keys), x_BCHW)
    expected, delta = maxima(x_BCHW.detach().numpy(), size, padding, strides)
    np.testing.assert_array_equal(y_BCHW.detach().numpy(), expected)
    torch.autograd.backward(y_BCHW.sum())
    np.testing.assert_array_equal(x_BCHW.grad, delta)


@pytest.mark.parametrize(
    "keys", [{"size": 5}, {"size": 13}, {"size": 6, "stride": 2}, {"size": 7, "padding": 3}], ids=str
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_large_windows_have_the_same_maxima_in_inference_as_in_training(
    keys: dict[str, Any], dtype: torch.dtype
) -> None:
    x_BCHW = image().to(dtype)
    x_BCHW[0, 0, 2, 3], x_BCHW[0, 1, 5, 5] = torch.nan, torch.inf
    trained = pooled(spec(**keys), x_BCHW.clone().requires_grad_(True))
    assert trained[0, 0].isnan().any() and trained[0, 1].isinf().any()
    torch.testing.assert_close(pooled(spec(**keys), x_BCHW), trained.detach(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    "keys", [{"size": 2}, {"size": 3, "stride": 2}, {"size": 5}, {"size": 2, "padding": 4}], ids=str
)
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=str)
def test_delta_goes_to_the_first_of_equal_maxima(keys: dict[str, Any], form: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(2)
    x_BCHW = torch.randint(0, 2, (2, *X), generator=generator).float().contiguous(memory_format=form)
    x_BCHW.requires_grad_(True)
    torch.autograd.backward(pooled(spec(**keys), x_BCHW).sum())
    size, padding, stride = keys["size"], keys.get("padding", keys["size"] - 1), keys.get("stride", 1)
    np.testing.assert_array_equal(x_BCHW.grad, maxima(x_BCHW.detach().numpy(), size, padding, (stride, stride))[1])


@pytest.mark.parametrize("dialect", [AX, PJ])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_without_padding_as_many_windows_fit_as_strides_begin(dialect: darkpy.Dialect, size: int, stride: int) -> None:
    assert spec(dialect, size=size, stride=stride).shape((X,)) == (3, -(-8 // stride), -(-11 // stride))


def test_pooling_by_two_with_stride_one_looks_right_and_down() -> None:
    x_BCHW = torch.tensor([[[[1.0, 2.0], [4.0, 3.0]]]])
    assert pooled(spec(PJ, size=2, stride=1), x_BCHW).tolist() == [[[[4.0, 3.0], [4.0, 3.0]]]]


def test_window_without_a_cell_is_the_lowest_finite_value() -> None:
    y_BCHW = pooled(spec(size=1, padding=4, stride=2), torch.ones(1, 1, 2, 2))
    assert y_BCHW.flatten().tolist() == [LOWEST] * 4 + [1.0] + [LOWEST] * 4


def test_window_larger_than_the_padded_input_is_refused_with_a_hint() -> None:
    with pytest.raises(ShapeError) as caught:
        spec(size=9, padding=0).shape((X,))
    assert str(caught.value).startswith("size=9 is larger than the input, 11 x 8 x 3 with padding=0")
    assert caught.value.hint == "remove padding=: its default, size - 1, fits every input"


# over the channels


@pytest.mark.parametrize("out_channels", [1, 2, 3, 5, 7])
def test_depth_takes_the_largest_of_every_nth_channel(out_channels: int) -> None:
    x_BCHW = image(Shape(5, 2, 3)).requires_grad_(True)
    y_BCHW = pooled(spec(maxpool_depth=True, out_channels=out_channels), x_BCHW)
    x = x_BCHW.detach().numpy()
    for g in range(out_channels):
        expected = x[:, g::out_channels].max(1) if g < 5 else np.full((2, 2, 3), LOWEST)
        np.testing.assert_array_equal(y_BCHW[:, g].detach().numpy(), expected)
    torch.autograd.backward(y_BCHW.sum())
    assert x_BCHW.grad is not None and x_BCHW.grad.sum() == 2 * min(5, out_channels) * 6


def test_delta_over_the_channels_goes_to_the_first_of_equal_maxima() -> None:
    x_BCHW = torch.zeros(1, 6, 1, 1, requires_grad=True)
    torch.autograd.backward(pooled(spec(maxpool_depth=True, out_channels=2), x_BCHW).sum())
    assert x_BCHW.grad is not None and x_BCHW.grad.flatten().tolist() == [1, 1, 0, 0, 0, 0]


# antialiasing


@pytest.mark.parametrize(("kind", "line", "padding"), [(1, (1, 2, 1), 1), (2, (1, 1), 0)])
def test_antialiasing_pools_at_every_cell_and_blurs_with_the_strides(
    kind: int, line: tuple[int, ...], padding: int
) -> None:
    y_BCHW = pooled(spec(size=3, stride=2, stride_x=3, antialiasing=kind), image())
    sharp, _ = maxima(image().numpy(), 3, 2, (1, 1))
    sharp = np.pad(sharp, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    kernel = np.outer(line, line) / np.sum(line) ** 2
    expected = np.zeros_like(y_BCHW.numpy())
    for place in product(*map(range, expected.shape)):
        row, column = 2 * place[2], 3 * place[3]
        expected[place] = (kernel * sharp[place[:2]][row : row + len(line), column : column + len(line)]).sum()
    np.testing.assert_allclose(y_BCHW.numpy(), expected, rtol=1e-5)


def test_window_that_reaches_over_the_map_by_less_than_its_stride_counts() -> None:
    """C divides towards 0: (2 + 0 - 3) / 2 + 1 is 1 in both programs."""
    network = Network(make_plan("[net]\nwidth=2\nheight=2\nchannels=1\n[maxpool]\nsize=3\nstride=2\npadding=0\n"))
    x_BCHW = torch.tensor([[[[-4.0, -3.0], [-2.0, -1.0]]]])
    assert network(x_BCHW)[-1].tolist() == [[[[-1.0]]]]
    with pytest.raises(ConfigError, match="size=4 is larger"):
        make_plan("[net]\nwidth=2\nheight=2\nchannels=1\n[maxpool]\nsize=4\nstride=2\npadding=0\n")
