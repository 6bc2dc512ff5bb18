"""Composition of a detector's training sample: one image, two blended (mixup), or a mosaic of four.

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
"""Smallest distance of a mosaic's cut from the edges, as a fraction of the side."""

LoadBoxedImage = Callable[[int], tuple[Tensor, Tensor]]
"""Returns the sample's source image 0 to 3, (C, H, W) uint8 or 0..1, and its boxes."""


def compose(
    load: LoadBoxedImage, config: DetectionAugmentConfig, net_w: int, net_h: int, rngs: SampleRngs
) -> AugmentedSample:
    """Load, augment and, in every other sample on average, mix images as the config says.

    Source:  AlexeyAB/darknet src/data.c load_data_detection
    Differs: each sample tosses its own coin; in darknet all samples of a thread share one.
    """
    if not (config.mosaic or config.mixup) or rngs.mixing.coin():
        return augment(*load(0), config, net_w, net_h, rngs)
    if config.mosaic:
        return _make_mosaic(load, config, net_w, net_h, rngs)
    rngs.note("mixup of two images")
    first, second = (augment(*load(source), config, net_w, net_h, rngs) for source in range(2))
    boxes_N = torch.cat((first.boxes_N, _drop_tracks(second.boxes_N)))
    return AugmentedSample(first.x_CHW.add_(second.x_CHW).div_(2), boxes_N[: config.max])


def _make_mosaic(
    load: LoadBoxedImage, config: DetectionAugmentConfig, net_w: int, net_h: int, rngs: SampleRngs
) -> AugmentedSample:
    """Join four images at a random cut: upper left, upper right, lower left, lower right."""
    low, high = MOSAIC_MARGIN, 1 - MOSAIC_MARGIN
    cut_x = rngs.mixing.rand_int(int(net_w * low), int(net_w * high))
    cut_y = rngs.mixing.rand_int(int(net_h * low), int(net_h * high))
    rngs.note(f"mosaic of four images, cut at {cut_x}, {cut_y}")
    quadrants = [
        Window(left, top, w, h)
        for top, h in ((0, cut_y), (cut_y, net_h - cut_y))
        for left, w in ((0, cut_x), (cut_x, net_w - cut_x))
    ]
    parts: list[Tensor] = []
    boxes: list[Tensor] = []
    for source, quadrant in enumerate(quadrants):
        image_CHW, boxes_N = load(source)
        crop = draw_placement(image_CHW, config, net_w, net_h, rngs)
        assert isinstance(crop, Crop)  # mosaic is a key of AlexeyAB's dialect only
        if rngs.mixing.coin():
            crop = crop.for_quadrant(is_right=quadrant.left > 0, is_bottom=quadrant.top > 0)
        crop = crop.or_whole_image()
        rngs.note(crop)
        boxes_N = transform_boxes(boxes_N, crop, config, rngs)
        window = _source_window(crop, quadrant)
        parts.append(render(image_CHW, crop, boxes_N, config, rngs, window))
        boxes_N = _drop_tracks(boxes_N)[: config.max - sum(map(len, boxes))]
        boxes.append(_move_boxes(boxes_N, window, quadrant, net_w, net_h, config.mosaic_bound))
    x_CHW = torch.cat((torch.cat(parts[:2], 2), torch.cat(parts[2:], 2)), 1)
    return AugmentedSample(x_CHW, torch.cat(boxes))


def _source_window(crop: Crop, quadrant: Window) -> Window:
    """Choose the part of the augmented image that a quadrant shows: the side toward the cut, but no empty margin.

    An upper left quadrant shows the lower right part of its image, and so on; a negative margin on that side would be
    fill color, so the window moves inward as far as the image allows.
    """
    left, right = (crop.right, crop.left) if crop.flip else (crop.left, crop.right)
    # width of the fill on each side, in pixels of the network's input
    fill_left, fill_right = (max(0, -margin * crop.net_w // crop.w) for margin in (left, right))
    fill_top, fill_bottom = (max(0, -margin * crop.net_h // crop.h) for margin in (crop.top, crop.bottom))
    x = min(crop.net_w - quadrant.w, fill_left)
    y = min(crop.net_h - quadrant.h, fill_top)
    if quadrant.left == 0:
        x = crop.net_w - quadrant.w - min(crop.net_w - quadrant.w, fill_right)
    if quadrant.top == 0:
        y = crop.net_h - quadrant.h - min(crop.net_h - quadrant.h, fill_bottom)
    return Window(x, y, quadrant.w, quadrant.h)


def _drop_tracks(boxes_N: Tensor) -> Tensor:
    """Set the tracks to 0, as darknet does in mixed images."""
    boxes_N = boxes_N.clone()
    boxes_N[:, 5:] = 0
    return boxes_N


def _move_boxes(
    boxes_N: Tensor, window: Window, quadrant: Window, net_w: int, net_h: int, mosaic_bound: bool
) -> Tensor:
    """Move boxes from the window to the quadrant, clip them there (mosaic_bound) or at the mosaic's edges, drop empty.

    Source:  AlexeyAB/darknet src/data.c blend_truth_mosaic
    Differs: darknet checks once more that what it has clipped is inside, and loses boxes to rounding there.
    """
    net_2 = boxes_N.new_tensor((net_w, net_h))
    shift_2 = boxes_N.new_tensor((quadrant.left - window.left, quadrant.top - window.top)) / net_2
    center_N2, size_N2, rest_N = boxes_N[:, :2] + shift_2, boxes_N[:, 2:4], boxes_N[:, 4:]
    # edges in whole pixels, truncated like the C program's cast from float to int
    low_N2, high_N2 = ((center_N2 + side * size_N2 / 2).mul_(net_2).trunc_() for side in (-1, 1))
    if mosaic_bound:
        corner_2 = boxes_N.new_tensor((quadrant.left, quadrant.top))
        low_N2 = torch.maximum(low_N2, corner_2)
        high_N2 = torch.minimum(high_N2, corner_2 + boxes_N.new_tensor((quadrant.w, quadrant.h)))
        center_N2, size_N2 = (low_N2 + high_N2) / 2 / net_2, (high_N2 - low_N2) / net_2
    else:
        # boxes that lie inside keep their fractions of a pixel: only what is beyond an edge is taken off
        below_N2, above_N2 = low_N2.clamp(max=0) / net_2, (high_N2 - net_2).clamp_(min=0) / net_2
        center_N2, size_N2 = center_N2 - (below_N2 + above_N2) / 2, size_N2 + below_N2 - above_N2
    is_inside_N2 = (center_N2 > 0) & (center_N2 < 1) & (size_N2 > 1 / net_2) & (size_N2 < 1)
    return torch.cat((center_N2, size_N2, rest_N), 1)[is_inside_N2.all(1)]
