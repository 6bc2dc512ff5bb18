"""Weights that are spoilt are named by their layer before anything is computed with them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from darkpy.build import make_plan
from darkpy.config.text import read
from darkpy.diagnostics.checks.weights import check_weights
from darkpy.finding import Finding
from darkpy.network import Network

ROOT = Path(__file__).resolve().parents[3]


class Weights:
    """The sample's own network and its cfg."""

    def __init__(self) -> None:
        config = read(ROOT / "weights/sample.cfg")
        self.network = Network(make_plan(config))
        self.network.load_weights(ROOT / "weights/sample.weights")

    def array(self, name: str) -> torch.Tensor:
        return self.network.get_parameter(f"layers.{name}").data

    def found(self) -> list[Finding]:
        return list(check_weights(self.network))


@pytest.fixture
def sample() -> Iterator[Weights]:
    yield Weights()


def test_nothing_is_found_in_good_weights_or_in_new_ones(sample: Weights) -> None:
    assert sample.found() == []
    network = Network(sample.network.plan)
    network.initialize()
    assert list(check_weights(network)) == []


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_number_that_is_none_is_found_in_its_layer(sample: Weights, number: float) -> None:
    sample.array("4.weights")[3, 2, 1, 0] = number
    (found,) = sample.found()
    line = sample.network.plan.nodes[4].section.line
    assert (found.name, found.severity.value) == ("weights-not-finite", "error")
    assert found.place == f"layer 4 [convolutional] {ROOT}/weights/sample.cfg:{line}"
    assert found.message.startswith("has 1 NaN or infinite of 4608 weights")


def test_layer_of_zeros_and_one_of_giants_are_found(sample: Weights) -> None:
    sample.array("2.weights").zero_()
    sample.array("6.scales")[0] = 1e6
    assert [(one.name, one.place.split()[1]) for one in sample.found()] == [
        ("weights-zero", "2"),
        ("weights-large", "6"),
    ]


def test_published_weights_are_good(shared: Path) -> None:
    for name in ("yolov3-tiny", "tiny-darknet", "mobilenetv2-yolo-fastest-voc", "yoloface-50k"):
        (cfg,) = (shared / "data/weights" / name).glob("*.cfg")
        (weights,) = (shared / "data/weights" / name).glob("*.weights")
        config = read(cfg)
        network = Network(make_plan(config))
        network.load_weights(weights)
        assert list(check_weights(network)) == []
