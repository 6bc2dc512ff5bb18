"""Textures of a convolution's filters: darknet's `mkimg`.

C K K channels and sides of a filter, F filters, H W rows, columns of an image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from darkpy.errors import DarkpyError
from darkpy.ops.c_random import CRandom
from darkpy.ops.color import distort

FILTERS_PER_TEXTURE = 100
HUE_RANGE, SATURATION_RANGE, EXPOSURE_RANGE = 1.0, 1.5, 1.5
"""Ranges of the random colors."""
BACKGROUND_VALUE = 0.5
MIN_CONTRAST = 1e-9
"""Range of a filter's values below which it is drawn as it is."""


def draw_texture(filters_FCKK: Tensor, w: int, h: int, random: CRandom) -> Tensor:
    """Lay filters over each other, turned, recolored, and fading out from their centers.

    Returns: (3, h, w) float32, 0..1.
    Raises:  DarkpyError for filters of other than three channels, and for an image that is not larger than a filter.
    Source:  pjreddie/darknet examples/darknet.c mkimg, src/image.c ghost_image, rotate_image_cw
    """
    count, channels, side, _ = filters_FCKK.shape
    if channels != 3:
        raise DarkpyError(f"the filters of the first layer have {channels} channels, and colors have 3")
    if min(w, h) <= side or side < 2:
        raise DarkpyError(f"{h} x {w} pixels are not more than a filter's {side} x {side}", hint="a larger H and W")
    low_F111, high_F111 = (values[:, None, None, None] for values in filters_FCKK.flatten(1).aminmax(dim=1))
    is_flat_F111 = high_F111 - low_F111 < MIN_CONTRAST
    low_F111, high_F111 = low_F111.masked_fill(is_flat_F111, 0.0), high_F111.masked_fill(is_flat_F111, 1.0)
    shades_FCKK = (filters_FCKK - low_F111) / (high_F111 - low_F111)
    center = torch.arange(side) - side / 2 + 0.5
    distance_KK = torch.hypot(center[:, None], center[None])
    alpha_KK = (1 - distance_KK / (side / 2 - 0.5)).clamp(min=0)
    image_CHW = torch.full((3, h, w), BACKGROUND_VALUE)
    for _ in range(FILTERS_PER_TEXTURE):
        shade_CKK = shades_FCKK[random.rand() % count]
        shade_CKK = torch.rot90(shade_CKK, random.rand() % 4, (1, 2))
        hue = HUE_RANGE * (2 * random.uniform() - 1)
        saturation, exposure = _rand_scale(random, SATURATION_RANGE), _rand_scale(random, EXPOSURE_RANGE)
        shade_CKK = distort(shade_CKK, hue, saturation, exposure)
        left, top = random.rand() % (w - side), random.rand() % (h - side)
        part_CKK = image_CHW[:, top : top + side, left : left + side]
        part_CKK.lerp_(shade_CKK, alpha_KK)
    return image_CHW


def _rand_scale(random: CRandom, max_factor: float) -> float:
    factor = 1 + (max_factor - 1) * random.uniform()
    return factor if random.rand() % 2 else 1 / factor
