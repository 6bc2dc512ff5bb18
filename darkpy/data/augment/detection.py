"""Augmentation of a detector's training images and their boxes, as each dialect does it.

Letters: C color, H height, W width; N boxes, each center x, y, width, height as fractions, class, and perhaps a track.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from darkpy.data.augment.config import Color, DetectionAugmentConfig
from darkpy.data.augment.geometry import Crop, Letterbox, Window, draw_crop, draw_crop_opencv, draw_letterbox
from darkpy.data.augment.sampler import DarknetRandom, SampleRngs
from darkpy.ops import opencv
from darkpy.ops.color import distort

BACKGROUND_BLUR_SIZE = 17
"""Kernel size of AlexeyAB's background blur."""


class AugmentedSample(NamedTuple):
    """Network input and the boxes on it."""

    x_CHW: Tensor
    boxes_N: Tensor


def augment(
    image_CHW: Tensor, boxes_N: Tensor, config: DetectionAugmentConfig, net_w: int, net_h: int, rngs: SampleRngs
) -> AugmentedSample:
    """Augment one image, uint8 or 0..1, and its boxes, without mixing.

    Source:  pjreddie/darknet and AlexeyAB/darknet src/data.c load_data_detection, load_data_region
    Differs: the boxes are shuffled with equal probabilities.
    """
    placement = draw_placement(image_CHW, config, net_w, net_h, rngs)
    if isinstance(placement, Crop):
        placement = placement.or_whole_image()
    rngs.note(placement)
    boxes_N = transform_boxes(boxes_N, placement, config, rngs)
    return AugmentedSample(render(image_CHW, placement, boxes_N, config, rngs), boxes_N)


def draw_placement(
    image_CHW: Tensor, config: DetectionAugmentConfig, net_w: int, net_h: int, rngs: SampleRngs
) -> Letterbox | Crop:
    """Draw the placement of an image by the rule of the dialect and the head."""
    _, h, w = image_CHW.shape
    jitter, flip, rng = config.jitter, config.flip, rngs.geometry
    if config.head == "detection":
        return draw_crop(w, h, net_w, net_h, jitter=jitter, rng=rng)
    if not config.is_opencv:
        return draw_letterbox(w, h, net_w, net_h, jitter=jitter, flip=flip, rng=rng)
    crop = draw_crop_opencv(
        *(w, h, net_w, net_h), jitter=jitter, resize=config.resize, flip=flip, rng=rng, effects=rngs.effects
    )
    return crop.with_letterbox() if config.letter_box else crop


def transform_boxes(
    boxes_N: Tensor, placement: Letterbox | Crop, config: DetectionAugmentConfig, rngs: SampleRngs
) -> Tensor:
    """Shuffle the boxes, keep the first `max`, transform them, and drop those that become too small.

    Source:  pjreddie/darknet and AlexeyAB/darknet src/data.c fill_truth_detection
    """
    order = list(range(len(boxes_N)))
    rngs.mixing.shuffle(order)
    if config.head != "detection":
        order = order[: config.max]
    boxes_N = placement.box_transform.apply(boxes_N[order])
    min_w, min_h = config.min_box_size(placement.net_w, placement.net_h)
    seen_N = boxes_N[(boxes_N[:, 2] >= min_w) & (boxes_N[:, 3] >= min_h)]
    rngs.note(f"{len(order) - len(seen_N)} of {len(order)} boxes outside" if len(seen_N) < len(order) else "")
    return seen_N


def render(
    image_CHW: Tensor,
    placement: Letterbox | Crop,
    boxes_N: Tensor,
    config: DetectionAugmentConfig,
    rngs: SampleRngs,
    window: Window | None = None,
) -> Tensor:
    """Resample the image at its placement and change its colors; with OpenCV also blur it and add noise.

    window: part of the result to return, with OpenCV.
    Source:  AlexeyAB/darknet src/image_opencv.cpp image_data_augmentation, which rounds to bytes at each step
    """
    color = config.color.draw(rngs.color)
    rngs.note(color)
    if isinstance(placement, Letterbox) or not config.is_opencv:
        x_CHW = placement.render(image_CHW)
        return x_CHW if color == Color() else distort(x_CHW, *color)
    blur = _draw_blur_size(boxes_N, placement, config, rngs.effects)
    # blurring needs pixels outside the window: render all, and cut the window out afterwards
    x_CHW = placement.render_opencv(image_CHW, None if blur else window)
    if color != Color():
        x_CHW = opencv.change_hsv(x_CHW, *color)
    if blur:
        rngs.note("background blurred" if blur == 1 else f"blurred over {blur} pixels")
    if blur == 1:
        x_CHW = _blur_background(x_CHW, boxes_N)
    elif blur:
        x_CHW = opencv.gaussian_blur(x_CHW, blur)
    if blur and window is not None:
        x_CHW = x_CHW[:, window.top : window.top + window.h, window.left : window.left + window.w]
    if config.gaussian_noise and rngs.effects.coin():
        rngs.note(f"gaussian noise {config.gaussian_noise}")
        generator = torch.Generator().manual_seed(rngs.effects.getrandbits(63))
        x_CHW = opencv.add_noise(x_CHW, config.gaussian_noise, generator)
    return x_CHW / opencv.MAX_BYTE


def _draw_blur_size(boxes_N: Tensor, crop: Crop, config: DetectionAugmentConfig, rng: DarknetRandom) -> int:
    """Draw the kernel size of the blur: 0 for none, 1 for the background only.

    Objects stay recognizable: the kernel is at most an eighth of the shortest side of a box, which leaves a small
    object, or an image without objects, with background blur or none.
    """
    if not config.blur:
        return 0
    size = (0, 1, config.blur)[rng.rand_int(0, 2)]
    if size <= 1:
        return size
    sides_N2 = boxes_N[:, 2:4] * boxes_N.new_tensor((crop.net_w, crop.net_h))
    shortest = int(sides_N2.min()) if len(boxes_N) else 0
    return min(size, shortest // 8)


def _blur_background(x_CHW: Tensor, boxes_N: Tensor) -> Tensor:
    """Blur all pixels outside the boxes."""
    _, h, w = x_CHW.shape
    size_2 = boxes_N.new_tensor((w, h))
    corner_N2 = ((boxes_N[:, :2] - boxes_N[:, 2:4] / 2) * size_2).trunc()
    end_N2 = corner_N2 + (boxes_N[:, 2:4] * size_2).trunc()
    column_W, row_H = torch.arange(w), torch.arange(h)
    in_columns_NW = (column_W >= corner_N2[:, :1]) & (column_W < end_N2[:, :1])
    in_rows_NH = (row_H >= corner_N2[:, 1:]) & (row_H < end_N2[:, 1:])
    # the product counts, for each pixel, the boxes whose rows and columns both contain it
    is_object_HW = in_rows_NH.float().T @ in_columns_NW.float() > 0
    return torch.where(is_object_HW, x_CHW, opencv.gaussian_blur(x_CHW, BACKGROUND_BLUR_SIZE))
