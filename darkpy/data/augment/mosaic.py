"""A detector's training sample: one image, two on top of each other, or a mosaic of four.

Letters: C color, H height, W width; N boxes, each center x, y, width, height as fractions, class, and perhaps a track.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from darkpy.data.augment.config import DetectionAugmentConfig
from darkpy.data.augment.detection import AugmentedSample, augment, draw_placement, render, transform_boxes
from darkpy.data.augment.geometry import Crop, Window
from darkpy.data.augment.sampler import SampleRngs

MOSAIC_MARGIN = 0.2
"""The share of each side that the cut of a mosaic stays away from the edges."""

Image = tuple[Tensor, Tensor]
"""An image, (C, H, W) uint8 or 0..1, and its boxes."""

Load = Callable[[int], Image]
"""Hands out the images of one slot by number, 0 to 3."""


def compose(load: Load, config: DetectionAugmentConfig, net_w: int, net_h: int, rngs: SampleRngs) -> AugmentedSample:
    """What one slot shows; mixed images come one time in two, where the recipe has them.

    Source:  AlexeyAB/darknet src/data.c load_data_detection
    Differs: each slot tosses its own coin, in darknet one coin falls for all slots of a thread.
    """
    if not (config.mosaic or config.mixup) or rngs.mixing.coin():
        return augment(*load(0), config, net_w, net_h, rngs)
    if config.mosaic:
        return _join_four(load, config, net_w, net_h, rngs)
    first, second = (augment(*load(number), config, net_w, net_h, rngs) for number in range(2))
    boxes_N = torch.cat((first.boxes_N, _without_track(second.boxes_N)))
    return AugmentedSample(first.x_CHW.add_(second.x_CHW).div_(2), boxes_N[: config.max])


def _join_four(load: Load, config: DetectionAugmentConfig, net_w: int, net_h: int, rngs: SampleRngs) -> AugmentedSample:
    low, high = MOSAIC_MARGIN, 1 - MOSAIC_MARGIN
    cut_x = rngs.mixing.rand_int(int(net_w * low), int(net_w * high))
    cut_y = rngs.mixing.rand_int(int(net_h * low), int(net_h * high))
    quadrants = [
        Window(left, top, w, h)
        for top, h in ((0, cut_y), (cut_y, net_h - cut_y))
        for left, w in ((0, cut_x), (cut_x, net_w - cut_x))
    ]
    parts: list[Tensor] = []
    found: list[Tensor] = []
    for number, quadrant in enumerate(quadrants):
        image_CHW, boxes_N = load(number)
        placement = draw_placement(image_CHW, config, net_w, net_h, rngs)
        assert isinstance(placement, Crop)
        if rngs.mixing.coin():
            placement = placement.toward_corner(is_right=quadrant.left > 0, is_bottom=quadrant.top > 0)
        placement = placement.or_whole_image()
        boxes_N = transform_boxes(boxes_N, placement, config, rngs)
        source = _source(placement, quadrant)
        parts.append(render(image_CHW, placement, boxes_N, config, rngs, source))
        boxes_N = _without_track(boxes_N)[: config.max - sum(map(len, found))]
        found.append(_fit(boxes_N, source, quadrant, net_w, net_h, config.mosaic_bound))
    x_CHW = torch.cat((torch.cat(parts[:2], 2), torch.cat(parts[2:], 2)), 1)
    return AugmentedSample(x_CHW, torch.cat(found))


def _source(placement: Crop, quadrant: Window) -> Window:
    """The part of a view that a quadrant shows: the middle's side of it, without what lies beyond the image."""
    left, right = (placement.right, placement.left) if placement.is_flipped else (placement.left, placement.right)
    beyond_left, beyond_right = (max(0, -margin * placement.net_w // placement.w) for margin in (left, right))
    beyond_top, beyond_bottom = (
        max(0, -margin * placement.net_h // placement.h) for margin in (placement.top, placement.bottom)
    )
    x = min(placement.net_w - quadrant.w, beyond_left)
    y = min(placement.net_h - quadrant.h, beyond_top)
    if quadrant.left == 0:
        x = placement.net_w - quadrant.w - min(placement.net_w - quadrant.w, beyond_right)
    if quadrant.top == 0:
        y = placement.net_h - quadrant.h - min(placement.net_h - quadrant.h, beyond_bottom)
    return Window(x, y, quadrant.w, quadrant.h)


def _without_track(boxes_N: Tensor) -> Tensor:
    """darknet loses the tracks of mixed images."""
    boxes_N = boxes_N.clone()
    boxes_N[:, 5:] = 0
    return boxes_N


def _fit(boxes_N: Tensor, source: Window, quadrant: Window, net_w: int, net_h: int, is_bound: bool) -> Tensor:
    """Boxes moved from the source to the quadrant, cut off at its edges (`mosaic_bound`) or at those of the mosaic.

    Source:  AlexeyAB/darknet src/data.c blend_truth_mosaic
    Differs: darknet checks once more that what it has cut off is inside, and loses boxes to rounding there.
    """
    net_2 = boxes_N.new_tensor((net_w, net_h))
    shift_2 = boxes_N.new_tensor((quadrant.left - source.left, quadrant.top - source.top)) / net_2
    center_N2, size_N2, rest_N = boxes_N[:, :2] + shift_2, boxes_N[:, 2:4], boxes_N[:, 4:]
    # edges in whole pixels, as a cast from float to int leaves them
    low_N2, high_N2 = ((center_N2 + side * size_N2 / 2).mul_(net_2).trunc_() for side in (-1, 1))
    if is_bound:
        corner_2 = boxes_N.new_tensor((quadrant.left, quadrant.top))
        low_N2 = torch.maximum(low_N2, corner_2)
        high_N2 = torch.minimum(high_N2, corner_2 + boxes_N.new_tensor((quadrant.w, quadrant.h)))
        center_N2, size_N2 = (low_N2 + high_N2) / 2 / net_2, (high_N2 - low_N2) / net_2
    else:
        below_N2, above_N2 = low_N2.clamp(max=0) / net_2, (high_N2 - net_2).clamp_(min=0) / net_2
        center_N2, size_N2 = center_N2 - (below_N2 + above_N2) / 2, size_N2 + below_N2 - above_N2
    is_inside_N2 = (center_N2 > 0) & (center_N2 < 1) & (size_N2 > 1 / net_2) & (size_N2 < 1)
    return torch.cat((center_N2, size_N2, rest_N), 1)[is_inside_N2.all(1)]
