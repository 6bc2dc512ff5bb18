"""Placement of images in the input: the ranges of each dialect's draws, and the boxes."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import pytest
import torch

from darkpy.data.augment.geometry import (
    CLASS_ONLY,
    BoxTransform,
    Crop,
    Letterbox,
    draw_crop,
    draw_crop_opencv,
    draw_letterbox,
)
from darkpy.data.augment.sampler import DarknetRandom

W, H, NET_W, NET_H = 200, 100, 96, 64
DRAWS = 2000


def many(draw: Callable[[DarknetRandom], Crop]) -> list[Crop]:
    rng = DarknetRandom("views")
    return [draw(rng) for _ in range(DRAWS)]


def assert_uniform(numbers: list[float], low: float, high: float) -> None:
    """Both ends are nearly reached; mean and deviation are a uniform distribution's, give or take 4 standard errors."""
    width = high - low
    assert low <= min(numbers) < low + 0.02 * width
    assert high - 0.02 * width < max(numbers) <= high
    assert statistics.fmean(numbers) == pytest.approx((low + high) / 2, abs=4 * width / (12 * len(numbers)) ** 0.5)
    assert statistics.pstdev(numbers) == pytest.approx(width / 12**0.5, rel=0.06)


def spread(margins: list[int]) -> list[float]:
    """Numbers cut off towards 0, in the middle of what they were cut from."""
    return [margin + (margin > 0) * 0.5 - (margin < 0) * 0.5 for margin in margins]


class TestFrame:
    def test_edges_are_scaled_shifted_mirrored_and_cut_off(self) -> None:
        boxes = torch.tensor([[0.5, 0.5, 0.2, 0.4, 7, 1], [0.1, 0.9, 0.2, 0.2, 8, 2], [0.95, 0.5, 0.1, 0.1, 9, 3]])
        moved = BoxTransform(2, 1, 0.5, -0.25, False).apply(boxes)
        # left .4 and right .6 become .3 and .7, top .3 and bottom .7 become .55 and .95
        expected = [[0.5, 0.75, 0.4, 0.4, 7, 1], [0, 1, 0, 0, 8, 2], [1, 0.75, 0, 0.1, 9, 3]]
        torch.testing.assert_close(moved, torch.tensor(expected))
        mirrored = BoxTransform(2, 1, 0.5, -0.25, True).apply(boxes)
        torch.testing.assert_close(mirrored[:, 0], 1 - moved[:, 0])
        torch.testing.assert_close(mirrored[:, 1:], moved[:, 1:])

    def test_a_class_without_a_place_stays_without(self) -> None:
        moved = BoxTransform(2, 1, 0.5, -0.25, True).apply(torch.tensor([[0.0, 0, 0, 0, 3], [0, 0.5, 0.5, 0.5, 4]]))
        assert moved[0].tolist() == [CLASS_ONLY] * 4 + [3]
        assert moved[1, 4] == 4
        assert moved[1, 0] < 1.1

    def test_no_boxes_are_no_boxes(self) -> None:
        assert BoxTransform(1, 1, 0, 0, True).apply(torch.zeros(0, 6)).shape == (0, 6)


class TestPlaced:
    def views(self, jitter: float, net_w: int = NET_W, net_h: int = NET_H) -> list[Letterbox]:
        rng = DarknetRandom("placed")
        return [draw_letterbox(W, H, net_w, net_h, jitter=jitter, flip=True, rng=rng) for _ in range(DRAWS)]

    def test_without_jitter_the_sides_are_the_images_own(self) -> None:
        views = self.views(0)
        assert {(placement.w, placement.h) for placement in views} == {(NET_W, NET_W / 2)}
        assert {placement.dx for placement in views} == {0}
        assert_uniform([placement.dy for placement in views], 0, NET_H - NET_W / 2)
        assert sum(placement.flip for placement in views) / DRAWS == pytest.approx(0.5, abs=0.045)

    def test_jitter_changes_both_sides_of_the_ratio(self) -> None:
        views = self.views(0.3)
        ratios = [placement.w / placement.h for placement in views]
        assert 2 * 0.7 / 1.3 < min(ratios) < 1.15
        assert 3.5 < max(ratios) < 2 * 1.3 / 0.7
        # the mean of a / b with a from 140 to 260 and b from 70 to 130, times log(13 / 7)
        assert statistics.fmean(ratios) == pytest.approx(200 / 60 * 0.6190, abs=0.05)
        shares = [placement.dy / (NET_H - placement.h) for placement in views]
        assert_uniform(shares, 0, 1)

    def test_a_tall_ratio_is_compared_with_1_and_may_hang_over(self) -> None:
        assert {placement.w for placement in self.views(0, net_w=64, net_h=192)} == {64}
        placement = draw_letterbox(100, 110, 64, 192, jitter=0, flip=False, rng=DarknetRandom())
        assert (placement.w, placement.h) == pytest.approx((192 * 100 / 110, 192))
        assert 64 - placement.w <= placement.dx <= 0

    def test_gray_is_where_the_image_is_not(self) -> None:
        placement = Letterbox(NET_W, NET_H, 60.9, 30.9, 20.9, 10.9, True)
        x_CHW = placement.render(torch.ones(3, H, W))
        expected_CHW = torch.full((3, NET_H, NET_W), 0.5)
        expected_CHW[:, 10:40, NET_W - 80 : NET_W - 20] = 1
        # the image fades to black beyond its last pixel, which only enlarging shows
        assert torch.equal(x_CHW, expected_CHW)


class TestCropped:
    def test_v1_margins_are_whole_and_up_to_the_jitter(self) -> None:
        views = many(lambda rng: draw_crop(W, H, NET_W, NET_H, jitter=0.2, rng=rng))
        for margins, most in (
            ([placement.left for placement in views], 40),
            ([placement.right for placement in views], 40),
            ([placement.top for placement in views], 20),
            ([placement.bottom for placement in views], 20),
        ):
            assert_uniform(spread(margins), -most, most)
        assert sum(placement.flip for placement in views) / DRAWS == pytest.approx(0.5, abs=0.045)

    def test_without_resize_alexeyabs_margins_are_the_same(self) -> None:
        views = self.opencv(jitter=0.2, resize=1)
        assert_uniform(spread([placement.left for placement in views]), -40, 40)
        assert {placement.flip for placement in views} == {True, False}

    def opencv(self, jitter: float, resize: float, *, flip: bool = True) -> list[Crop]:
        return many(
            lambda rng: draw_crop_opencv(
                W, H, NET_W, NET_H, jitter=jitter, resize=resize, flip=flip, rng=rng, effects=rng
            )
        )

    def test_flip_can_be_forbidden(self) -> None:
        assert not any(placement.flip for placement in self.opencv(0.2, 1, flip=False))

    def test_resize_moves_opposite_margins_each_by_its_own_luck(self) -> None:
        views = self.opencv(jitter=0, resize=1.5)
        # half of what the factor adds or takes: from 1 - 1.5 to 1 - 1 / 1.5 of the side
        assert_uniform(spread([placement.left for placement in views]), -50, 33)
        assert_uniform(spread([placement.bottom for placement in views]), -25, 16)
        assert all(placement.left / 2 == pytest.approx(placement.top, abs=1.5) for placement in views)
        assert all(placement.right / 2 == pytest.approx(placement.bottom, abs=1.5) for placement in views)
        assert (
            statistics.correlation([placement.left for placement in views], [placement.right for placement in views])
            < 0.1
        )

    def test_resize_below_1_shows_more_and_never_less(self) -> None:
        views = self.opencv(jitter=0, resize=0.5)
        assert_uniform(spread([placement.left for placement in views]), -100, 0)
        assert_uniform(spread([placement.top for placement in views]), -50, 0)

    @pytest.mark.parametrize("size", [(200, 100), (100, 200), (96, 64), (50, 47)])
    def test_letterboxed_keeps_the_images_sides(self, size: tuple[int, int]) -> None:
        w, h = size
        placement = Crop(w, h, NET_W, NET_H, 0, 0, 0, 0, False).with_letterbox()
        assert placement.crop_w / placement.crop_h == pytest.approx(NET_W / NET_H, rel=0.05)
        assert max(placement.left, placement.right, placement.top, placement.bottom) <= 0
        assert abs(placement.left - placement.right) + abs(placement.top - placement.bottom) == 0
        assert placement.crop_w == w or placement.crop_h == h

    @pytest.mark.parametrize("margins", [(150, 60, 0, 0), (0, 0, 60, 60), (200, -10, 0, 0), (0, 0, 110, -20)])
    def test_margins_that_leave_nothing_are_taken_back(self, margins: tuple[int, int, int, int]) -> None:
        placement = Crop(W, H, NET_W, NET_H, *margins, True).or_whole_image()
        assert placement == Crop(W, H, NET_W, NET_H, 0, 0, 0, 0, True)

    @pytest.mark.parametrize("flip", [False, True])
    @pytest.mark.parametrize(("is_right", "is_bottom"), [(False, False), (True, False), (False, True), (True, True)])
    def test_in_a_corner_the_margins_are_on_the_side_of_the_mosaics_middle(
        self, flip: bool, is_right: bool, is_bottom: bool
    ) -> None:
        placement = Crop(W, H, NET_W, NET_H, -30, -20, -10, -4, flip)
        corner = placement.for_quadrant(is_right=is_right, is_bottom=is_bottom)
        assert (corner.crop_w, corner.crop_h) == (placement.crop_w, placement.crop_h)
        left, right = (corner.right, corner.left) if flip else (corner.left, corner.right)
        assert (left, right) == ((-50, 0) if is_right else (0, -50))
        assert (corner.top, corner.bottom) == ((-14, 0) if is_bottom else (0, -14))

    def test_beyond_the_image_is_its_edge_or_with_opencv_its_mean(self) -> None:
        image_CHW = torch.zeros(3, 40, 40)
        image_CHW[:, :, :20] = 1
        crop = Crop(40, 40, 80, 80, -40, 0, 0, 0, False)
        for x_CHW, outside in ((crop.render(image_CHW), 1.0), (crop.render_opencv(image_CHW), 128.0)):
            assert set(x_CHW[0, 0, :39].tolist()) == {outside}
            assert set(x_CHW[0, 0, 62:].tolist()) == {0.0}
