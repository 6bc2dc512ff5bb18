"""[convolutional] beyond the goldens: geometry, errors, antialiasing, shared and flipped weights."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import darkpy
from darkpy.build import make_plan
from darkpy.config.net import NetSpec
from darkpy.errors import ConfigError, ShapeError
from darkpy.layers.convolutional import Convolutional
from darkpy.network import Network
from darkpy.shapes import Shape
from tests.layers.convolutions import AX, PJ, X, built, correlated, image, numbers, spec

SQUARE = "[convolutional]\nfilters=4\nsize=3\npad=1\n"
GEOMETRIES: list[tuple[dict[str, Any], dict[str, Any], tuple[int, int]]] = [
    ({"size": 3}, {}, (5, 8)),
    ({"size": 3, "pad": True}, {"padding": 1}, (7, 10)),
    ({"size": 3, "padding": 2}, {"padding": 2}, (9, 12)),
    ({"size": 3, "pad": True, "padding": 2}, {"padding": 1}, (7, 10)),
    ({"size": 4, "pad": True}, {"padding": 2}, (8, 11)),
    ({"size": 1, "pad": True}, {}, (7, 10)),
    ({"size": 3, "pad": True, "stride": 2}, {"padding": 1, "strides": (2, 2)}, (4, 5)),
    ({"size": 1, "stride": 2}, {"strides": (2, 2)}, (4, 5)),
    ({"size": 2, "stride": 3}, {"strides": (3, 3)}, (2, 3)),
    ({"size": 3, "pad": True, "stride_x": 2}, {"padding": 1, "strides": (1, 2)}, (7, 5)),
    ({"size": 3, "pad": True, "stride": 2, "stride_y": 3}, {"padding": 1, "strides": (3, 2)}, (3, 5)),
    ({"size": 1, "stride_y": 2}, {"strides": (2, 1)}, (4, 10)),
    ({"size": 3, "pad": True, "dilation": 2}, {"padding": 1, "dilation": 2}, (7, 10)),
    ({"size": 5, "pad": True, "dilation": 3, "stride": 2}, {"padding": 2, "dilation": 3, "strides": (2, 2)}, (4, 5)),
    ({"size": 1, "dilation": 3}, {}, (7, 10)),
    ({"size": 1, "padding": 1, "dilation": 3}, {"padding": 1}, (9, 12)),
    ({"size": 9, "stride": 3}, {"strides": (3, 3)}, (1, 1)),
    ({"size": 13, "padding": 1, "stride": 5}, {"padding": 1, "strides": (5, 5)}, (1, 1)),
    ({"size": 3, "groups": 2}, {"groups": 2}, (5, 8)),
    ({"size": 3, "pad": True, "groups": 4, "stride": 2}, {"padding": 1, "groups": 4, "strides": (2, 2)}, (4, 5)),
]


@pytest.mark.parametrize(("keys", "meaning", "sides"), GEOMETRIES, ids=[str(keys) for keys, _, _ in GEOMETRIES])
def test_every_output_is_the_sum_over_its_window(
    keys: dict[str, Any], meaning: dict[str, Any], sides: tuple[int, int]
) -> None:
    layer_spec = spec(filters=4, **keys)
    assert layer_spec.shape((X,)) == (4, *sides)
    layer = built(layer_spec)
    weights, biases = numbers(layer)
    expected = correlated(image().double().numpy(), weights, **meaning) + biases
    np.testing.assert_allclose(layer(image()).detach().numpy(), expected, rtol=1e-5, atol=1e-5)


def test_one_by_one_with_a_stride_reads_every_second_pixel() -> None:
    layer = built(spec(PJ, filters=1, stride=2), Shape(1, 4, 6))
    x_BCHW = image(Shape(1, 4, 6))
    torch.testing.assert_close(layer(x_BCHW), x_BCHW[:, :, ::2, ::2] * layer.weights + layer.biases)


@pytest.mark.parametrize(("channels", "filters", "groups"), [(4, 6, 4), (5, 6, 2), (6, 4, 4), (2, 2, 4)])
def test_groups_must_divide_channels_and_filters(channels: int, filters: int, groups: int) -> None:
    with pytest.raises(ShapeError) as caught:
        spec(filters=filters, groups=groups).shape((Shape(channels, 3, 3),))
    message = f"{channels} channels and {filters} filters cannot be split into groups={groups}"
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("keys", [{"size": 4, "pad": True}, {"size": 3}, {"size": 3, "padding": 2}], ids=str)
def test_dilation_needs_an_odd_size_and_pad(keys: dict[str, Any]) -> None:
    with pytest.raises(ShapeError, match=r"dilation=2 needs an odd size and pad=1; size=\d padding=\d"):
        spec(dilation=2, **keys).shape((X,))
    assert spec(dilation=1, **keys).shape((X,)).c == 1


def test_window_larger_than_the_padded_input_is_refused() -> None:
    assert spec(size=9, padding=1).shape((X,)) == (1, 1, 4)
    with pytest.raises(ShapeError, match="size=10 is larger than the input, 10 x 7 x 4 with 1 on each side"):
        spec(size=10, padding=1).shape((X,))


def test_operations_count_a_product_and_a_sum_for_each_weight_at_each_output() -> None:
    layer_spec = spec(filters=6, size=3, stride=2, groups=2)
    assert layer_spec.operations((X,)) == 2 * (6 * 2 * 3 * 3) * (3 * 4)


# antialiasing


@pytest.mark.parametrize(
    ("kind", "line", "padding", "sides"),
    [(1, (0.25, 0.5, 0.25), 1, (4, 5)), (2, (0.5, 0.5), 0, (3, 5)), (3, (0.25, 0.5, 0.25), 1, (4, 5))],
)
def test_antialiasing_blurs_every_channel_in_place_of_the_stride(
    kind: int, line: tuple[float, ...], padding: int, sides: tuple[int, int]
) -> None:
    layer_spec = spec(filters=3, size=3, pad=True, stride=2, antialiasing=kind, activation="relu")
    assert layer_spec.shape((X,)) == (3, *sides)
    layer = built(layer_spec)
    weights, biases = numbers(layer)
    sharp_BFHW = np.maximum(correlated(image().double().numpy(), weights, padding=1) + biases, 0)
    kernel_FCKK = np.outer(line, line)[None, None].repeat(3, 0)
    expected = correlated(sharp_BFHW, kernel_FCKK, (2, 2), padding, groups=3)
    np.testing.assert_allclose(layer(image()).detach().numpy(), expected, rtol=1e-5, atol=1e-5)


def test_antialiasing_leaves_each_stride_to_the_blur() -> None:
    layer_spec = spec(size=3, pad=True, stride_x=3, stride_y=2, antialiasing=1)
    assert layer_spec.shape((X,)) == tuple(built(layer_spec)(image()).shape[1:]) == (1, 4, 4)


def test_operations_of_an_antialiased_layer_are_those_before_the_blur() -> None:
    plain, blurred = spec(size=3, pad=True), spec(size=3, pad=True, stride=2, antialiasing=1)
    assert blurred.operations((X,)) == plain.operations((X,)) == 2 * 4 * 9 * 70


def test_kernel_that_is_larger_than_what_it_blurs_is_a_fault_of_the_cfg() -> None:
    with pytest.raises(ConfigError, match="the output is empty"):
        make_plan("[net]\nwidth=1\nheight=1\nchannels=1\n[convolutional]\nantialiasing=2\n")


# arrays


@pytest.mark.parametrize("keys", [{"batch_normalize": 1}, {"batch_normalize": 2}, {"cbn": True}], ids=str)
def test_batch_norm_is_between_biases_and_weights_in_the_file(keys: dict[str, Any]) -> None:
    names = [array_spec.name for array_spec in spec(filters=2, **keys).arrays((X,))]
    assert names == ["biases", "scales", "rolling_mean", "rolling_variance", "weights"]


@pytest.mark.parametrize("dialect", [AX, PJ])
def test_new_weights_are_initialized_as_the_dialect_does(dialect: darkpy.Dialect) -> None:
    network = Network(make_plan("[net]\nwidth=9\nheight=9\nchannels=64\n" + SQUARE.replace("=4", "=64"), dialect))
    network.initialize(torch.Generator().manual_seed(1))
    weights, he = network.layers[0].get_parameter("weights").detach(), math.sqrt(2 / (9 * 64))
    if dialect is PJ:
        assert abs(weights.std() - he) < 0.01 * he and weights.abs().max() > 3 * he
    else:
        assert 0.999 * he < weights.abs().max() <= he
        assert abs(weights.std() - he / math.sqrt(3)) < 0.01 * he


def test_fan_of_grouped_weights_is_that_of_one_group() -> None:
    (_, weights) = spec(filters=4, groups=2, size=3).arrays((X,))
    assert weights.init.scale == pytest.approx(math.sqrt(2 / (2 * 9)))


def test_flipped_weights_stand_transposed_in_the_file_and_are_written_as_they_came(tmp_path: Path) -> None:
    text = "[net]\nwidth=5\nheight=5\nchannels=2\n[convolutional]\nfilters=3\nsize=2\nflipped=1\n"
    biases, weights = np.arange(3, dtype="<f4"), np.arange(24, dtype="<f4").reshape(3, 2, 2, 2)
    path, copy = tmp_path / "flipped.weights", tmp_path / "copy.weights"
    path.write_bytes(struct.pack("<3iQ", 0, 2, 0, 7) + biases.tobytes() + weights.reshape(3, 8).T.tobytes())
    network = darkpy.load(text, path)
    np.testing.assert_array_equal(network.layers[0].get_parameter("weights").detach().numpy(), weights)
    network.save_weights(copy)
    assert copy.read_bytes() == path.read_bytes()


def test_clip_of_the_section_or_of_the_net_bounds_the_weights() -> None:
    assert spec(clip=0.5).weight_bound(NetSpec()) == 0.5
    assert spec(PJ).weight_bound(NetSpec(clip=0.25)) == 0.25
    assert spec().weight_bound(NetSpec()) == 0


# share_index


def shared(*layers: str) -> Network:
    network = Network(make_plan("[net]\nwidth=6\nheight=5\nchannels=4\nconstrain=0\n" + "".join(layers), "alexeyab"))
    network.initialize(torch.Generator().manual_seed(1))
    return network


def test_layer_with_share_index_has_no_arrays_in_the_file() -> None:
    network = shared(SQUARE, SQUARE + "share_index=0\n", SQUARE + "share_index=-1\n")
    assert [node.parameter_count for node in network.plan.nodes] == [4 * 4 * 9 + 4, 0, 0]
    layers = [layer for layer in network.layers if isinstance(layer, Convolutional)]
    assert all(layer.array_owner is layers[0] for layer in layers)


def test_shared_weights_gather_the_gradients_of_all_layers_that_use_them() -> None:
    network = shared(SQUARE + "dilation=2\nactivation=linear\n", SQUARE + "share_index=-1\nactivation=relu\n")
    weights, biases = (network.layers[0].get_parameter(name) for name in ("weights", "biases"))
    x_BCHW = image(Shape(4, 5, 6))
    torch.autograd.backward(network(x_BCHW)[0].square().sum())
    first, second = (array.detach().clone().requires_grad_(True) for array in (weights, biases))
    apart_BFHW = torch.nn.functional.conv2d(x_BCHW, first, second, padding=2, dilation=2)
    y_BFHW = torch.nn.functional.conv2d(apart_BFHW, first, second, padding=1).relu()
    torch.autograd.backward(y_BFHW.square().sum())
    torch.testing.assert_close(weights.grad, first.grad)
    torch.testing.assert_close(biases.grad, second.grad)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("filters=8\nsize=3\npad=1\n", "share_index=0 has arrays of 4, 4x4x3x3; this layer has 8, 8x4x3x3"),
        ("filters=4\nsize=3\npad=1\nbatch_normalize=1\n", "has arrays of 4, 4x4x3x3; this layer has 4, 4, 4, 4, 4x4"),
        ("filters=4\nsize=3\npad=1\ngroups=2\n", "this layer has 4, 4x2x3x3"),
    ],
)
def test_shared_arrays_must_be_of_the_same_sizes(keys: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        shared(SQUARE, f"[convolutional]\nshare_index=0\n{keys}")
    assert message in str(caught.value)


def test_only_arrays_of_an_earlier_convolutional_layer_are_shared() -> None:
    with pytest.raises(ConfigError, match=r"share_index=1 is \[maxpool\], not a convolutional layer"):
        shared(SQUARE, "[maxpool]\n", SQUARE + "share_index=1\n")
    with pytest.raises(ConfigError, match="refers to layer 1, which is not before it"):
        shared(SQUARE, SQUARE + "share_index=1\n")
