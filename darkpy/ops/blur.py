"""Gaussian blur as OpenCV computes it, for AlexeyAB's augmentation.

Letters: C color, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

# OpenCV's fixed kernels for small sizes (getGaussianKernel, small_gaussian_tab)
_SMALL_KERNELS = {
    1: (1.0,),
    3: (1 / 4, 1 / 2, 1 / 4),
    5: (1 / 16, 1 / 4, 3 / 8, 1 / 4, 1 / 16),
    7: (1 / 32, 7 / 64, 7 / 32, 9 / 32, 7 / 32, 7 / 64, 1 / 32),
    9: (4 / 256, 13 / 256, 30 / 256, 51 / 256, 60 / 256, 51 / 256, 30 / 256, 13 / 256, 4 / 256),
}


def gaussian_blur(image_CHW: Tensor, size: int) -> Tensor:
    """Blur an image by a size x size kernel with OpenCV's sigma for that size; edges are mirrored.

    Units:   size in pixels; an even one counts as the next odd one.
    Source:  cv::GaussianBlur with sigma 0, as AlexeyAB/darknet src/image_opencv.cpp calls it
    Differs: a kernel that would reach beyond the mirrored image is made smaller.
    """
    _, h, w = image_CHW.shape
    radius = min(size // 2, h - 1, w - 1)
    kernel = _kernel(2 * radius + 1)
    for axis, length in ((2, w), (1, h)):
        padding = (radius, radius) if axis == 2 else (0, 0, radius, radius)
        padded_CHW = functional.pad(image_CHW, padding, mode="reflect")
        image_CHW = torch.zeros_like(image_CHW)
        # a sum of shifted images is far faster than a convolution of one channel
        for shift, weight in enumerate(kernel):
            image_CHW.add_(padded_CHW.narrow(axis, shift, length), alpha=weight)
    return image_CHW


def _kernel(size: int) -> Sequence[float]:
    if size in _SMALL_KERNELS:
        return _SMALL_KERNELS[size]
    sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8  # OpenCV's default for a kernel size
    weights = [math.exp(-((position - (size - 1) / 2) ** 2) / (2 * sigma**2)) for position in range(size)]
    return [weight / sum(weights) for weight in weights]
