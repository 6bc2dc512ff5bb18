"""Color distortion in floats against both darknets, which agree to the last bit."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from darkpy.ops import color as color

FOLDER = Path(__file__).parents[1] / "golden" / "ops"


def golden(name: str, file: str = "augmentation") -> Tensor:
    with np.load(FOLDER / f"{file}.npz") as arrays:
        return torch.from_numpy(arrays[name])


def assert_same(result: Tensor, expected: Tensor, tolerance: float = 1e-6) -> None:
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, expected, rtol=0, atol=tolerance)


@pytest.fixture
def image_CHW() -> Tensor:
    return golden("image", "resample")


@pytest.fixture
def levels_CHW() -> Tensor:
    """Few levels of each color, so that grays, blacks and equal colors abound."""
    levels = torch.tensor((0, 1, 60, 127, 200, 254, 255)) / 255
    return torch.cartesian_prod(levels, levels, levels).T.reshape(3, 7, 49).contiguous()


def test_rgb_to_hsv_is_darknets(image_CHW: Tensor) -> None:
    assert_same(color.rgb_to_hsv(image_CHW), golden("rgb_to_hsv"))


def test_hsv_to_rgb_is_darknets() -> None:
    assert_same(color.hsv_to_rgb(golden("rgb_to_hsv")), golden("hsv_back"))


@pytest.mark.parametrize(("hue", "saturation", "exposure"), [("0.1", "1.5", "1.3"), ("-0.08", "0.714286", "0.833333")])
def test_distort_is_darknets(image_CHW: Tensor, hue: str, saturation: str, exposure: str) -> None:
    result_CHW = color.distort(image_CHW, float(hue), float(saturation), float(exposure))
    assert_same(result_CHW, golden(f"distort_h{hue}_s{saturation}_e{exposure}"))


@pytest.mark.parametrize("hue", [-0.9, -0.1, 0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize(("saturation", "exposure"), [(1.0, 1.0), (0.5, 2.0), (1.9, 0.6)])
def test_distort_is_the_way_to_hsv_and_back(levels_CHW: Tensor, hue: float, saturation: float, exposure: float) -> None:
    hsv_CHW = color.rgb_to_hsv(levels_CHW) * torch.tensor((1, saturation, exposure))[:, None, None]
    hsv_CHW[0] = (hsv_CHW[0] + hue) % 1
    expected_CHW = color.hsv_to_rgb(hsv_CHW).clamp(0, 1)
    assert_same(color.distort(levels_CHW, hue, saturation, exposure), expected_CHW, 2e-6)


def test_equal_colors_black_and_gray_have_the_hue_of_colorsys(levels_CHW: Tensor) -> None:
    pixels = levels_CHW.view(3, -1).T.double().tolist()
    expected_CHW = torch.tensor([colorsys.rgb_to_hsv(*pixel) for pixel in pixels]).T.reshape(levels_CHW.shape)
    assert_same(color.rgb_to_hsv(levels_CHW), expected_CHW)


def test_changing_nothing_changes_nothing(image_CHW: Tensor, levels_CHW: Tensor) -> None:
    for picture_CHW in (image_CHW, levels_CHW):
        before_CHW = picture_CHW.clone()
        assert_same(color.distort(picture_CHW, 0, 1, 1), before_CHW)
        assert torch.equal(picture_CHW, before_CHW), "the image itself was written to"


def test_gray_has_no_hue_to_turn_and_other_numbers_of_colors_only_become_brighter() -> None:
    gray_CHW = torch.linspace(0, 1, 12).expand(3, 2, 12).contiguous()
    assert_same(color.distort(gray_CHW, 0.3, 1.7, 1.2), (gray_CHW * 1.2).clamp(max=1))
    assert_same(color.distort(gray_CHW[:1], 0.3, 1.7, 1.2), (gray_CHW[:1] * 1.2).clamp(max=1))
