"""Blur against OpenCV 4.12's GaussianBlur, in floats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from darkpy.ops.blur import gaussian_blur

GOLDEN = Path(__file__).parents[1] / "golden" / "ops" / "opencv.npz"


@pytest.mark.parametrize("size", [3, 5, 7, 9, 11, 17])
def test_gaussian_blur_is_opencvs(size: int) -> None:
    with np.load(GOLDEN) as arrays:
        image_CHW = torch.from_numpy(arrays["image"]).permute(2, 0, 1).float() / 255
        expected_CHW = torch.from_numpy(arrays[f"blur_{size}"])
    torch.testing.assert_close(gaussian_blur(image_CHW, size), expected_CHW, rtol=0, atol=1e-6)


def test_an_even_size_is_the_next_odd_one_and_size_1_blurs_nothing() -> None:
    image_CHW = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(1))
    assert torch.equal(gaussian_blur(image_CHW, 4), gaussian_blur(image_CHW, 5))
    assert torch.equal(gaussian_blur(image_CHW, 1), image_CHW)


@pytest.mark.parametrize("side", [1, 2, 5])
def test_small_images_can_be_blurred_and_keep_an_even_color(side: int) -> None:
    image_CHW = torch.full((3, side, side + 3), 0.25)
    torch.testing.assert_close(gaussian_blur(image_CHW, 31), image_CHW)
