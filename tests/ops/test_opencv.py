"""8-bit image operations against OpenCV 4.12, and together against AlexeyAB's program built with OpenCV 4.6."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from darkpy.data.augment.detection import _blur_background
from darkpy.data.augment.geometry import Crop
from darkpy.ops import opencv

FOLDER = Path(__file__).parents[1] / "golden" / "ops"
with np.load(FOLDER / "opencv.npz") as arrays:
    GOLDEN = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
with np.load(FOLDER / "image_data_augmentation.npz") as arrays:
    PROGRAM = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
W, H = 53, 37
IMAGE_CHW = GOLDEN["image"].permute(2, 0, 1)


def assert_bytes(x_CHW: Tensor) -> None:
    assert x_CHW.dtype == torch.float32
    assert torch.equal(x_CHW, x_CHW.round().clamp(0, 255))


@pytest.mark.parametrize("name", [name for name in PROGRAM if not name.endswith("_boxes")])
def test_crops_colors_and_blur_are_those_of_alexeyabs_program_to_the_byte(name: str) -> None:
    w, h, left, top, crop_w, crop_h, flip, *numbers = (float(part) for part in re.findall(r"-?\d[\d.]*", name))
    hue, saturation, exposure, blur = numbers
    crop = Crop(W, H, int(w), int(h), int(left), int(W - left - crop_w), int(top), int(H - top - crop_h), bool(flip))
    x_CHW = crop.render_opencv(IMAGE_CHW)
    if (hue, saturation, exposure) != (0, 1, 1):
        x_CHW = opencv.change_hsv(x_CHW, hue, saturation, exposure)
    if blur == 1:
        x_CHW = _blur_background(x_CHW, PROGRAM[f"{name}_boxes"])
    elif blur:
        x_CHW = opencv.gaussian_blur(x_CHW, int(blur))
    assert_bytes(x_CHW)
    assert torch.equal(x_CHW, PROGRAM[name].float())


class TestResize:
    def crop(self, image_CHW: Tensor, name: str) -> Tensor:
        dx, dy, w, h, new_w, new_h = map(int, re.findall(r"-?\d+", name))
        return opencv.resize(image_CHW, opencv.resize_taps(dy, h, new_h), opencv.resize_taps(dx, w, new_w))

    @pytest.mark.parametrize("name", [name for name in GOLDEN if name.startswith("crop_")])
    def test_bytes_are_those_of_the_resize_in_floats_but_for_rounding(self, name: str) -> None:
        x_CHW = self.crop(IMAGE_CHW, name)
        assert_bytes(x_CHW)
        assert (x_CHW - 255 * GOLDEN[name]).abs().max() < 1.5

    @pytest.mark.parametrize("size", [(199, 150), (1, 90), (90, 1), (500, 3)])
    def test_planar_interleaved_and_float_images_come_out_the_same(self, size: tuple[int, int]) -> None:
        numbers = torch.Generator().manual_seed(1)
        image_CHW = torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=numbers)
        interleaved_CHW = image_CHW.permute(1, 2, 0).contiguous().permute(2, 0, 1)
        expected_CHW = self.crop(image_CHW, "dx-7_dy3_60x90_to_40x30")
        for other_CHW in (interleaved_CHW, image_CHW / 255, interleaved_CHW / 255):
            assert torch.equal(self.crop(other_CHW, "dx-7_dy3_60x90_to_40x30"), expected_CHW)
        assert torch.equal(
            self.crop(image_CHW[1:2], "dx1_dy3_90x1_to_40x30"), self.crop(image_CHW, "dx1_dy3_90x1_to_40x30")[1:2]
        )

    def test_the_own_size_changes_nothing(self) -> None:
        assert torch.equal(self.crop(IMAGE_CHW, "dx0_dy0_53x37_to_53x37"), IMAGE_CHW.float())

    def test_outside_the_image_is_its_mean_color(self) -> None:
        mean_C11 = IMAGE_CHW.double().mean((1, 2), keepdim=True).round().float()
        for name in ("dx0_dy90_53x10_to_8x8", "dx-60_dy0_50x37_to_8x8"):
            assert torch.equal(self.crop(IMAGE_CHW, name), mean_C11.expand(3, 8, 8))

    def test_a_window_shows_a_part_of_the_whole(self) -> None:
        rows_3N, columns_3N = opencv.resize_taps(-5, 50, 64), opencv.resize_taps(4, 60, 48)[:, ::-1]
        part_CHW = opencv.resize(IMAGE_CHW, rows_3N[:, 3:43], columns_3N[:, 20:48])
        assert torch.equal(part_CHW, opencv.resize(IMAGE_CHW, rows_3N, columns_3N)[:, 3:43, 20:48])

    @pytest.mark.parametrize("size", [(1, 4_000_000), (4_000_000, 1)])
    def test_an_image_of_one_very_long_row_or_column_needs_no_memory_to_speak_of(self, size: tuple[int, int]) -> None:
        image_CHW = torch.zeros(*size, 3, dtype=torch.uint8).permute(2, 0, 1)
        h, w = size
        assert opencv.resize(image_CHW, opencv.resize_taps(0, h, 416), opencv.resize_taps(0, w, 416)).sum() == 0


class TestColors:
    @pytest.mark.parametrize("change", ["h0.1_s1.5_e1.3", "h0.3_s1_e1.8", "h-0.08_s0.7_e0.8"])
    def test_colors_are_opencvs(self, change: str) -> None:
        """The file's saturations and values were multiplied in float64; the program does it in float32."""
        hue, saturation, exposure = (float(part[1:]) for part in change.split("_"))
        x_HWC = opencv.change_hsv(IMAGE_CHW.float(), hue, saturation, exposure).permute(1, 2, 0)
        difference_HWC = (x_HWC - GOLDEN[f"hsv8_{change}"]).abs()
        assert difference_HWC.max() <= 2
        # OpenCV's vectors of 32 pixels cut fractions off; the 21 columns beyond them are rounded
        assert (difference_HWC[:, :32] > 0).float().mean() < 0.01

    def test_all_16_million_colors_are_opencvs(self) -> None:
        """The digest is that of OpenCV 4.5.5, 4.12 and 5.0."""
        levels = torch.arange(256.0)
        result = hashlib.sha256()
        for red in levels:
            x_CHW = torch.stack((red.expand(256, 256), *torch.meshgrid(levels, levels, indexing="ij")))
            x_CHW = opencv.change_hsv(x_CHW, 0.05, 1.3, 1.2)
            result.update(x_CHW.byte().permute(1, 2, 0).contiguous().numpy().tobytes())
        assert result.hexdigest() == "f465e32ebb0a0031f0a83f59da717946634912a8fd06a6f6c3de16987fa03ced"

    def test_gray_has_no_hue_to_turn_and_other_numbers_of_colors_only_become_brighter(self) -> None:
        gray_CHW = torch.arange(0.0, 256).expand(3, 2, 256)
        expected_HW = (gray_CHW[0] * 1.2).round().clamp(max=255)
        # OpenCV divides by 255, multiplies by 255 and cuts off: some values lose one
        difference_CHW = expected_HW - opencv.change_hsv(gray_CHW, 0.3, 1.7, 1.2)
        assert torch.equal(difference_CHW, difference_CHW.clamp(0, 1).round())
        assert torch.equal(opencv.change_hsv(gray_CHW[:1], 0.3, 1.7, 1.2), expected_HW[None])

    def test_the_image_itself_is_not_written_to(self) -> None:
        x_CHW = IMAGE_CHW.float()
        opencv.change_hsv(x_CHW, 0.1, 1.5, 1.5)
        assert torch.equal(x_CHW, IMAGE_CHW.float())


class TestBlur:
    @pytest.mark.parametrize("size", [3, 5, 7, 9, 11, 17])
    def test_bytes_are_those_of_the_blur_in_floats_but_for_rounding(self, size: int) -> None:
        x_CHW = opencv.gaussian_blur(IMAGE_CHW.float(), size)
        expected_CHW = 255 * GOLDEN[f"blur_{size}"]
        assert_bytes(x_CHW)
        # weights of the larger kernels are rounded, too
        assert (x_CHW - expected_CHW).abs().max() < (0.501 if size < 11 else 1.5)

    def test_an_even_size_is_the_next_odd_one_and_size_1_blurs_nothing(self) -> None:
        x_CHW = IMAGE_CHW.float()
        assert torch.equal(opencv.gaussian_blur(x_CHW, 4), opencv.gaussian_blur(x_CHW, 5))
        assert torch.equal(opencv.gaussian_blur(x_CHW, 1), x_CHW)

    @pytest.mark.parametrize("side", [1, 2, 5])
    def test_small_images_can_be_blurred_and_keep_an_even_color(self, side: int) -> None:
        x_CHW = torch.full((3, side, side + 3), 64.0)
        assert torch.equal(opencv.gaussian_blur(x_CHW, 31), x_CHW)
