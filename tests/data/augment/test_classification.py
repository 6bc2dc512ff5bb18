"""A classifier's images: each dialect's random crops, and AlexeyAB's mixtures with truths weighted by area."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from darkpy.config.net import NetSpec
from darkpy.data.augment.classification import ImageAndTarget, augment, compose
from darkpy.data.augment.config import CUTMIX, CUTMIX_OR_MOSAIC, MIXUP, MOSAIC, ClassificationAugmentConfig
from darkpy.data.augment.sampler import Sampler
from darkpy.dialect import Dialect
from darkpy.ops.resample import center_crop, resize

SAMPLER = Sampler(seed=3, count=4)
PJREDDIE = ClassificationAugmentConfig.from_net(NetSpec(dialect=Dialect.PJREDDIE, width=32, height=32))
ALEXEYAB = ClassificationAugmentConfig.from_net(NetSpec(dialect=Dialect.ALEXEYAB, width=32, height=32))


def ramp(w: int, h: int) -> Tensor:
    """Red is the column, green the row, blue is 1: each number of a result tells where it was seen."""
    image_CHW = torch.ones(3, h, w)
    image_CHW[0] = torch.arange(w) / 255
    image_CHW[1] = torch.arange(h)[:, None] / 255
    return image_CHW


def seen(config: ClassificationAugmentConfig, index: int, w: int = 120, h: int = 80) -> tuple[Tensor, Tensor]:
    """The columns and rows that a sample's image shows, where it shows any."""
    x_CHW = augment(ramp(w, h), config, 32, 32, SAMPLER.rngs(index))
    inside_HW = x_CHW[2] > 0.999
    return x_CHW[0][inside_HW] * 255, x_CHW[1][inside_HW] * 255


@pytest.mark.parametrize("config", [PJREDDIE, ALEXEYAB])
def test_the_shorter_side_is_from_min_to_max_crop(config: ClassificationAugmentConfig) -> None:
    # 32 pixels of the result are 32 / r of the 80 rows, r from 32 to 64
    heights = []
    for index in range(150):
        _, rows = seen(config, index)
        heights.append(float(rows.max() - rows.min()) * 32 / 31)
    assert min(heights) == pytest.approx(80 * 32 / 64, rel=0.05)
    assert max(heights) == pytest.approx(80, rel=0.06)


@pytest.mark.parametrize("config", [PJREDDIE, ALEXEYAB])
def test_every_part_of_the_image_is_seen(config: ClassificationAugmentConfig) -> None:
    columns, rows = zip(*(seen(config, index) for index in range(150)), strict=True)
    for parts, length in ((columns, 120), (rows, 80)):
        assert min(float(part.min()) for part in parts) < 3
        assert max(float(part.max()) for part in parts) > length - 4


def test_angle_and_aspect_turn_and_stretch() -> None:
    turned = replace(ALEXEYAB, angle=30.0, aspect=1.5, min_crop=16.0, max_crop=16.0)
    angles, aspects = [], []
    for index in range(200):
        image_CHW = ramp(120, 120)
        x_CHW = augment(image_CHW, replace(turned, flip=False), 32, 32, SAMPLER.rngs(index)) * 255
        right_C, down_C = x_CHW[:2, 16, 17] - x_CHW[:2, 16, 15], x_CHW[:2, 17, 16] - x_CHW[:2, 15, 16]
        angles.append(float(torch.atan2(right_C[1], right_C[0]).rad2deg()))
        aspects.append(float(right_C.norm() / down_C.norm()))
    assert -30.1 < min(angles) < -27 < 27 < max(angles) < 30.1
    assert 1 / 1.51 < min(aspects) < 0.72
    assert 1.4 < max(aspects) < 1.51


def test_pjreddie_may_look_beyond_a_narrow_image_where_alexeyab_stays_in_its_middle() -> None:
    def begins(config: ClassificationAugmentConfig) -> set[int]:
        """The columns at which the image, 24 of 32 pixels wide, begins."""
        narrow = replace(config, min_crop=24.0, max_crop=24.0)
        x_CHWs = [augment(ramp(60, 60), narrow, 32, 32, SAMPLER.rngs(index)) for index in range(60)]
        return {int((x_CHW[2].sum(0) > 5).nonzero()[0]) for x_CHW in x_CHWs}

    assert begins(ALEXEYAB) == {4}
    assert begins(PJREDDIE) == set(range(9))


def test_center_is_the_square_in_the_middle() -> None:
    config = replace(PJREDDIE, center=True, flip=False)
    for index in range(5):
        x_CHW = augment(ramp(120, 80), config, 32, 32, SAMPLER.rngs(index))
        assert torch.equal(x_CHW, center_crop(ramp(120, 80), 32, 32))


def test_alexeyab_crops_a_square_of_the_longer_side_and_resizes_it() -> None:
    config = replace(ALEXEYAB, flip=False)
    square_CHW = augment(ramp(120, 80), replace(config, width=48), 48, 48, SAMPLER.rngs(1))
    assert torch.equal(augment(ramp(120, 80), config, 48, 32, SAMPLER.rngs(1)), resize(square_CHW, 48, 32))


@pytest.mark.parametrize(("flip", "times"), [(True, 100), (False, 0)])
def test_flips_come_one_time_in_two_unless_forbidden(flip: bool, times: int) -> None:
    mirrored = 0
    for index in range(200):
        x_CHW = augment(ramp(120, 80), replace(ALEXEYAB, flip=flip), 32, 32, SAMPLER.rngs(index))
        mirrored += bool(x_CHW[0, 0, 0] > x_CHW[0, 0, -1])
    assert abs(mirrored - times) <= (30 if flip else 0)


class TestMixing:
    """Four images of one gray each; what an image tells is its share of the truth."""

    def examples(self, mixing: int) -> list[ImageAndTarget]:
        def load(number: int) -> ImageAndTarget:
            return torch.full((3, 64, 64), (number + 1) / 5), torch.eye(4)[number]

        return [compose(load, replace(ALEXEYAB, mixing=mixing), 32, 32, SAMPLER.rngs(index)) for index in range(120)]

    @pytest.mark.parametrize("mixing", [CUTMIX, MOSAIC, CUTMIX_OR_MOSAIC])
    def test_the_target_is_weighted_by_area(self, mixing: int) -> None:
        kinds = set()
        for x_CHW, truth_K in self.examples(mixing):
            shares = torch.stack([(x_CHW[0] - (number + 1) / 5).abs().lt(1e-4).float().mean() for number in range(4)])
            torch.testing.assert_close(truth_K, shares)
            kinds.add(int((truth_K > 0).sum()))
        assert kinds == {CUTMIX: {1, 2}, MOSAIC: {1, 4}, CUTMIX_OR_MOSAIC: {1, 2, 4}}[mixing]

    def test_images_are_mixed_one_time_in_two(self) -> None:
        for mixing in (MIXUP, CUTMIX, MOSAIC):
            assert abs(sum(float(truth_K.max()) == 1 for _, truth_K in self.examples(mixing)) - 60) < 22
        assert all(float(truth_K[0]) == 1 for _, truth_K in self.examples(0))

    def test_mixup_is_the_mean_of_two(self) -> None:
        for x_CHW, truth_K in self.examples(MIXUP):
            expected = 0.3 if truth_K[0] == 0.5 else 0.2
            torch.testing.assert_close(x_CHW, torch.full((3, 32, 32), expected))
            assert truth_K.tolist() in ([1, 0, 0, 0], [0.5, 0.5, 0, 0])

    def test_cuts_keep_to_their_ranges(self) -> None:
        shares = [float(truth_K[1]) for _, truth_K in self.examples(CUTMIX) if truth_K[1] > 0]
        assert 0.3**2 - 0.02 < min(shares) < 0.2
        assert 0.4 < max(shares) < 0.8**2 + 0.02
        quarters = [float(truth_K[0]) for _, truth_K in self.examples(MOSAIC) if truth_K[1] > 0]
        assert 0.2**2 - 0.01 < min(quarters) < 0.1
        assert 0.4 < max(quarters) < 0.8**2 + 0.01


def test_blur_comes_one_time_in_four() -> None:
    def load(number: int) -> ImageAndTarget:
        return ramp(120, 80) * (torch.arange(120) % 2), torch.ones(1)

    def shows(blur: int) -> list[Tensor]:
        return [compose(load, replace(ALEXEYAB, blur=blur), 32, 32, SAMPLER.rngs(index))[0] for index in range(200)]

    sharp, blurred = shows(0), shows(1)
    changed = sum(not torch.equal(one_CHW, other_CHW) for one_CHW, other_CHW in zip(sharp, blurred, strict=True))
    assert abs(changed - 50) < 25
