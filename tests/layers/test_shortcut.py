"""[shortcut] beyond the goldens: sizes that differ, several sources, weights of each kind."""

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
from darkpy.layers.base import Layer
from darkpy.layers.shortcut import ShortcutSpec
from darkpy.shapes import Shape

Array = NDArray[Any]
AX, PJ = darkpy.Dialect.ALEXEYAB, darkpy.Dialect.PJREDDIE
X = Shape(4, 6, 4)


def spec(dialect: darkpy.Dialect, sources: int = 1, **keys: Any) -> ShortcutSpec:
    return ShortcutSpec(dialect=dialect, from_=tuple(range(sources)), **keys)


def built(layer_spec: ShortcutSpec, *shapes: Shape) -> Layer:
    layer = layer_spec.build(shapes, NetSpec())
    for array_spec in layer_spec.arrays(shapes):
        layer.put_array(array_spec, torch.randn(array_spec.shape, generator=torch.Generator().manual_seed(1)))
    return layer


def images(*shapes: Shape) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(2, *x, generator=generator, dtype=torch.float64) for x in shapes]


def added(before_BCHW: Array, other_BCHW: Array, alpha: float, beta: float) -> Array:
    """pjreddie's sum as a loop: the larger layer is sampled, elements without a counterpart stay."""
    y_BCHW: Array = before_BCHW.copy()
    stride, sample = (max(1, a.shape[3] // b.shape[3]) for a, b in ((other_BCHW, y_BCHW), (y_BCHW, other_BCHW)))
    sides = [min(a, b) for a, b in zip(y_BCHW.shape, other_BCHW.shape, strict=True)]
    for b, c, j, i in product(*map(range, sides)):
        place = (b, c, j * sample, i * sample)
        y_BCHW[place] = alpha * y_BCHW[place] + beta * other_BCHW[b, c, j * stride, i * stride]
    return y_BCHW


OTHERS = [
    X,
    Shape(2, 6, 4),  # fewer channels
    Shape(7, 6, 4),
    Shape(4, 12, 8),  # twice as large
    Shape(3, 18, 12),
    Shape(4, 3, 2),  # half as large
    Shape(6, 3, 2),
    Shape(4, 9, 6),  # larger, but not twice
    Shape(4, 13, 9),
    Shape(4, 4, 3),  # smaller, but not half
]


@pytest.mark.parametrize("other", OTHERS, ids=str)
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, -2.0), (0.0, 1.0)])
def test_layers_of_other_sizes_are_added_where_darknet_adds_them(other: Shape, alpha: float, beta: float) -> None:
    layer_spec = spec(PJ, alpha=alpha, beta=beta)
    assert layer_spec.shape((X, other)) == X
    before, source = images(X, other)
    actual = built(layer_spec, X, other)(before, source)
    np.testing.assert_allclose(actual.numpy(), added(before.numpy(), source.numpy(), alpha, beta), rtol=1e-12)


@pytest.mark.parametrize("other", OTHERS[:7], ids=str)
def test_gradient_is_that_of_the_sum(other: Shape) -> None:
    layer = built(spec(PJ, alpha=0.5, beta=-2.0), X, other)
    before, source = (x_BCHW.requires_grad_(True) for x_BCHW in images(X, other))
    assert torch.autograd.gradcheck(layer, (before, source))


@pytest.mark.parametrize("other", [Shape(4, 12, 4), Shape(4, 5, 8), Shape(4, 18, 8), Shape(4, 2, 2)], ids=str)
def test_rows_and_columns_of_different_ratios_are_refused(other: Shape) -> None:
    with pytest.raises(ShapeError) as caught:
        spec(PJ).shape((X, other))
    assert str(caught.value) == f"adds {other} to {X}: their widths and heights have different ratios"


def test_pjreddies_dialect_adds_the_first_of_several_layers() -> None:
    text = "[net]\nwidth=4\nheight=6\nchannels=1\n" + "[maxpool]\n" * 3 + "[shortcut]\nfrom=-2,-3\n"
    assert make_plan(text, "pjreddie").nodes[3].sources == (2, 1)
    assert make_plan(text, "alexeyab").nodes[3].sources == (2, 1, 0)


def test_alexeyabs_dialect_adds_layers_of_one_size_only() -> None:
    with pytest.raises(ShapeError, match="adds 8 x 12 x 4 to 4 x 6 x 4: the alexeyab dialect adds layers of one width"):
        spec(AX).shape((X, Shape(4, 12, 8)))


def test_activation_comes_last() -> None:
    before, source = images(X, X)
    actual = built(spec(PJ, activation="leaky"), X, X)(before, source)
    torch.testing.assert_close(actual, torch.nn.functional.leaky_relu(before + source, 0.1))


@pytest.mark.parametrize("keys", [{}, {"weights_type": "per_feature"}], ids=str)
def test_layers_that_are_read_stay_as_they_are(keys: dict[str, Any]) -> None:
    sources = images(X, X, Shape(2, 6, 4))
    with torch.no_grad():
        built(spec(AX, 2, activation="relu", **keys), X, X, Shape(2, 6, 4))(*sources)
    assert all(torch.equal(*pair) for pair in zip(sources, images(X, X, Shape(2, 6, 4)), strict=True))


# several sources with weights


def normalized(weights_NC: Array, kind: str) -> Array:
    if kind == "none":
        return weights_NC
    positive_NC = np.exp(weights_NC - weights_NC.max(0)) if kind == "softmax" else np.maximum(weights_NC, 0.001)
    total_C: Array = 1e-4 + positive_NC.sum(0)
    return positive_NC / total_C


@pytest.mark.parametrize("kind", ["none", "relu", "avg_relu", "softmax"])
@pytest.mark.parametrize("weights_type", ["none", "per_feature", "per_layer", "per_channel"])
def test_sources_are_summed_by_their_weights(weights_type: str, kind: str) -> None:
    shapes = (X, X, Shape(2, 6, 4), Shape(6, 6, 4))
    layer_spec = spec(AX, 3, weights_type=weights_type, weights_normalization=kind)
    layer = built(layer_spec, *shapes)
    sources = images(*shapes)
    weights_NC: Array = np.ones((4, 1))
    if weights_type != "none":
        weights_NC = normalized(layer.get_parameter("weights").detach().double().numpy(), kind)
        assert weights_NC.shape == (4, 4 if weights_type == "per_channel" else 1)
    weights_NC = np.broadcast_to(weights_NC, (4, 4))
    expected = np.zeros((2, *X))
    for n, c in product(range(4), range(4)):
        if c < shapes[n].c:
            expected[:, c] += weights_NC[n, c] * sources[n][:, c].numpy()
    np.testing.assert_allclose(layer(*sources).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("weights_type", "count"), [("none", 0), ("per_feature", 3), ("per_layer", 3), ("per_channel", 12)]
)
def test_weights_start_at_one_and_count_for_the_layer_before_too(weights_type: str, count: int) -> None:
    arrays = spec(AX, 2, weights_type=weights_type).arrays((X, X, X))
    assert sum(array_spec.count for array_spec in arrays) == count
    assert all(
        array_spec.init.mean == 1 and array_spec.init.scale == 0 and not array_spec.is_decayed for array_spec in arrays
    )


@pytest.mark.parametrize("kind", ["none", "relu", "softmax"])
@pytest.mark.parametrize("weights_type", ["per_feature", "per_channel"])
def test_weights_learn_by_the_gradient_of_the_sum(weights_type: str, kind: str) -> None:
    shapes = (X, X, Shape(2, 6, 4))
    layer = built(spec(AX, 2, weights_type=weights_type, weights_normalization=kind), *shapes).double()
    sources = images(*shapes)
    layer.get_parameter("weights").detach().abs_()
    weights = layer.get_parameter("weights").detach().clone().requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda weights: torch.func.functional_call(layer, {"weights": weights}, tuple(sources)), (weights,)
    )


def test_operations_count_an_addition_a_source_and_with_weights_a_product() -> None:
    assert spec(AX, 3).operations((X, X, X, X)) == 3 * 96
    assert spec(AX, 3, weights_type="per_channel").operations((X, X, X, X)) == 2 * 3 * 96


@pytest.mark.parametrize(
    ("dialect", "keys", "message"),
    [
        ("pjreddie", "", "has no from="),
        ("alexeyab", "from=-1\nweights_type=per_row\n", "weights_type=per_row is not known"),
        ("pjreddie", "from=0\n", "refers to layer 0, which is not before it"),
    ],
)
def test_cfg_error_is_reported(dialect: str, keys: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_plan(f"[net]\nwidth=4\nheight=6\nchannels=1\n[shortcut]\n{keys}", dialect)
