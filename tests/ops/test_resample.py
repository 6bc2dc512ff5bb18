"""Resizing, letterboxing and cropping against both darknets (they agree to the last bit)."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from darkpy.ops import resample

GOLDEN = Path(__file__).parents[1] / "golden" / "ops" / "resample.npz"
TOLERANCE = 1e-6


def golden(name: str) -> Tensor:
    with np.load(GOLDEN) as arrays:
        return torch.from_numpy(arrays[name])


def assert_same(result_CHW: Tensor, expected_CHW: Tensor, tolerance: float = TOLERANCE) -> None:
    assert result_CHW.dtype == torch.float32
    torch.testing.assert_close(result_CHW, expected_CHW, rtol=0, atol=tolerance)


def interleave(image_CHW: Tensor) -> Tensor:
    """The same image with its colors side by side in memory, as a decoder leaves it."""
    return image_CHW.permute(1, 2, 0).contiguous().permute(2, 0, 1)


def noise(w: int, h: int, colors: int = 3) -> Tensor:
    numbers = torch.Generator().manual_seed(w * 10007 + h)
    return torch.randint(0, 256, (colors, h, w), dtype=torch.uint8, generator=numbers)


@pytest.fixture(params=["planar", "interleaved"])
def image_CHW(request: pytest.FixtureRequest) -> Tensor:
    image = golden("image")
    return image if request.param == "planar" else interleave(image)


@pytest.mark.parametrize(("w", "h"), [(53, 37), (7, 90), (20, 20), (64, 48)])
def test_resize_is_darknets(image_CHW: Tensor, w: int, h: int) -> None:
    assert_same(resample.resize(image_CHW, w, h), golden(f"resize_{w}x{h}"))


@pytest.mark.parametrize(("w", "h"), [(64, 64), (96, 32), (41, 97)])
def test_letterbox_is_darknets(image_CHW: Tensor, w: int, h: int) -> None:
    assert_same(resample.letterbox(image_CHW, w, h), golden(f"letterbox_{w}x{h}"))


def test_resize_min_and_resize_max_are_darknets(image_CHW: Tensor) -> None:
    assert_same(resample.resize_min(image_CHW, 24), golden("resize_min_24"))
    assert_same(resample.resize_max(image_CHW, 24), golden("resize_max_24"))


def test_crop_repeats_the_edge_as_darknet_does(image_CHW: Tensor) -> None:
    assert_same(resample.crop(image_CHW, -5, 3, 40, 40), golden("crop_dx-5_dy3_40x40"), tolerance=0)


def test_center_crop_is_darknets(image_CHW: Tensor) -> None:
    assert_same(resample.center_crop(image_CHW, 32, 32), golden("center_crop_32x32"))


@pytest.mark.parametrize(("w", "h"), [(24, 24), (24, 40), (33, 20), (60, 80)])
def test_resize_min_crop_is_resize_min_then_crop_with_c_division(image_CHW: Tensor, w: int, h: int) -> None:
    resized_CHW = resample.resize_min(image_CHW, w)
    dx, dy = math.trunc((resized_CHW.shape[2] - w) / 2), math.trunc((resized_CHW.shape[1] - h) / 2)
    assert_same(resample.resize_min_crop(image_CHW, w, h), resample.crop(resized_CHW, dx, dy, w, h), tolerance=0)


def reference_axis(source: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    position = np.arange(size, dtype=np.float32) * np.float32((source - 1) / (size - 1))
    position[-1] = source - 1
    first = np.floor(position).clip(max=source - 1)
    share = torch.from_numpy(position - first)
    return torch.from_numpy(first).long(), torch.from_numpy((first + 1).clip(max=source - 1)).long(), share


def reference_resize(image_CHW: Tensor, w: int, h: int) -> Tensor:
    """darknet's order in float32: columns first, then rows, the last of each taken whole."""
    column, next_column, dx = reference_axis(image_CHW.shape[2], w)
    row, next_row, dy = reference_axis(image_CHW.shape[1], h)
    part_CHW = (1 - dx) * image_CHW[:, :, column] + dx * image_CHW[:, :, next_column]
    return (1 - dy[:, None]) * part_CHW[:, row] + dy[:, None] * part_CHW[:, next_row]


@pytest.mark.parametrize(("w", "h"), [(768, 576), (199, 601), (1200, 40)])
@pytest.mark.parametrize("size", [(416, 416), (320, 608)])
def test_large_images_come_out_as_if_columns_went_first(w: int, h: int, size: tuple[int, int]) -> None:
    image_CHW = noise(w, h)
    expected_CHW = reference_resize(image_CHW / 255, *size)
    for picture_CHW in (image_CHW, interleave(image_CHW), image_CHW / 255):
        assert_same(resample.resize(picture_CHW, *size), expected_CHW)


def test_a_image_of_the_right_size_keeps_every_number() -> None:
    image_CHW = noise(41, 29)
    assert_same(resample.resize(image_CHW, 41, 29), image_CHW / 255, tolerance=0)
    assert_same(resample.letterbox(interleave(image_CHW), 41, 29), image_CHW / 255, tolerance=0)


def test_no_size_darkens_the_last_row_of_a_white_image() -> None:
    for h in range(2, 120):
        image_CHW = torch.ones(1, h, 3)
        for new_h in (2, 31, 100, 416):
            assert_same(resample.resize(image_CHW, 2, new_h), torch.ones(1, new_h, 2))


@pytest.mark.parametrize(("w", "h"), [(1, 1), (1, 40), (40, 1), (2, 1)])
def test_one_pixel_wide_or_high_images_are_resized(w: int, h: int) -> None:
    image_CHW = noise(w, h)
    result_CHW = resample.resize(interleave(image_CHW), 5, 7)
    assert result_CHW[:, -1, -1].tolist() == (image_CHW[:, -1, -1] / 255).tolist()
    assert result_CHW[:, 0, 0].tolist() == (image_CHW[:, 0, 0] / 255).tolist()


def test_to_a_single_pixel_the_last_one_is_taken() -> None:
    image_CHW = noise(6, 5)
    assert resample.resize(image_CHW, 1, 1).flatten().tolist() == (image_CHW[:, -1, -1] / 255).tolist()


def test_gray_images_of_one_color_are_resized() -> None:
    image_CHW = noise(30, 20, colors=1)
    assert_same(resample.resize(image_CHW, 12, 11), resample.resize(image_CHW.expand(3, -1, -1), 12, 11)[:1])


@pytest.mark.parametrize(("w", "h"), [(20_000_000, 1), (1, 20_000_000)])
def test_a_line_of_millions_of_pixels_does_not_fill_the_memory(w: int, h: int) -> None:
    line_CHW = torch.zeros(1, h, w, dtype=torch.uint8)
    line_CHW[0, -1, -1] = 255
    assert resample.resize(line_CHW, 416, 416)[0, -1, -1] == 1
    assert resample.resize_min_crop(line_CHW, 224, 224).shape == (1, 224, 224)


def test_letterbox_of_a_line_still_shows_it() -> None:
    boxed_CHW = resample.letterbox(torch.ones(3, 1000, 1), 416, 416)
    assert boxed_CHW.eq(1).any(dim=1).sum(dim=1).tolist() == [1, 1, 1]


def test_letterbox_geometry_rounds_down_and_pastes_at_whole_pixels() -> None:
    assert resample.letterbox_geometry(768, 576, 416, 416) == (416, 312, 0, 52)
    assert resample.letterbox_geometry(500, 333, 416, 416) == (416, 277, 0, 69)
    assert resample.letterbox_geometry(333, 500, 608, 416) == (277, 416, 165, 0)
    assert resample.letterbox_geometry(416, 416, 416, 416) == (416, 416, 0, 0)


SIDE = st.integers(1, 13000)
NET_SIDE = st.integers(1, 640)


@given(w=SIDE, h=SIDE, net_w=NET_SIDE, net_h=NET_SIDE)
def test_letterbox_geometry_agrees_with_darknets_float_comparison(w: int, h: int, net_w: int, net_h: int) -> None:
    if np.float32(net_w) / np.float32(w) < np.float32(net_h) / np.float32(h):
        new_w, new_h = net_w, max(1, h * net_w // w)
    else:
        new_w, new_h = max(1, w * net_h // h), net_h
    geometry = resample.letterbox_geometry(w, h, net_w, net_h)
    assert geometry == (new_w, new_h, (net_w - new_w) // 2, (net_h - new_h) // 2)
    assert 1 <= geometry.new_w <= net_w
    assert 1 <= geometry.new_h <= net_h


@pytest.mark.parametrize("colors", [1, 3])
@pytest.mark.parametrize("size", [(37, 20), (8, 61), (1, 1)])
@pytest.mark.parametrize("fit", [resample.resize, resample.letterbox])
def test_an_interleaved_result_has_the_same_numbers_in_another_order(
    fit: Callable[..., Tensor], size: tuple[int, int], colors: int
) -> None:
    image_HWC = torch.randint(0, 256, (23, 41, colors), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    for image_CHW in (image_HWC.permute(2, 0, 1), image_HWC.permute(2, 0, 1).float() / 255):
        planar_CHW, found_CHW = (fit(image_CHW, *size, channels_last=one) for one in (False, True))
        assert found_CHW.permute(1, 2, 0).is_contiguous() and planar_CHW.is_contiguous()
        assert torch.equal(found_CHW, planar_CHW)


def test_what_images_of_one_size_share_is_good_in_and_outside_inference_mode() -> None:
    image_CHW = torch.rand(3, 11, 13)
    with torch.inference_mode():
        inside_CHW = resample.resize(image_CHW, 5, 7)
    leaf_CHW = image_CHW.clone().requires_grad_()
    assert torch.equal(resample.resize(leaf_CHW.detach(), 5, 7), inside_CHW)
