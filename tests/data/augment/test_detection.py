"""One image as training shows it: a square painted on it stays in its box, whatever is done to both."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from darkpy.config.net import NetSpec
from darkpy.data.augment.config import DetectionAugmentConfig
from darkpy.data.augment.detection import AugmentedSample, augment
from darkpy.data.augment.sampler import Sampler
from darkpy.dialect import Dialect

W, H = 90, 60
COLORS = {"hue": 0.0, "saturation": 1.5, "exposure": 1.5}
PJREDDIE = NetSpec(dialect=Dialect.PJREDDIE, **COLORS)  # type: ignore[arg-type]
ALEXEYAB = NetSpec(dialect=Dialect.ALEXEYAB, **COLORS)  # type: ignore[arg-type]
VARIANTS = {
    "pjreddie": (PJREDDIE, "yolo"),
    "pjreddie v1": (PJREDDIE, "detection"),
    "alexeyab": (ALEXEYAB, "yolo"),
    "alexeyab v1": (ALEXEYAB, "detection"),
    "letter_box": (replace(ALEXEYAB, letter_box=True), "yolo"),
    "blur": (replace(ALEXEYAB, blur=5), "Gaussian_yolo"),
    "noise": (replace(ALEXEYAB, gaussian_noise=8), "region"),
}
TOLERANCE_PX = {
    # painting drops the fractions of the place and of the size, boxes keep them
    "pjreddie": 2.0,
    # half of the brightness moves where blur meets the end of the image
    "blur": 2.2,
}
SAMPLER = Sampler(seed=1, count=1)


def green_square(left: int, top: int, side: int) -> tuple[Tensor, Tensor]:
    """Green on black, and its box."""
    image_CHW = torch.zeros(3, H, W, dtype=torch.uint8)
    image_CHW[1, top : top + side, left : left + side] = 160
    box = ((left + side / 2) / W, (top + side / 2) / H, side / W, side / H, 2, 77)
    return image_CHW, torch.tensor([box])


def config_of(way: str) -> DetectionAugmentConfig:
    net, head = VARIANTS[way]
    return DetectionAugmentConfig.from_net(net, head, classes=3, max=9, jitter=0.3, resize=1.4)


def shown(
    way: str | DetectionAugmentConfig, index: int, left: int = 30, top: int = 20, side: int = 24
) -> AugmentedSample:
    config = config_of(way) if isinstance(way, str) else way
    return augment(*green_square(left, top, side), config, 64, 96, SAMPLER.rngs(index))


def edges_px(boxes_N: Tensor) -> Tensor:
    """Left, top, right, bottom."""
    center_N2, half_N2 = boxes_N[:, :2], boxes_N[:, 2:4] / 2
    return torch.cat((center_N2 - half_N2, center_N2 + half_N2), 1) * torch.tensor((64, 96, 64, 96))


def extent_px(x_CHW: Tensor) -> Tensor | None:
    """Left, top, right, bottom of what is more than half as green as the greenest, and plainly green."""
    green_HW = x_CHW[1] - x_CHW[0]
    rows, columns = torch.nonzero(green_HW > max(0.2, float(green_HW.max()) / 2), as_tuple=True)
    if not len(rows):
        return None
    return torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()


@pytest.mark.parametrize("way", VARIANTS)
@pytest.mark.parametrize(("left", "top"), [(30, 20), (0, 0), (66, 36)])
def test_a_square_fills_its_box_and_nothing_else(way: str, left: int, top: int) -> None:
    if "v1" in way:
        # what lies at the edge is drawn out beyond it there
        left, top = min(max(left, 1), 65), min(max(top, 1), 35)
    met = 0
    for index in range(60):
        x_CHW, boxes_N = shown(way, index, left, top)
        assert x_CHW.shape == (3, 96, 64)
        assert 0 <= x_CHW.min() <= x_CHW.max() <= 1
        extent = extent_px(x_CHW)
        if extent is None or not len(boxes_N):
            # slivers at the input's edge may be lost on either side
            one_of_both = edges_px(boxes_N)[0] if extent is None and len(boxes_N) else extent
            assert one_of_both is None or (one_of_both[2:] - one_of_both[:2]).min() < 2
        else:
            assert boxes_N[0, 4] == 2
            torch.testing.assert_close(extent, edges_px(boxes_N)[0], rtol=0, atol=TOLERANCE_PX.get(way, 1.0))
            met += 1
    assert met > 40


@pytest.mark.parametrize("way", VARIANTS)
def test_the_same_chance_makes_the_same_sample(way: str) -> None:
    first, again, other = (shown(way, index) for index in (3, 3, 4))
    assert torch.equal(first.x_CHW, again.x_CHW)
    assert torch.equal(first.boxes_N, again.boxes_N)
    assert not torch.equal(first.x_CHW, other.x_CHW)


def test_flips_come_one_time_in_two_unless_forbidden() -> None:
    def flipped(way: str, *, flip: bool = True) -> int:
        config = replace(config_of(way), jitter=0.0, resize=1.0, flip=flip)
        # the square lies on the left
        samples = [shown(config, index, 5, 20) for index in range(300)]
        return sum(float(boxes_N[0, 0]) > 0.5 for _, boxes_N in samples)

    assert abs(flipped("pjreddie") - 150) < 35
    assert abs(flipped("alexeyab") - 150) < 35
    assert flipped("alexeyab", flip=False) == 0


def test_boxes_beyond_max_go_first_and_small_ones_after_that() -> None:
    image_CHW, box_N = green_square(30, 20, 24)
    tiny_N = box_N.clone()
    tiny_N[:, 2:4] = 0.0005
    config = DetectionAugmentConfig.from_net(PJREDDIE, "yolo", classes=3, max=4, jitter=0.1)
    kept = [
        len(augment(image_CHW, torch.cat((box_N, tiny_N)).repeat(4, 1), config, 64, 96, SAMPLER.rngs(index)).boxes_N)
        for index in range(200)
    ]
    # four of eight in random order, half of them too small
    assert max(kept) <= 4
    assert {1, 2, 3} <= set(kept)
    assert abs(sum(kept) / 200 - 2) < 0.25


def test_a_box_below_one_pixel_of_the_network_is_no_object_for_alexeyab() -> None:
    image_CHW, box_N = green_square(30, 20, 24)
    for share, count in ((0.9, 0), (1.1, 1)):
        box_N[:, 2] = share / 64
        config = replace(DetectionAugmentConfig.from_net(ALEXEYAB, "yolo", classes=3, max=4, jitter=0), flip=False)
        assert len(augment(image_CHW, box_N, config, 64, 96, SAMPLER.rngs(0)).boxes_N) == count


def test_the_order_of_boxes_is_random() -> None:
    image_CHW, box_N = green_square(30, 20, 24)
    boxes_N = box_N.repeat(5, 1)
    boxes_N[:, 5] = torch.arange(5)
    config = DetectionAugmentConfig.from_net(PJREDDIE, "yolo", classes=3, max=9, jitter=0)
    orders = [
        augment(image_CHW, boxes_N, config, 64, 96, SAMPLER.rngs(index)).boxes_N[:, 5].tolist() for index in range(300)
    ]
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in orders)
    for place in range(5):
        assert abs(sum(order[place] for order in orders) / 300 - 2) < 0.35


def test_noise_comes_one_time_in_two_and_only_brightens() -> None:
    plain, noisy = (
        [shown(replace(config_of("noise"), gaussian_noise=most), index).x_CHW for index in range(60)]
        for most in (0, 40)
    )
    changed = [after_CHW - before_CHW for before_CHW, after_CHW in zip(plain, noisy, strict=True)]
    assert all(change_CHW.min() >= 0 for change_CHW in changed)
    brighter = [change_CHW for change_CHW in changed if change_CHW.max() > 0]
    assert 15 < len(brighter) < 45
    # half of a normal distribution of deviation 40: its mean is 40 / sqrt(2 pi)
    dark = torch.cat([change_CHW[2].flatten() for change_CHW in brighter]) * 255
    assert abs(float(dark.mean()) - 40 / (2 * torch.pi) ** 0.5) < 0.3
    assert abs(float((dark > 0).float().mean()) - 0.5) < 0.01


class TestBlur:
    def blurs(self, blur: int, side: int) -> list[tuple[AugmentedSample, AugmentedSample]]:
        """Sharp and blurred, where they differ."""
        sharp, blurred = (replace(config_of("blur"), blur=most) for most in (0, blur))
        pairs = [(shown(sharp, index, side=side), shown(blurred, index, side=side)) for index in range(60)]
        return [pair for pair in pairs if not torch.equal(pair[0].x_CHW, pair[1].x_CHW)]

    def sharp_inside(self, sharp: AugmentedSample, blurred: AugmentedSample) -> bool:
        left, top, right, bottom = edges_px(sharp.boxes_N)[0].tolist()
        inside = (slice(None), slice(int(top) + 1, int(bottom) - 1), slice(int(left) + 1, int(right) - 1))
        return torch.equal(sharp.x_CHW[inside], blurred.x_CHW[inside])

    def test_blur_1_leaves_objects_sharp_two_times_in_three(self) -> None:
        pairs = [pair for pair in self.blurs(1, 24) if len(pair[0].boxes_N)]
        assert 28 < len(pairs) < 52
        assert all(self.sharp_inside(*pair) for pair in pairs)

    def test_a_larger_blur_takes_the_whole_image_or_the_background(self) -> None:
        sharp = [self.sharp_inside(*pair) for pair in self.blurs(3, 50) if len(pair[0].boxes_N)]
        assert 8 < sum(sharp) < 32
        assert 8 < len(sharp) - sum(sharp) < 32

    def test_small_objects_leave_the_blur_to_the_background(self) -> None:
        # a side of 8 to 15 pixels makes a blur of 1 out of 5
        assert all(self.sharp_inside(*pair) for pair in self.blurs(5, 14) if len(pair[0].boxes_N))

    def test_a_image_without_objects_is_blurred_one_time_in_three_as_background(self) -> None:
        image_CHW, _ = green_square(30, 20, 24)
        config = replace(DetectionAugmentConfig.from_net(ALEXEYAB, "yolo", classes=3, max=4, jitter=0.2), blur=9)
        nothing = torch.zeros(0, 6)
        changed = [
            not torch.equal(
                augment(image_CHW, nothing, config, 64, 96, SAMPLER.rngs(index)).x_CHW,
                augment(image_CHW, nothing, replace(config, blur=0), 64, 96, SAMPLER.rngs(index)).x_CHW,
            )
            for index in range(90)
        ]
        assert 15 < sum(changed) < 45


def test_hue_turns_to_both_sides() -> None:
    config = config_of("pjreddie")
    config = replace(config, color=replace(config.color, hue=0.3))
    samples = [shown(config, index).x_CHW for index in range(100)]
    redder = sum(float(x_CHW[0].sum() - x_CHW[2].sum()) > 1 for x_CHW in samples)
    bluer = sum(float(x_CHW[2].sum() - x_CHW[0].sum()) > 1 for x_CHW in samples)
    assert redder > 30
    assert bluer > 30
