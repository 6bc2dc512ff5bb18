"""Mosaics and mixups: each image's square stays in its box, within what darknet leaves of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from darkpy.config.net import NetSpec
from darkpy.data.augment.config import DetectionAugmentConfig
from darkpy.data.augment.mosaic import compose
from darkpy.data.augment.sampler import Sampler
from darkpy.dialect import Dialect

NET_W, NET_H = 96, 80
SIZES = ((90, 60), (64, 64), (40, 100), (120, 80))
COLORS = torch.tensor([(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0)], dtype=torch.uint8) * 200
SAMPLER = Sampler(seed=2, count=4)
NET = NetSpec(dialect=Dialect.ALEXEYAB)
MOSAIC = DetectionAugmentConfig.from_net(replace(NET, mosaic=True), "yolo", classes=4, max=9, jitter=0.3, resize=1.3)
MIXUP = DetectionAugmentConfig.from_net(replace(NET, mixup=1), "yolo", classes=4, max=9, jitter=0.3, resize=1.3)


def load(number: int) -> tuple[Tensor, Tensor]:
    """A square of its own color in the middle of each image, as large as a third of it; its class is the number."""
    w, h = SIZES[number]
    image_CHW = torch.zeros(3, h, w, dtype=torch.uint8)
    image_CHW[:, h // 3 : 2 * (h // 3), w // 3 : 2 * (w // 3)] = COLORS[number][:, None, None]
    center = ((w // 3) * 1.5 / w, (h // 3) * 1.5 / h)
    return image_CHW, torch.tensor([(*center, w // 3 / w, h // 3 / h, number, 40 + number)])


def extents_px(x_CHW: Tensor, brightness: float) -> dict[int, Tensor]:
    """Left, top, right, bottom of each color that is there."""
    found = {}
    for number, color_C in enumerate(COLORS.bool()):
        wanted_C11 = color_C[:, None, None]
        is_here_HW = torch.where(wanted_C11, x_CHW > brightness, x_CHW < 0.3).all(0)
        rows, columns = torch.nonzero(is_here_HW, as_tuple=True)
        if len(rows):
            found[number] = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
    return found


def edges_px(box: Tensor) -> Tensor:
    center_2, half_2 = box[:2], box[2:4] / 2
    return torch.cat((center_2 - half_2, center_2 + half_2)) * torch.tensor((NET_W, NET_H, NET_W, NET_H))


def is_mixed(config: DetectionAugmentConfig, index: int) -> bool:
    opened: list[int] = []

    def note(number: int) -> tuple[Tensor, Tensor]:
        opened.append(number)
        return load(number)

    compose(note, config, NET_W, NET_H, SAMPLER.rngs(index))
    assert opened in ([0], [0, 1], [0, 1, 2, 3])
    return len(opened) > 1


@pytest.mark.parametrize("config", [MOSAIC, MIXUP])
def test_images_are_mixed_one_time_in_two(config: DetectionAugmentConfig) -> None:
    assert abs(sum(is_mixed(config, index) for index in range(400)) - 200) < 40
    assert not any(is_mixed(replace(config, mosaic=False, mixup=False), index) for index in range(20))


@pytest.mark.parametrize("is_bound", [True, False])
def test_each_square_of_a_mosaic_stays_in_its_box(is_bound: bool) -> None:
    config = replace(MOSAIC, mosaic_bound=is_bound)
    met = 0
    for index in range(150):
        x_CHW, boxes_N = compose(load, config, NET_W, NET_H, SAMPLER.rngs(index))
        assert x_CHW.shape == (3, NET_H, NET_W)
        boxes = {int(box[4]): edges_px(box) for box in boxes_N}
        for number, extent in extents_px(x_CHW, 0.4).items():
            if number not in boxes:
                assert (extent[2:] - extent[:2]).min() < 3, "more than a sliver of a square has no box"
                continue
            assert (extent[:2] >= boxes[number][:2] - 1.1).all()
            assert (extent[2:] <= boxes[number][2:] + 1.1).all()
            if is_bound:
                torch.testing.assert_close(extent, boxes[number], rtol=0, atol=2.1)
            met += 1
    assert met > 150


def test_a_mosaic_has_its_cut_between_a_fifth_and_four_fifths_and_every_image_in_its_quadrant() -> None:
    def flat(number: int) -> tuple[Tensor, Tensor]:
        return COLORS[number][:, None, None].expand(3, 50, 50), torch.zeros(0, 6)

    cuts = []
    for index in range(400):
        x_CHW, _ = compose(flat, MOSAIC, NET_W, NET_H, SAMPLER.rngs(index))
        if not x_CHW[2, -1, 0]:
            continue
        is_top_H, is_left_W = x_CHW[2, :, 0] == 0, x_CHW[0, 0] > 0
        cut_x, cut_y = int(is_left_W.sum()), int(is_top_H.sum())
        expected = [COLORS[number].float() / 255 for number in range(4)]
        for number, (rows, columns) in enumerate(
            (rows, columns)
            for rows in (slice(cut_y), slice(cut_y, None))
            for columns in (slice(cut_x), slice(cut_x, None))
        ):
            part_CHW = x_CHW[:, rows, columns]
            torch.testing.assert_close(part_CHW, expected[number][:, None, None].expand_as(part_CHW))
        cuts.append((cut_x, cut_y))
    xs, ys = zip(*cuts, strict=True)
    assert len(cuts) > 150
    assert (int(0.2 * NET_W), int(0.8 * NET_W)) == pytest.approx((min(xs), max(xs)), abs=3)
    assert (int(0.2 * NET_H), int(0.8 * NET_H)) == pytest.approx((min(ys), max(ys)), abs=3)


def test_mixup_lays_two_images_and_both_lists_of_boxes_on_each_other() -> None:
    met = 0
    for index in range(60):
        x_CHW, boxes_N = compose(load, MIXUP, NET_W, NET_H, SAMPLER.rngs(index))
        if len(boxes_N) < 2:
            continue
        assert boxes_N[:, 4].tolist() == [0, 1]
        # darknet loses the second image's tracks
        assert boxes_N[:, 5].tolist() == [40, 0]
        # where the squares overlap, neither has its own color
        for number, extent in extents_px(x_CHW, 0.3).items():
            if number < 2:
                assert (extent[:2] >= edges_px(boxes_N[number])[:2] - 1.1).all()
                assert (extent[2:] <= edges_px(boxes_N[number])[2:] + 1.1).all()
        assert x_CHW.max() < 0.45
        met += 1
    assert met > 15


@pytest.mark.parametrize("config", [MOSAIC, MIXUP])
def test_no_more_boxes_than_max_are_left(config: DetectionAugmentConfig) -> None:
    def crowded(number: int) -> tuple[Tensor, Tensor]:
        image_CHW, boxes_N = load(number)
        return image_CHW, boxes_N.repeat(5, 1)

    counts = [
        len(compose(crowded, replace(config, max=6), NET_W, NET_H, SAMPLER.rngs(index)).boxes_N) for index in range(80)
    ]
    assert max(counts) == 6


def test_mosaics_can_be_blurred_and_noisy() -> None:
    config = replace(MOSAIC, blur=1, gaussian_noise=5)
    for index in range(10):
        x_CHW, _ = compose(load, config, NET_W, NET_H, SAMPLER.rngs(index))
        assert x_CHW.shape == (3, NET_H, NET_W)
        assert 0 <= x_CHW.min() <= x_CHW.max() <= 1
