"""Two hundred updates of small convolutional networks on fixed images, against the C program's curve of costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import darkpy
from darkpy.training.trainer import Trainer

GOLDEN = Path(__file__).parent / "golden" / "curves.npz"
Arrays = dict[str, NDArray[Any]]


def trained(case: str, golden: Arrays, folder: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """The cost of each minibatch, and the numbers of the weight file in the end."""
    start = folder / "start.weights"
    start.write_bytes(golden[f"{case}/weights"].tobytes())
    cfg = golden[f"{case}/cfg"].tobytes().decode().replace("[net]", "[net]\nconstrain=0", 1)
    network = darkpy.load(cfg, start, dialect="pjreddie")
    trainer = Trainer(network)
    x_SBCHW = torch.from_numpy(golden["pixels"]).reshape(-1, 8, 3, 16, 16) / 255
    truth_SBK = torch.eye(4)[torch.from_numpy(golden["kind"]).long()].reshape(-1, 8, 4)
    steps = range(len(golden[f"{case}/cost"]))
    costs = [trainer.train_minibatch(x_SBCHW[step % 8], truth_SBK[step % 8]).cost for step in steps]
    network.save_weights(folder / "final.weights")
    return np.array(costs), np.fromfile(folder / "final.weights", "<f4", offset=20)


@pytest.fixture(scope="module")
def golden() -> Arrays:
    return dict(np.load(GOLDEN))


def test_smooth_networks_curve_is_darknets_in_every_minibatch(golden: Arrays, tmp_path: Path) -> None:
    costs, numbers = trained("elu", golden, tmp_path)
    assert len(costs) == 400
    np.testing.assert_allclose(costs, golden["elu/cost"], rtol=0, atol=1e-6 * costs.max())
    wanted = np.frombuffer(golden["elu/final"].tobytes()[20:], "<f4")
    np.testing.assert_allclose(numbers, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    assert costs[-16:].mean() < costs[:16].mean() / 3  # there was something to learn


def test_curve_with_kinks_is_as_near_as_that_of_darknet_built_otherwise(golden: Arrays, tmp_path: Path) -> None:
    """leaky and [maxpool] turn a last bit into another path sooner or later: -O1 and -Ofast of the same source part."""
    costs, _ = trained("leaky", golden, tmp_path)
    plain, other = golden["leaky/cost"], golden["leaky/other"]
    np.testing.assert_allclose(costs[:100], plain[:100], rtol=0, atol=1e-6 * costs.max())
    assert np.abs(costs - plain).max() < 2 * np.abs(other - plain).max() < 1e-3 * costs.max()
