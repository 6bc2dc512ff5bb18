"""Activations and their gradients against those of darknet.

Legend: B images, C channels, H rows, W columns.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.ops import activations
from darkpy.ops.activations import ACTIVATIONS_BY_NAME

Array = NDArray[Any]

# dialect/activation/layer type -> x, y and, if it can be trained there, delta before and after the gradient
GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "activations.npz"))
TRAINED = [case for case, arrays in GOLDEN.items() if len(arrays) == 4]

IN_BOTH_FORKS = {
    *("linear", "logistic", "loggy", "tanh", "relu", "leaky", "relie"),
    *("ramp", "elu", "selu", "plse", "stair", "hardtan", "lhtan"),
}
IN_ALEXEYAB = {"swish", "mish", "hard_mish", "relu6", "revleaky", "gelu"}
ACROSS_CHANNELS = {
    "normalize_channels",
    "normalize_channels_softmax",
    "normalize_channels_softmax_maxval",
}
NOT_THE_DERIVATIVE = {"gelu"} | ACROSS_CHANNELS
ELEMENTWISE = sorted(IN_BOTH_FORKS | IN_ALEXEYAB)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def compute_softplus(x: Array) -> Array:
    exp = np.exp(np.minimum(x, 20))
    softplus: Array = np.where(x > 20, x, np.where(x < -20, exp, np.log1p(exp)))
    return softplus


def mish_slope(x: Array) -> Array:
    softplus = compute_softplus(x)
    tanh = np.tanh(softplus)
    slope: Array = tanh + x * (1 - tanh**2) * (1 - np.exp(-softplus))
    return slope


def stair(x: Array) -> Array:
    floor = np.floor(x)
    y: Array = np.floor(x / 2) + (x - floor) * (floor % 2)
    return y


def gelu_slope(y: Array) -> Array:
    inner = 0.0356774 * y**3 + 0.797885 * y
    slope: Array = 0.5 * np.tanh(inner) + (0.0535161 * y**3 + 0.398942 * y) / np.cosh(inner) ** 2 + 0.5
    return slope


# darknet's f(x) and g(x, y), as its sources state them
FORWARD: dict[str, Callable[[Array], Array]] = {
    "linear": lambda x: x,
    "logistic": sigmoid,
    "loggy": lambda x: 2 * sigmoid(x) - 1,
    "tanh": lambda x: 2 / (1 + np.exp(-2 * x)) - 1,
    "relu": lambda x: x * (x > 0),
    "leaky": lambda x: np.where(x > 0, x, 0.1 * x),
    "relie": lambda x: np.where(x > 0, x, 0.01 * x),
    "ramp": lambda x: x * (x > 0) + 0.1 * x,
    "elu": lambda x: np.where(x >= 0, x, np.exp(x) - 1),
    "selu": lambda x: np.where(x >= 0, 1.0507 * x, 1.0507 * 1.6732 * (np.exp(x) - 1)),
    "plse": lambda x: np.where(x < -4, 0.01 * (x + 4), np.where(x > 4, 0.01 * (x - 4) + 1, 0.125 * x + 0.5)),
    "stair": stair,
    "hardtan": lambda x: np.clip(x, -1, 1),
    "lhtan": lambda x: np.where(x < 0, 0.001 * x, np.where(x > 1, 0.001 * (x - 1) + 1, x)),
    "swish": lambda x: x * sigmoid(x),
    "mish": lambda x: x * np.tanh(compute_softplus(x)),
    "hard_mish": lambda x: np.where(x > 0, x, np.where(x > -2, x * x / 2 + x, 0)),
    "relu6": lambda x: np.clip(x, 0, 6),
    "revleaky": lambda x: np.where(x > 0, x, 0.1 * x),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(0.797885 * x + 0.035677 * x**3)),
}
SLOPE: dict[str, Callable[[Array, Array], Array]] = {
    "linear": lambda x, y: np.ones_like(y),
    "logistic": lambda x, y: (1 - y) * y,
    "loggy": lambda x, y: 2 * (1 - (y + 1) / 2) * (y + 1) / 2,
    "tanh": lambda x, y: 1 - y**2,
    "relu": lambda x, y: np.where(y > 0, 1.0, 0.0),
    "leaky": lambda x, y: np.where(y > 0, 1, 0.1),
    "relie": lambda x, y: np.where(y > 0, 1, 0.01),
    "ramp": lambda x, y: (y > 0) + 0.1,
    "elu": lambda x, y: np.where(y >= 0, 1, y + 1),
    "selu": lambda x, y: np.where(y >= 0, 1.0507, y + 1.0507 * 1.6732),
    "plse": lambda x, y: np.where((y < 0) | (y > 1), 0.01, 0.125),
    "stair": lambda x, y: np.where(np.floor(y) == y, 0.0, 1.0),
    "hardtan": lambda x, y: np.where((y > -1) & (y < 1), 1.0, 0.0),
    "lhtan": lambda x, y: np.where((y > 0) & (y < 1), 1, 0.001),
    "swish": lambda x, y: y + sigmoid(x) * (1 - y),
    "mish": lambda x, y: mish_slope(x),
    "hard_mish": lambda x, y: np.where(x > 0, 1, np.where(x > -2, x + 1, 0)),
    "relu6": lambda x, y: np.where((y > 0) & (y < 6), 1.0, 0.0),
    "revleaky": lambda x, y: np.where(y > 0, 1, 0.1),
    "gelu": lambda x, y: gelu_slope(y),
}

# Every kink lies on one of these points, and float32 holds each of them exactly.
POINTS = np.arange(-8, 8.0625, 0.0625)


def assert_as_darknet(ours: Tensor, darknet: Array) -> None:
    error = np.abs(ours.detach().double().numpy() - darknet).max()
    assert error <= 1e-5 * np.abs(darknet).max() + 1e-6


def run_backward(name: str, x: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    """y, and the delta that reaches x."""
    x = x.clone().requires_grad_()
    y = activations.get(name)(x)
    (delta_at_x,) = torch.autograd.grad(y, x, delta)
    return y.detach(), delta_at_x


@pytest.mark.parametrize("case", GOLDEN)
def test_output_is_what_darknet_computed(case: str) -> None:
    x, y = GOLDEN[case][:2]
    assert_as_darknet(activations.get(case.split("/")[1])(torch.from_numpy(x)[None])[0], y)


@pytest.mark.parametrize("case", TRAINED)
def test_delta_is_what_darknet_computed(case: str) -> None:
    x, _, delta_from_above, delta = GOLDEN[case]
    _, ours = run_backward(case.split("/")[1], torch.from_numpy(x)[None], torch.from_numpy(delta_from_above)[None])
    assert_as_darknet(ours[0], delta)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_output_and_slope_follow_darknets_rule_at_every_kink(name: str) -> None:
    y = FORWARD[name](POINTS)
    ours_y, ours_slope = run_backward(name, torch.from_numpy(POINTS).float(), torch.ones(len(POINTS)))
    assert_as_darknet(ours_y, y)
    assert_as_darknet(ours_slope, SLOPE[name](POINTS, y))


def is_the_derivative(name: str) -> bool:
    away_from_kinks_BCHW = torch.arange(-6.125, 6.25, 0.25, dtype=torch.float64).reshape(1, 5, 2, 5).requires_grad_()
    return torch.autograd.gradcheck(activations.get(name), (away_from_kinks_BCHW,), raise_exception=False)


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS_BY_NAME) - NOT_THE_DERIVATIVE))
def test_gradient_agrees_with_finite_differences(name: str) -> None:
    assert is_the_derivative(name)


@pytest.mark.parametrize("name", sorted(NOT_THE_DERIVATIVE))
def test_gradient_is_darknets_rule_where_that_is_not_the_derivative(name: str) -> None:
    assert not is_the_derivative(name)
    assert activations.get(name).output_rule is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", sorted(ACTIVATIONS_BY_NAME))
def test_large_inputs_stay_finite_and_keep_their_dtype(name: str, dtype: torch.dtype) -> None:
    x_BCHW = torch.tensor([-1e4, -1e3, -100, -20, 0, 20, 100, 1e3, 1e4], dtype=dtype).reshape(1, 9, 1, 1)
    alone_BCHW, negative_BCHW = x_BCHW.reshape(9, 1, 1, 1), x_BCHW[:, :4]
    for part_BCHW in (x_BCHW, alone_BCHW, negative_BCHW):
        y_BCHW, delta_BCHW = run_backward(name, part_BCHW, torch.ones_like(part_BCHW))
        assert y_BCHW.dtype == delta_BCHW.dtype == dtype
        assert y_BCHW.isfinite().all()
        assert delta_BCHW.isfinite().all()


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("logistic", 0, 1),
        ("loggy", -1, 1),
        ("tanh", -1, 1),
        ("relu", 0, np.inf),
        ("elu", -1, np.inf),
        ("selu", -1.0507 * 1.6732, np.inf),
        ("hardtan", -1, 1),
        ("relu6", 0, 6),
    ],
)
def test_infinite_inputs_reach_the_limits(name: str, low: float, high: float) -> None:
    y = activations.get(name)(torch.tensor([-np.inf, np.inf]))
    torch.testing.assert_close(y, torch.tensor([low, high], dtype=torch.float32))


@pytest.mark.parametrize("inplace", [False, True])
def test_mish_agrees_with_darknets_thresholds_far_from_zero(inplace: bool) -> None:
    x = np.concatenate([np.linspace(-80, 80, 4001), np.geomspace(80, 1e4, 100)]).astype(np.float32)
    y = FORWARD["mish"](x.astype(np.float64))
    ours = activations.get("mish")(torch.from_numpy(x), inplace=inplace)
    np.testing.assert_allclose(ours.numpy(), y, rtol=1e-5, atol=0)


def test_normalize_channels_divides_by_the_sum_over_channels() -> None:
    x_BCHW = np.random.default_rng(1).normal(0, 2, (2, 5, 3, 4))
    x_BCHW[0, :, 0, 0] = -1
    positive_BCHW = np.maximum(x_BCHW, 0)
    exp_BCHW = np.exp(x_BCHW)
    shifted_BCHW = np.exp(x_BCHW - x_BCHW.max(1, keepdims=True))
    for name, part_BCHW in zip(sorted(ACROSS_CHANNELS), (positive_BCHW, exp_BCHW, shifted_BCHW), strict=True):
        y_BCHW = part_BCHW / (1e-4 + part_BCHW.sum(1, keepdims=True))
        assert_as_darknet(activations.get(name)(torch.from_numpy(x_BCHW).float()), y_BCHW)


def test_normalize_channels_multiplies_delta_by_y_where_y_is_positive() -> None:
    x_BCHW = torch.tensor([3.0, 1.0, -2.0]).reshape(1, 3, 1, 1)
    delta_BCHW = torch.tensor([2.0, -4.0, 7.0]).reshape(1, 3, 1, 1)
    _, ours_BCHW = run_backward("normalize_channels", x_BCHW, delta_BCHW)
    torch.testing.assert_close(ours_BCHW.flatten(), torch.tensor([2 * 3 / 4.0001, -4 / 4.0001, 7.0]))


@pytest.mark.parametrize("name", sorted(ACROSS_CHANNELS - {"normalize_channels"}))
def test_normalize_channels_softmax_multiplies_delta_by_y_times_one_minus_y(name: str) -> None:
    x_BCHW, delta_BCHW = torch.randn(2, 2, 4, 3, 3, generator=torch.Generator().manual_seed(2))
    y_BCHW, ours_BCHW = run_backward(name, x_BCHW, delta_BCHW)
    torch.testing.assert_close(ours_BCHW, delta_BCHW * y_BCHW * (1 - y_BCHW))


@pytest.mark.parametrize("name", sorted(ACROSS_CHANNELS - {"normalize_channels"}))
def test_normalize_channels_softmax_survives_an_overflowing_exponential(name: str) -> None:
    y_BCHW = activations.get(name)(torch.tensor([1000.0, 999.0]).reshape(1, 2, 1, 1))
    expected = torch.tensor([0.0, -1.0]).softmax(0)
    torch.testing.assert_close(y_BCHW.flatten(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS_BY_NAME))
def test_input_is_overwritten_only_on_request_and_while_recorded_only_where_it_is_not_needed(name: str) -> None:
    activation = activations.get(name)
    before_BCHW = torch.from_numpy(POINTS[:256]).float().reshape(1, 4, 8, 8)
    x_BCHW = before_BCHW.clone()
    y_BCHW = activation(x_BCHW)
    recorded_BCHW = before_BCHW.clone().requires_grad_() * 1
    torch.testing.assert_close(activation(recorded_BCHW, inplace=True), y_BCHW)
    if activation.backward_inplace is None:
        assert torch.equal(recorded_BCHW, before_BCHW)
    assert torch.equal(x_BCHW, before_BCHW)
    torch.testing.assert_close(activation(x_BCHW, inplace=True), y_BCHW)


@pytest.mark.parametrize("name", sorted(name for name, f in ACTIVATIONS_BY_NAME.items() if f.backward_inplace))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_delta_of_an_overwritten_input_is_that_of_a_kept_one(name: str, dtype: torch.dtype) -> None:
    activation = activations.get(name)
    kept = torch.from_numpy(POINTS).to(dtype).requires_grad_()
    overwritten = kept.detach().clone().requires_grad_()
    delta = torch.linspace(-2, 2, len(POINTS), dtype=dtype)
    torch.autograd.backward(activation(kept), delta)
    torch.autograd.backward(activation(overwritten * 1, inplace=True), delta)
    assert kept.grad is not None and overwritten.grad is not None
    assert torch.equal(kept.grad, overwritten.grad)
    assert activation.backward_inplace is not None
    assert torch.equal(activation.backward_inplace(activation(kept.detach()), delta.clone()), kept.grad)


@pytest.mark.parametrize("name", ["leaky", "relu", "logistic", "tanh", "mish", "swish"])
def test_common_activations_need_no_second_buffer(name: str) -> None:
    x = torch.ones(8)
    assert activations.get(name)(x, inplace=True).data_ptr() == x.data_ptr()


def test_each_fork_knows_its_own_names() -> None:
    assert {a.name for a in ACTIVATIONS_BY_NAME.values() if Dialect.PJREDDIE in a.dialects} == IN_BOTH_FORKS
    assert {a.name for a in ACTIVATIONS_BY_NAME.values() if Dialect.ALEXEYAB in a.dialects} == set(ACTIVATIONS_BY_NAME)
    assert set(ACTIVATIONS_BY_NAME) == IN_BOTH_FORKS | IN_ALEXEYAB | ACROSS_CHANNELS


def test_unknown_name_is_an_error_that_names_its_neighbor() -> None:
    with pytest.raises(DarkpyError, match=r"unknown activation leeky\n  hint: did you mean leaky\?"):
        activations.get("leeky")
    with pytest.raises(DarkpyError, match=r"known are .*mish"):
        activations.get("???")


@pytest.mark.parametrize("name", sorted(ACTIVATIONS_BY_NAME))
def test_copies_of_a_network_share_the_one_record(name: str) -> None:
    activation = ACTIVATIONS_BY_NAME[name]
    assert copy.deepcopy(activation) is activation
