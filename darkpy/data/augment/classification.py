"""Augmentation of a classifier's training images: a random part, rotated and stretched, perhaps mixed with others.

Letters: C color, H height, W width; K classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from darkpy.data.augment.config import CUTMIX, CUTMIX_OR_MOSAIC, MIXUP, MOSAIC, ClassificationAugmentConfig, Color
from darkpy.data.augment.geometry import RotatedCrop, draw_rotated_crop
from darkpy.data.augment.sampler import DarknetRandom, SampleRngs
from darkpy.dialect import Dialect
from darkpy.ops import opencv
from darkpy.ops.color import distort
from darkpy.ops.resample import center_crop, resize

DEFAULT_BLUR_SIZE = 15
"""Kernel size that blur=1 stands for."""

ImageAndTarget = tuple[Tensor, Tensor]
"""Image, (C, H, W), and its target, (K,)."""

LoadLabeledImage = Callable[[int], ImageAndTarget]
"""Returns the sample's source image 0 to 3 and its target."""


def compose(
    load: LoadLabeledImage, config: ClassificationAugmentConfig, net_w: int, net_h: int, rngs: SampleRngs
) -> ImageAndTarget:
    """Load, augment and, in every other sample on average, mix images as the config says.

    Source:  AlexeyAB/darknet src/data.c load_data_augment
    Differs: each sample tosses its own coin for mixing; in darknet all samples of a thread share one.
    """

    def draw(source: int) -> ImageAndTarget:
        image_CHW, target_K = load(source)
        return augment(image_CHW, config, net_w, net_h, rngs), target_K

    x_CHW, target_K = draw(0)
    if config.mixing and rngs.mixing.coin():
        mixing = config.mixing
        if mixing == CUTMIX_OR_MOSAIC:
            mixing = rngs.mixing.rand_int(CUTMIX, MOSAIC)
        rngs.note(
            {MIXUP: "mixup of two images", CUTMIX: "cutmix of two images", MOSAIC: "mosaic of four images"}[mixing]
        )
        if mixing == MIXUP:
            other_CHW, other_K = draw(1)
            x_CHW, target_K = (x_CHW + other_CHW) / 2, (target_K + other_K) / 2
        else:
            x_CHW, target_K = (_cutmix if mixing == CUTMIX else _mosaic)(x_CHW, target_K, draw, rngs.mixing)
    if config.blur and rngs.effects.rand_int(0, 3) == 0:  # one sample in four, as in the C program
        size = DEFAULT_BLUR_SIZE if config.blur == 1 else config.blur
        rngs.note(f"blurred over {size} pixels")
        # the program cuts fractions of a byte off
        x_CHW = opencv.gaussian_blur((x_CHW * opencv.MAX_BYTE).floor_(), size).div_(opencv.MAX_BYTE)
    return x_CHW, target_K


def augment(image_CHW: Tensor, config: ClassificationAugmentConfig, net_w: int, net_h: int, rngs: SampleRngs) -> Tensor:
    """Crop, flip and recolor one image at random.

    Source:  pjreddie/darknet src/image.c random_augment_args, src/data.c load_image_augment_paths
    Differs: `center`, which pjreddie's `classifier train` reads but does not pass on, takes effect.
    """
    # AlexeyAB crops a square of the longer side and resizes it to the network's input
    is_pjreddie = config.dialect is Dialect.PJREDDIE
    w, h = (net_w, net_h) if is_pjreddie else (max(net_w, net_h), max(net_w, net_h))
    if config.center:
        rngs.note("largest square in the center")
        x_CHW = center_crop(image_CHW, w, h)
        if rngs.geometry.coin() and config.flip:
            rngs.note("flipped")
            x_CHW = x_CHW.flip(2)
    else:
        x_CHW = draw_crop(image_CHW, config, net_w, w, h, rngs).render(image_CHW)
    x_CHW = recolor(x_CHW, config, rngs)
    return x_CHW if (w, h) == (net_w, net_h) else resize(x_CHW, net_w, net_h)


def draw_crop(
    image_CHW: Tensor, config: ClassificationAugmentConfig, net_w: int, w: int, h: int, rngs: SampleRngs
) -> RotatedCrop:
    """Draw a crop of w x h, perhaps mirrored, for a network of `net_w`."""
    _, source_h, source_w = image_CHW.shape
    crop = draw_rotated_crop(
        *(source_w, source_h, w, h),
        angle=config.angle,
        aspect=config.aspect,
        crop_range=config.crop_range(net_w),
        stays_inside=config.dialect is Dialect.ALEXEYAB,
        flip=config.flip,
        rng=rngs.geometry,
    )
    rngs.note(crop)
    return crop


def recolor(x_CHW: Tensor, config: ClassificationAugmentConfig, rngs: SampleRngs) -> Tensor:
    """Change the colors of an image at random."""
    color = config.color.draw(rngs.color)
    rngs.note(color)
    return x_CHW if color == Color() else distort(x_CHW, *color)


def _cutmix(x_CHW: Tensor, target_K: Tensor, draw: LoadLabeledImage, rng: DarknetRandom) -> ImageAndTarget:
    """Insert a rectangle of another image, .3 to .8 of each side; targets are weighted by area."""
    _, h, w = x_CHW.shape
    cut_w, cut_h = rng.rand_int(int(w * 0.3), int(w * 0.8)), rng.rand_int(int(h * 0.3), int(h * 0.8))
    left, top = rng.rand_int(0, w - cut_w - 1), rng.rand_int(0, h - cut_h - 1)
    other_CHW, other_K = draw(1)
    x_CHW[:, top : top + cut_h, left : left + cut_w] = other_CHW[:, top : top + cut_h, left : left + cut_w]
    return x_CHW, torch.lerp(target_K, other_K, cut_w * cut_h / (w * h))


def _mosaic(x_CHW: Tensor, target_K: Tensor, draw: LoadLabeledImage, rng: DarknetRandom) -> ImageAndTarget:
    """Join a corner of each of four images, cut at .2 to .8 of each side; targets are weighted by area."""
    _, h, w = x_CHW.shape
    cut_x, cut_y = rng.rand_int(int(w * 0.2), int(w * 0.8)), rng.rand_int(int(h * 0.2), int(h * 0.8))
    target_K = target_K * (cut_x * cut_y / (w * h))
    left, right, top, bottom = slice(cut_x), slice(cut_x, w), slice(cut_y), slice(cut_y, h)
    for source, (rows, columns) in enumerate(((top, right), (bottom, left), (bottom, right)), start=1):
        other_CHW, other_K = draw(source)
        part_CHW = x_CHW[:, rows, columns]
        part_CHW.copy_(other_CHW[:, rows, columns])
        target_K = target_K + other_K * (part_CHW[0].numel() / (w * h))
    return x_CHW, target_K
