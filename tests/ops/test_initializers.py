"""Starting values by name: how they are spread, and which arrays they fill."""

from __future__ import annotations

import math

import pytest
import torch

from darkpy.build import make_plan
from darkpy.network import Network
from darkpy.ops.initializers import INITIALIZERS_BY_NAME

FAN_IN, FAN_OUT = 64 * 9, 128 * 9
DEVIATIONS = {
    "msra": math.sqrt(2 / FAN_IN),
    "he": math.sqrt(2 / FAN_IN),
    "kaiming": math.sqrt(2 / FAN_IN),
    "msra_leaky": math.sqrt(2 / (1.01 * FAN_IN)),
    "msra_fanout": math.sqrt(2 / FAN_OUT),
    "msra_uniform": math.sqrt(2 / FAN_IN),
    "xavier": math.sqrt(2 / (FAN_IN + FAN_OUT)),
    "xavier_normal": math.sqrt(2 / (FAN_IN + FAN_OUT)),
    "xavier_caffe": math.sqrt(1 / FAN_IN),
    "normal": 0.01,
    "uniform": 0.05 / math.sqrt(3),
    "darknet_pj": math.sqrt(2 / FAN_IN),
    "darknet_ax": math.sqrt(2 / FAN_IN / 3),
    "zero": 0.0,
}
UNIFORM = {"msra_uniform", "xavier", "xavier_caffe", "darknet_ax", "uniform"}
NET = "[net]\nwidth=8\nheight=8\nchannels=64\n"


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_every_name_is_looked_at_here() -> None:
    assert DEVIATIONS.keys() == INITIALIZERS_BY_NAME.keys()


@pytest.mark.parametrize("name", DEVIATIONS)
def test_numbers_are_spread_as_the_name_says(name: str) -> None:
    weights = INITIALIZERS_BY_NAME[name](torch.full((128, 64, 3, 3), 7.0), generator=seeded())
    deviation = DEVIATIONS[name]
    assert weights.std().item() == pytest.approx(deviation, rel=0.01)
    assert abs(weights.mean().item()) <= 0.01 * deviation
    largest = weights.abs().max().item()
    if name in UNIFORM:
        assert 0.999 * deviation * math.sqrt(3) < largest <= deviation * math.sqrt(3) * (1 + 1e-6)
    elif name != "zero":
        assert largest > 4 * deviation


def test_leaky_variant_makes_up_for_the_slope() -> None:
    plain, leaky = (
        INITIALIZERS_BY_NAME[name](torch.empty(9, 9, 3, 3), generator=seeded()) for name in ("msra", "msra_leaky")
    )
    torch.testing.assert_close(leaky * math.sqrt(1.01), plain)


@pytest.mark.parametrize("name", sorted(DEVIATIONS.keys() - {"zero"}))
def test_generator_decides_the_numbers(name: str) -> None:
    first, second, other = (
        INITIALIZERS_BY_NAME[name](torch.empty(4, 4, 3, 3), generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, second) and not torch.equal(first, other)


@pytest.mark.parametrize("name", DEVIATIONS)
def test_places_of_a_local_layer_are_each_spread_like_a_matrix_alone(name: str) -> None:
    """Weights of [local] are [position][filter][input]."""
    weights_LFK = INITIALIZERS_BY_NAME[name](torch.empty(5, 60, 300), generator=seeded())
    alone = INITIALIZERS_BY_NAME[name](torch.empty(60, 300), generator=seeded())
    assert torch.equal(weights_LFK[0], alone)
    for place in range(5):
        assert weights_LFK[place].std().item() == pytest.approx(alone.std().item(), rel=0.03)


def deviation_of(net_key: str, section_key: str) -> float:
    text = f"{NET}{net_key}\n[convolutional]\nfilters=128\nsize=3\nbatch_normalize=1\n{section_key}"
    network = Network(make_plan(text, "pjreddie"))
    network.initialize(seeded())
    arrays = dict(network.layers[0].state_dict())
    assert arrays["scales"].unique().tolist() == [1]
    assert not any(arrays[name].any() for name in ("biases", "rolling_mean", "rolling_variance"))
    return float(arrays["weights"].std())


@pytest.mark.parametrize(
    ("net_key", "section_key", "name"),
    [
        ("init=normal", "", "normal"),
        ("", "init=xavier\n", "xavier"),
        ("init=normal", "init=msra_fanout\n", "msra_fanout"),
        ("", "", "msra"),  # pjreddie's own
    ],
)
def test_key_of_the_section_goes_before_that_of_the_net(net_key: str, section_key: str, name: str) -> None:
    assert deviation_of(net_key, section_key) == pytest.approx(DEVIATIONS[name], rel=0.01)
