"""Gaussian blur as OpenCV computes it, which AlexeyAB's augmentation asks for.

Letters: C color, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

_SMALL_KERNELS = {
    1: (1.0,),
    3: (1 / 4, 1 / 2, 1 / 4),
    5: (1 / 16, 1 / 4, 3 / 8, 1 / 4, 1 / 16),
    7: (1 / 32, 7 / 64, 7 / 32, 9 / 32, 7 / 32, 7 / 64, 1 / 32),
    9: (4 / 256, 13 / 256, 30 / 256, 51 / 256, 60 / 256, 51 / 256, 30 / 256, 13 / 256, 4 / 256),
}


def gaussian_blur(image_CHW: Tensor, size: int) -> Tensor:
    """Blurred by a size x size kernel, its width that which OpenCV gives to this size; edges are mirrored.

    Units:   size in pixels; an even one counts as the next odd one.
    Source:  cv::GaussianBlur with sigma 0, as AlexeyAB/darknet src/image_opencv.cpp calls it
    Differs: a kernel that reaches beyond the mirrored image is made smaller.
    """
    _, h, w = image_CHW.shape
    reach = min(size // 2, h - 1, w - 1)
    kernel = _kernel(2 * reach + 1)
    for axis, length in ((2, w), (1, h)):
        padding = (reach, reach) if axis == 2 else (0, 0, reach, reach)
        padded_CHW = functional.pad(image_CHW, padding, mode="reflect")
        image_CHW = torch.zeros_like(image_CHW)
        # sums of shifted images: a convolution of one channel is far slower
        for place, weight in enumerate(kernel):
            image_CHW.add_(padded_CHW.narrow(axis, place, length), alpha=weight)
    return image_CHW


def _kernel(size: int) -> Sequence[float]:
    if size in _SMALL_KERNELS:
        return _SMALL_KERNELS[size]
    sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    weights = [math.exp(-((place - (size - 1) / 2) ** 2) / (2 * sigma**2)) for place in range(size)]
    return [weight / sum(weights) for weight in weights]
