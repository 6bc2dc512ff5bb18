"""Every program that runs darkpy's files gives darkpy's outputs for every network of cfg/."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

import darkpy
from tests.export.runtimes import CFG, NETWORKS, RELATIVE, RUNTIMES, Comparison, Runtime

QUICK = ("cifar",)
REORGANIZED = (
    "[net]\nwidth=16\nheight=8\nchannels=3\n[convolutional]\nfilters=8\nsize=3\npad=1\nactivation=leaky\n"
    "[reorg]\nstride=2\n[convolutional]\nfilters=4\n"
)
CFGS = [
    pytest.param(CFG / f"{name}.cfg", marks=() if name in QUICK else pytest.mark.slow, id=name) for name in NETWORKS
]
pytestmark = pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module", params=[pytest.param(REORGANIZED, id="reorg"), *CFGS])
def comparison(request: pytest.FixtureRequest) -> Comparison:
    return Comparison(request.param)


@pytest.fixture
def runtime(request: pytest.FixtureRequest) -> Runtime:
    if RUNTIMES[request.param].version is None:
        pytest.skip(f"{request.param} is not installed")
    return RUNTIMES[request.param]


@pytest.mark.parametrize("runtime", RUNTIMES, indirect=True)
def test_runtime_gives_the_same_heads(runtime: Runtime, comparison: Comparison, tmp_path: Path) -> None:
    assert comparison.difference(runtime, tmp_path) <= RELATIVE


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES, indirect=True)
def test_runtime_finds_the_dog(runtime: Runtime, shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "weights" / "yolov3-tiny"
    net = darkpy.load(CFG / "yolov3-tiny.cfg", folder / "yolov3-tiny.weights")
    other = copy.deepcopy(net)

    def run(x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        actual = runtime.run(other, tmp_path, x_BCHW)
        return [actual[f"layer{index}"] for index in net.outputs]

    net.set_backend(run)
    names = (folder / "names.txt").read_text().splitlines()
    (result,) = darkpy.detect(net, [shared / "data" / "images" / "dog.jpg"], names)
    assert {"dog", "bicycle", "car"} <= {one.name for one in result.objects}
