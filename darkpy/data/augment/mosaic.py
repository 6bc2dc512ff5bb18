"""A detector's training sample: one image, two on top of each other, or a mosaic of four.

Letters: C color, H height, W width; N boxes, each center x, y, width, height as fractions, class, and perhaps a track.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from darkpy.data.augment.config import DetectionRecipe
from darkpy.data.augment.detection import Sample, augment, draw_view, follow, show
from darkpy.data.augment.geometry import Cropped, Window
from darkpy.data.augment.sampler import Chance

MOSAIC_MARGIN = 0.2
"""The share of each side that the cut of a mosaic stays away from the edges."""

Image = tuple[Tensor, Tensor]
"""An image, (C, H, W) uint8 or 0..1, and its boxes."""

Load = Callable[[int], Image]
"""Hands out the images of one slot by number, 0 to 3."""


def compose(load: Load, recipe: DetectionRecipe, net_w: int, net_h: int, chance: Chance) -> Sample:
    """What one slot shows; mixed images come one time in two, where the recipe has them.

    Source:  AlexeyAB/darknet src/data.c load_data_detection
    Differs: each slot tosses its own coin, in darknet one coin falls for all slots of a thread.
    """
    if not (recipe.mosaic or recipe.mixup) or chance.mixing.coin():
        return augment(*load(0), recipe, net_w, net_h, chance)
    if recipe.mosaic:
        return _join_four(load, recipe, net_w, net_h, chance)
    first, second = (augment(*load(number), recipe, net_w, net_h, chance) for number in range(2))
    boxes_N = torch.cat((first.boxes_N, _without_track(second.boxes_N)))
    return Sample(first.x_CHW.add_(second.x_CHW).div_(2), boxes_N[: recipe.max])


def _join_four(load: Load, recipe: DetectionRecipe, net_w: int, net_h: int, chance: Chance) -> Sample:
    low, high = MOSAIC_MARGIN, 1 - MOSAIC_MARGIN
    cut_x = chance.mixing.whole(int(net_w * low), int(net_w * high))
    cut_y = chance.mixing.whole(int(net_h * low), int(net_h * high))
    quadrants = [
        Window(left, top, w, h)
        for top, h in ((0, cut_y), (cut_y, net_h - cut_y))
        for left, w in ((0, cut_x), (cut_x, net_w - cut_x))
    ]
    parts: list[Tensor] = []
    found: list[Tensor] = []
    for number, quadrant in enumerate(quadrants):
        image_CHW, boxes_N = load(number)
        view = draw_view(image_CHW, recipe, net_w, net_h, chance)
        assert isinstance(view, Cropped)
        if chance.mixing.coin():
            view = view.in_corner(is_right=quadrant.left > 0, is_bottom=quadrant.top > 0)
        view = view.checked()
        boxes_N = follow(boxes_N, view, recipe, chance)
        source = _source(view, quadrant)
        parts.append(show(image_CHW, view, boxes_N, recipe, chance, source))
        boxes_N = _without_track(boxes_N)[: recipe.max - sum(map(len, found))]
        found.append(_fit(boxes_N, source, quadrant, net_w, net_h, recipe.mosaic_bound))
    x_CHW = torch.cat((torch.cat(parts[:2], 2), torch.cat(parts[2:], 2)), 1)
    return Sample(x_CHW, torch.cat(found))


def _source(view: Cropped, quadrant: Window) -> Window:
    """The part of a view that a quadrant shows: the middle's side of it, without what lies beyond the image."""
    left, right = (view.right, view.left) if view.is_flipped else (view.left, view.right)
    beyond_left, beyond_right = (max(0, -margin * view.net_w // view.w) for margin in (left, right))
    beyond_top, beyond_bottom = (max(0, -margin * view.net_h // view.h) for margin in (view.top, view.bottom))
    x = min(view.net_w - quadrant.w, beyond_left)
    y = min(view.net_h - quadrant.h, beyond_top)
    if quadrant.left == 0:
        x = view.net_w - quadrant.w - min(view.net_w - quadrant.w, beyond_right)
    if quadrant.top == 0:
        y = view.net_h - quadrant.h - min(view.net_h - quadrant.h, beyond_bottom)
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
