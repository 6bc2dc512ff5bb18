"""Twenty updates of `regressor train` and `tag train` on real augmented images, against pjreddie's program.

The program's random numbers are drawn in its order, so that both see the same crops, mirrors and colors.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import darkpy
from darkpy.data.augment.sampler import DarknetRandom, Sampler, SampleRngs
from darkpy.ops.c_random import CRandom
from darkpy.training.reports import UpdateReport
from tests.cli.conftest import Run, run

__all__ = ["run"]  # a fixture

GOLDEN = Path(__file__).parent / "golden" / "regressors.npz"
SEED = 77
IMAGES_PER_UPDATE = 8
IMAGES = 5


class CDraws(DarknetRandom):
    """darknet's random functions on the C library's numbers."""

    def __init__(self, random: CRandom) -> None:
        super().__init__()
        self.numbers = random

    def coin(self) -> bool:
        return self.numbers.rand() % 2 == 1

    def uniform(self, a: float, b: float) -> float:
        low, high = sorted((np.float32(a), np.float32(b)))
        return float(np.float32(self.numbers.uniform()) * (high - low) + low)

    def rand_int(self, low: int, high: int) -> int:
        return self.numbers.rand() % (high - low + 1) + low


class CSampler:
    """Draws the images of an update, and then the numbers of each, as the program's loader does."""

    def __init__(self) -> None:
        self.numbers = CRandom(SEED)
        self.indices: list[int] = []

    def candidates(self, sample_index: int, source: int = 0) -> Iterator[int]:
        position = sample_index % IMAGES_PER_UPDATE
        if position == 0:
            self.indices = [self.numbers.rand() % IMAGES for _ in range(IMAGES_PER_UPDATE)]
        yield self.indices[position]

    def rngs(self, sample_index: int, steps: list[str] | None = None) -> SampleRngs:
        draws = CDraws(self.numbers)
        return SampleRngs(draws, draws, draws, draws, steps)


class Losses:
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_update(self, report: UpdateReport) -> None:
        self.values.append(report.loss)


@pytest.fixture
def golden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, NDArray[Any]]:
    """The recorded runs, and their files in the working directory."""
    monkeypatch.chdir(tmp_path)
    golden = dict(np.load(GOLDEN))
    for name in ("images", "labels", "out"):
        Path(name).mkdir()
    for index in range(IMAGES):
        Image.fromarray(golden[f"image{index}"]).save(f"images/{index}.png")
    Path("list.txt").write_text("".join(f"images/{index}.png\n" for index in range(IMAGES)))
    Path("net.data").write_text("train=list.txt\nbackup=out\n")
    return golden


def write_case(golden: dict[str, NDArray[Any]], case: str) -> None:
    for index in range(IMAGES):
        Path(f"labels/{index}.txt").write_bytes(golden[f"{case}/label{index}"].tobytes())
    Path("net.cfg").write_bytes(golden[f"{case}/cfg"].tobytes())
    Path("init.weights").write_bytes(golden[f"{case}/init"].tobytes())


@pytest.mark.parametrize("case", ["regressor", "tagger"])
def test_losses_and_weights_of_twenty_updates_are_darknets(
    golden: dict[str, NDArray[Any]], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    write_case(golden, case)
    monkeypatch.setattr(Sampler, "for_classifier", lambda *_: CSampler())
    losses = Losses()
    result = darkpy.train(
        *("net.cfg", "net.data", "init.weights"),
        kind=case,
        device="cpu",
        workers=0,
        monitor=False,
        chart=False,
        callbacks=[losses],
    )
    expected = golden[f"{case}/losses"]
    assert len(losses.values) == len(expected) == 20
    np.testing.assert_allclose(losses.values, expected, rtol=1e-5)
    assert result.weights == Path("out/net.weights")
    numbers, wanted = (
        np.frombuffer(data[20:], "<f4") for data in (result.weights.read_bytes(), golden[f"{case}/final"].tobytes())
    )
    np.testing.assert_allclose(numbers, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_regressor_test_prints_darknets_number(golden: dict[str, NDArray[Any]], run: Run) -> None:
    write_case(golden, "regressor")
    Path("final.weights").write_bytes(golden["regressor/final"].tobytes())
    code, out, _ = run("regressor", "test", "net.cfg", "final.weights", "images/1.png", "-nogpu")
    first, second = out.splitlines()
    assert code == 0 and first.startswith(golden["regressor/test"].tobytes().decode())
    assert second.startswith("images/1.png: Predicted in ") and second.endswith(" seconds.")
