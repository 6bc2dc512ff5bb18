"""Colors and gradients of samples of BCCD's training list against 2000 of AlexeyAB's program built with OpenCV 4.6."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from darkpy.__main__ import main
from darkpy.config.net import NetSpec
from darkpy.data.augment.config import DetectionAugmentConfig
from darkpy.data.augment.sampler import Sampler
from darkpy.data.loading.datasets import DetectionData
from darkpy.dialect import Dialect

W, H, SAMPLES = 128, 96, 2000
# keys of [net]: mean and standard deviation of a sample's red, green, blue, saturation (bytes), |dx| and |dy| of gray
EXPECTED: dict[str, tuple[dict[str, object], tuple[float, ...], tuple[float, ...]]] = {
    "colors": ({}, (189.679, 178.927, 184.113, 24.223, 2.660, 2.607), (43.027, 40.959, 41.780, 7.214, 0.819, 0.796)),
    "mosaic": (
        {"mosaic": True},
        (189.352, 178.779, 184.219, 26.023, 3.381, 3.388),
        (34.699, 33.121, 33.596, 6.760, 1.037, 1.084),
    ),
    "blur and noise": (
        {"mosaic": True, "blur": 7, "gaussian_noise": 20},
        (192.246, 181.603, 187.427, 29.459, 5.373, 5.386),
        (33.362, 32.041, 32.815, 7.741, 2.257, 2.277),
    ),
}


def figures(x_CHW: NDArray[np.float32]) -> NDArray[np.float64]:
    value_HW, gray_HW = x_CHW.max(0), x_CHW.mean(0)
    saturation = ((value_HW - x_CHW.min(0)) / np.maximum(value_HW, 1) * 255).mean()
    gradients = [np.abs(np.diff(gray_HW, axis=axis)).mean() for axis in (1, 0)]
    return np.array([*x_CHW.mean((1, 2)), saturation, *gradients])


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_samples_have_the_colors_and_gradients_of_alexeyabs_program(name: str, shared: Path, tmp_path: Path) -> None:
    keys, expected_mean, expected_deviation = EXPECTED[name]
    assert main(["dataset", "from-voc", str(shared / "data/bccd"), str(tmp_path / "bccd")]) == 0
    paths = tuple((tmp_path / "bccd/train.txt").read_text().split())
    net = NetSpec(dialect=Dialect.ALEXEYAB, hue=0.1, saturation=1.5, exposure=1.5, **keys)  # type: ignore[arg-type]
    config = DetectionAugmentConfig.from_net(net, "yolo", classes=3, max=90, jitter=0.3, resize=1.5)
    data = DetectionData(paths=paths, augment_config=config, sampler=Sampler(seed=5, count=len(paths)))
    samples = np.stack([figures(data.make(index, W, H).x_CHW.numpy() * 255) for index in range(SAMPLES)])
    error = np.sqrt((samples.var(0) + np.square(expected_deviation)) / SAMPLES)
    assert np.abs((samples.mean(0) - expected_mean) / error).max() < 2.5
