"""Every layer of every golden network, against what the C programs computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import darkpy

CASES = sorted((Path(__file__).parent / "golden" / "networks").glob("*/*.npz"))
RELATIVE, ABSOLUTE = 1e-5, 1e-6


def trace(case: Path, tmp_path: Path, *, training: bool) -> tuple[list[torch.Tensor], dict[str, np.ndarray[Any, Any]]]:
    golden = dict(np.load(case))
    cfg, weights = tmp_path / "net.cfg", tmp_path / "net.weights"
    cfg.write_bytes(golden["cfg"].tobytes())
    weights.write_bytes(golden["weights"].tobytes())
    network = darkpy.load(cfg, weights, dialect=case.parent.name)
    network.train(training)
    x = torch.from_numpy(golden["x"])
    with torch.no_grad():
        return network.trace(x.reshape(x.shape[0], *network.plan.input_shape)), golden


def assert_equal(outputs: list[torch.Tensor], golden: dict[str, np.ndarray[Any, Any]], mode: str) -> None:
    for name, wanted in golden.items():
        if name.startswith(mode):
            layer = int(name.removeprefix(mode))
            found = outputs[layer].numpy().reshape(-1)[: wanted.size]
            error = np.abs(found - wanted.reshape(-1)).max()
            assert error <= RELATIVE * np.abs(wanted).max() + ABSOLUTE, f"layer {layer} departs by {error}"


@pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning")
@pytest.mark.parametrize("case", CASES, ids=[f"{case.parent.name}-{case.stem}" for case in CASES])
def test_inference_gives_darknets_numbers(case: Path, tmp_path: Path) -> None:
    outputs, golden = trace(case, tmp_path, training=False)
    assert_equal(outputs, golden, "test")


TRAINED = [case for case in CASES if any(name.startswith("train") for name in np.load(case).files)]


@pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning")
@pytest.mark.parametrize("case", TRAINED, ids=[f"{case.parent.name}-{case.stem}" for case in TRAINED])
def test_training_forward_gives_darknets_numbers(case: Path, tmp_path: Path) -> None:
    outputs, golden = trace(case, tmp_path, training=True)
    assert_equal(outputs, golden, "train")
