"""[batchnorm] beyond the golden: the files of both dialects, and training."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

import darkpy
from darkpy.build import make_plan

CFG = "[net]\nwidth=4\nheight=3\nchannels=2\n[batchnorm]\n"


def weights(folder: Path, *arrays: tuple[float, float]) -> Path:
    path = folder / "some.weights"
    path.write_bytes(struct.pack("<3iQ", 0, 2, 0, 7) + np.array(arrays, "<f4").tobytes())
    return path


@pytest.mark.parametrize("keys", ["", "dontloadscales=1\n"])
def test_pjreddies_file_holds_no_biases(tmp_path: Path, keys: str) -> None:
    path = weights(tmp_path, (2, 3), (0.5, -1), (4, 9))
    network = darkpy.load(CFG + keys, path, dialect="pjreddie")
    x_BCHW = torch.randn(2, 2, 3, 4)
    expected = torch.stack([(x_BCHW[:, 0] - 0.5) / 2 * 2, (x_BCHW[:, 1] + 1) / 3 * 3], 1)
    torch.testing.assert_close(network(x_BCHW)[0], expected, rtol=1e-4, atol=1e-5)
    assert [name for name, _ in network.named_parameters()] == ["layers.0.scales"]


def test_alexeyabs_file_begins_with_biases(tmp_path: Path) -> None:
    path = weights(tmp_path, (7, 8), (2, 3), (0.5, -1), (4, 9))
    network = darkpy.load(CFG, path, dialect="alexeyab")
    x_BCHW = torch.randn(2, 2, 3, 4)
    expected = torch.stack([x_BCHW[:, 0] - 0.5 + 7, x_BCHW[:, 1] + 1 + 8], 1)
    torch.testing.assert_close(network(x_BCHW)[0], expected, rtol=1e-4, atol=1e-5)
    copy = tmp_path / "copy.weights"
    network.save_weights(copy)
    assert copy.read_bytes()[20:] == path.read_bytes()[20:]


@pytest.mark.parametrize("dialect", ["pjreddie", "alexeyab"])
def test_training_normalizes_by_the_minibatch_and_moves_the_rolling_statistics(dialect: str) -> None:
    network = darkpy.load(CFG, dialect=dialect).train()
    x_BCHW = torch.randn(8, 2, 3, 4) * 3 + 5
    (y_BCHW,) = network(x_BCHW)
    torch.testing.assert_close(y_BCHW.mean((0, 2, 3)), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(y_BCHW.var((0, 2, 3), unbiased=False), torch.ones(2), rtol=1e-4, atol=0)
    statistics = dict(network.named_buffers())
    torch.testing.assert_close(statistics["layers.0.rolling_mean"], 0.01 * x_BCHW.mean((0, 2, 3)))
    torch.testing.assert_close(statistics["layers.0.rolling_variance"], 0.01 * x_BCHW.var((0, 2, 3)))


def test_slots_stand_in_file_order() -> None:
    names = {
        dialect: [array_spec.name for array_spec in make_plan(CFG, dialect).nodes[0].arrays]
        for dialect in ("pjreddie", "alexeyab")
    }
    assert names["pjreddie"] == ["scales", "rolling_mean", "rolling_variance"]
    assert names["alexeyab"] == ["biases", *names["pjreddie"]]
