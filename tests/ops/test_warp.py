"""Placing, cropping and rotating against what darknet computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from darkpy.ops import resample, warp

FOLDER = Path(__file__).parents[1] / "golden" / "ops"
ROTATE_CROP = "rotate_crop_rad0.3_s0.9_32x32_dx2.5_dy-3_aspect1.2"


def golden(name: str, file: str = "augmentation") -> Tensor:
    with np.load(FOLDER / f"{file}.npz") as arrays:
        return torch.from_numpy(arrays[name])


def assert_same(result_CHW: Tensor, expected_CHW: Tensor, tolerance: float = 1e-6) -> None:
    assert result_CHW.dtype == torch.float32
    torch.testing.assert_close(result_CHW, expected_CHW, rtol=0, atol=tolerance)


def interleave(image_CHW: Tensor) -> Tensor:
    """The same image with its colors side by side in memory, as a decoder leaves it."""
    return image_CHW.permute(1, 2, 0).contiguous().permute(2, 0, 1)


def noise(w: int, h: int) -> Tensor:
    numbers = torch.Generator().manual_seed(w * 10007 + h)
    return torch.randint(0, 256, (3, h, w), dtype=torch.uint8, generator=numbers)


def single(number: float) -> float:
    """Round to a C float."""
    return float(np.float32(number))


@pytest.fixture(params=["planar", "interleaved"])
def image_CHW(request: pytest.FixtureRequest) -> Tensor:
    image = golden("image", "resample")
    return image if request.param == "planar" else interleave(image)


def test_place_is_darknets(image_CHW: Tensor) -> None:
    canvas_CHW = torch.full((3, 64, 64), 0.5)
    warp.place(image_CHW, 40, 50, -7, 9, canvas_CHW)
    assert_same(canvas_CHW, golden("place_40x50_dx-7_dy9_on_64x64"))


@pytest.mark.parametrize(("dx", "dy"), [(64, 0), (-40, 0), (0, 70), (0, -51)])
def test_place_beside_the_canvas_leaves_it_alone(image_CHW: Tensor, dx: int, dy: int) -> None:
    canvas_CHW = torch.full((3, 64, 64), 0.5)
    warp.place(image_CHW, 40, 50, dx, dy, canvas_CHW)
    assert torch.equal(canvas_CHW, torch.full((3, 64, 64), 0.5))


def test_rotate_is_darknets(image_CHW: Tensor) -> None:
    assert_same(warp.rotate_crop(image_CHW, 0.5, 1, 53, 37, 0, 0, 1), golden("rotate_rad0.5"))


def test_rotate_crop_is_darknets(image_CHW: Tensor) -> None:
    rad, scale, dx, dy, aspect = map(single, (0.3, 0.9, 2.5, -3, 1.2))
    assert_same(warp.rotate_crop(image_CHW, rad, scale, 32, 32, dx, dy, aspect), golden(ROTATE_CROP))


def test_rotate_crop_by_no_angle_is_that_by_hardly_any(image_CHW: Tensor) -> None:
    still_CHW, turned_CHW = (warp.rotate_crop(image_CHW, rad, 0.9, 40, 32, 2.5, -3, 1.2) for rad in (0, 1e-12))
    assert_same(still_CHW, turned_CHW)


def test_flip_is_darknets_and_so_are_mirrored_columns(image_CHW: Tensor) -> None:
    assert_same(image_CHW.flip(2), golden("flip"), tolerance=0)
    rows, columns = warp.crop_taps(37, 0, 37, 37), warp.crop_taps(53, 0, 53, 53).mirrored()
    assert_same(warp.sample(image_CHW, rows, columns), golden("flip"), tolerance=0)


@pytest.mark.parametrize(("dx", "dy", "w", "h"), [(-5, 3, 40, 40), (0, 0, 53, 37), (60, -50, 9, 9), (10, 10, 1, 1)])
@pytest.mark.parametrize(("new_w", "new_h"), [(48, 64), (7, 90), (1, 1)])
def test_cropped_is_crop_then_resize(
    image_CHW: Tensor, dx: int, dy: int, w: int, h: int, new_w: int, new_h: int
) -> None:
    result_CHW = warp.sample(image_CHW, warp.crop_taps(37, dy, h, new_h), warp.crop_taps(53, dx, w, new_w))
    assert_same(result_CHW, resample.resize(resample.crop(image_CHW, dx, dy, w, h), new_w, new_h))


@pytest.mark.parametrize("size", [(199, 150), (1, 90), (90, 1), (500, 3)])
def test_all_kinds_of_images_come_out_the_same(size: tuple[int, int]) -> None:
    w, h = size
    bytes_CHW = noise(w, h)
    views = [
        (warp.place_taps(h, 60), warp.place_taps(w, 41)),
        (warp.crop_taps(h, -9, h + 5, 60), warp.crop_taps(w, 0, w, 41).mirrored()),
    ]
    for picture_CHW in (interleave(bytes_CHW), bytes_CHW / 255, interleave(bytes_CHW / 255)):
        for rows, columns in views:
            assert_same(warp.sample(picture_CHW, rows, columns), warp.sample(bytes_CHW, rows, columns))
        turned_CHW = warp.rotate_crop(bytes_CHW, 0.2, 0.7, 40, 30, 3, 1, 1.1)
        assert_same(warp.rotate_crop(picture_CHW, 0.2, 0.7, 40, 30, 3, 1, 1.1), turned_CHW)


def test_a_window_shows_a_part_of_the_whole(image_CHW: Tensor) -> None:
    rows, columns = warp.crop_taps(37, -5, 50, 64), warp.crop_taps(53, 4, 60, 48).mirrored()
    whole_CHW = warp.sample(image_CHW, rows, columns)
    part_CHW = warp.sample(image_CHW, rows.window(3, 40), columns.window(20, 28))
    assert torch.equal(part_CHW, whole_CHW[:, 3:43, 20:48])


def test_a_image_of_one_very_long_row_needs_no_memory_to_speak_of() -> None:
    pixels_CHW = torch.zeros(3, 1, 4_000_000, dtype=torch.uint8)
    rows, columns = warp.place_taps(1, 416), warp.place_taps(4_000_000, 416)
    # rows first would make 20 gigabytes of it
    assert warp.sample(interleave(pixels_CHW), rows, columns).sum() == 0
