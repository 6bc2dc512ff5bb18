"""8-bit image operations as OpenCV computes them, to the bit, for AlexeyAB's augmentation.

Values are bytes in float32: whole numbers 0..255, which torch rounds, clips and divides faster than uint8.
Letters: C color (red, green, blue), H height, W width; N positions of one axis; U rows of an image that are read.

Source:  OpenCV 4.5 to 5.0, modules/imgproc: resize.cpp, color_hsv.simd.hpp, smooth.dispatch.cpp; the code for x86 CPUs
    with AVX2. Other code paths of OpenCV differ by one in a few pixels of a thousand.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

RESIZE_WEIGHT_ONE = 2048
"""Weight 1 of an interpolation; OpenCV rounds weights to 11 bits."""
BLUR_WEIGHT_ONE = 256
"""Weight 1 of a blur; OpenCV rounds weights to 8 bits."""
HUE_STEPS = 180
"""Hues of a full turn."""
MAX_NOISE_DEVIATION = 127
MAX_BYTE = 255

_DIVISION_ONE = 4096  # OpenCV's integer division by value and chroma has 12 fractional bits
# OpenCV's fixed kernels for small sizes (getGaussianKernel, small_gaussian_tab)
_SMALL_KERNELS = {
    1: (1.0,),
    3: (1 / 4, 1 / 2, 1 / 4),
    5: (1 / 16, 1 / 4, 3 / 8, 1 / 4, 1 / 16),
    7: (1 / 32, 7 / 64, 7 / 32, 9 / 32, 7 / 32, 7 / 64, 1 / 32),
    9: (4 / 256, 13 / 256, 30 / 256, 51 / 256, 60 / 256, 51 / 256, 30 / 256, 13 / 256, 4 / 256),
}


def resize_taps(start: int, length: int, size: int) -> NDArray[np.int64]:
    """Interpolation taps that resize `length` pixels from `start` on to `size`, which may lie outside the image.

    Returns: (3, N): the two pixels, and the weight of the second.
    Source:  cv::resize with INTER_LINEAR
    """
    scale = 1 / (size / length)
    position_N = ((np.arange(size) + 0.5) * scale - 0.5).astype(np.float32)
    whole_N = np.floor(position_N)
    weight_N = np.rint((position_N - whole_N) * np.float32(RESIZE_WEIGHT_ONE))
    first_N, second_N = (tap_N.clip(0, length - 1) + start for tap_N in (whole_N, whole_N + 1))
    return np.stack((first_N, second_N, weight_N)).astype(np.int64)


def resize(image_CHW: Tensor, rows_3N: NDArray[np.int64], columns_3N: NDArray[np.int64]) -> Tensor:
    """Resize an image, uint8 or 0..1, at the taps; outside it is its mean color.

    Source:  cv::resize with INTER_LINEAR; cv::mean, as AlexeyAB/darknet src/image_opencv.cpp image_data_augmentation
        uses it
    """
    c, h, w = image_CHW.shape
    if image_CHW.is_floating_point():
        image_CHW = (image_CHW * MAX_BYTE).round().to(torch.uint8)
    pixels_HP = image_CHW.permute(1, 2, 0).reshape(h, w * c).numpy()
    rows_2N, columns_2N = rows_3N[:2], columns_3N[:2]
    is_inside = _is_within(rows_2N, h).all() and _is_within(columns_2N, w).all()
    fill_C = np.zeros(c, np.uint8) if is_inside else _mean_color(pixels_HP, c)
    # each row is resized once; all rows outside the image are one more
    used_U, index_2N = np.unique(np.where(_is_within(rows_2N, h), rows_2N, h), return_inverse=True)
    has_fill = used_U[-1] == h
    read_U = used_U[:-1] if has_fill else used_U
    if len(read_U) and len(read_U) == read_U[-1] - read_U[0] + 1:
        pixels_UP = pixels_HP[read_U[0] : read_U[-1] + 1]
    else:
        pixels_UP = pixels_HP[read_U]
    first_UN, second_UN = (_take_columns(pixels_UP, column_N, fill_C) for column_N in columns_2N)
    share_N = torch.from_numpy(np.tile(columns_3N[2].astype(np.float32) / RESIZE_WEIGHT_ONE, c))
    # exact in float32; OpenCV drops the last four bits of the sum of pixel * weight
    resized_UN = first_UN.lerp_(second_UN, share_N).mul_(RESIZE_WEIGHT_ONE >> 4).int()
    if has_fill:
        fill_N = torch.from_numpy(fill_C).int().mul_(RESIZE_WEIGHT_ONE >> 4).repeat_interleave(len(share_N) // c)
        resized_UN = torch.cat((resized_UN, fill_N[None]))
    index_2N = index_2N.reshape(rows_2N.shape)
    above_NN, below_NN = (resized_UN.index_select(0, torch.from_numpy(index_N)) for index_N in index_2N)
    weight_N1 = torch.from_numpy(rows_3N[2].astype(np.int32))[:, None]
    above_NN.mul_(RESIZE_WEIGHT_ONE - weight_N1).bitwise_right_shift_(16)
    below_NN.mul_(weight_N1).bitwise_right_shift_(16)
    x_NN = above_NN.add_(below_NN).add_(2).bitwise_right_shift_(2).float()
    return x_NN.view(len(weight_N1), c, -1).permute(1, 0, 2)


def change_hsv(x_CHW: Tensor, hue: float, saturation: float, exposure: float) -> Tensor:
    """Shift the hue, scale saturation and value, each rounded and clipped to a byte; no hue wraps around.

    Images that do not have three channels are only scaled by the exposure.

    Units:   hue: 1 is 179 of the 180 steps of a turn.
    Source:  cv::cvtColor COLOR_RGB2HSV, COLOR_HSV2RGB; AlexeyAB/darknet src/image_opencv.cpp image_data_augmentation
    Differs: OpenCV rounds the last colors up to the nearest in the last W % 32 columns, where its vectors do not fit.
    """
    if x_CHW.shape[0] != 3:
        return (x_CHW * exposure).round_().clamp_(0, MAX_BYTE)
    red_HW, green_HW, blue_HW = x_CHW.unbind(0)
    value_HW = x_CHW.amax(0)
    chroma_HW = value_HW - x_CHW.amin(0)
    is_red_HW, is_green_HW = ((color_HW - value_HW).add_(1).clamp_(min=0) for color_HW in (red_HW, green_HW))
    # in sixths of a turn times the chroma; red comes first where two colors are largest, then green
    hue_HW = (red_HW - green_HW).add_(chroma_HW, alpha=4)
    hue_HW = hue_HW.lerp_((blue_HW - red_HW).add_(chroma_HW, alpha=2), is_green_HW).lerp_(green_HW - blue_HW, is_red_HW)
    hue_HW.mul_((HUE_STEPS * _DIVISION_ONE / 6 / chroma_HW.clamp_min(1)).round_()).mul_(1 / _DIVISION_ONE).add_(0.5)
    hue_HW.sub_((hue_HW * (1 / HUE_STEPS)).floor_(), alpha=HUE_STEPS).floor_()
    shift = float(np.float32(hue) * np.float32(179))
    hue_HW.add_(shift).round_().clamp_(0, MAX_BYTE)
    saturation_HW = (MAX_BYTE * _DIVISION_ONE / value_HW.clamp_min(1)).round_()
    saturation_HW.mul_(chroma_HW).mul_(1 / _DIVISION_ONE).add_(0.5).floor_()
    saturation_HW.mul_(saturation).round_().clamp_(max=MAX_BYTE)
    value_HW.mul_(exposure).round_().clamp_(max=MAX_BYTE).mul_(float(np.float32(1 / MAX_BYTE)))
    index_HW = saturation_HW.add_(hue_HW, alpha=MAX_BYTE + 1).to(torch.int64)
    shares_CHW = torch.from_numpy(_value_shares().take(index_HW.numpy(), axis=1))
    return shares_CHW.mul_(value_HW).mul_(MAX_BYTE).floor_()


def gaussian_blur(x_CHW: Tensor, size: int) -> Tensor:
    """Blur by a size x size kernel with OpenCV's sigma for that size; edges are mirrored.

    Units:   size in pixels; an even one counts as the next odd one.
    Source:  cv::GaussianBlur with sigma 0
    Differs: a kernel that would reach beyond the mirrored image is made smaller.
    """
    _, h, w = x_CHW.shape
    radius = min(size // 2, h - 1, w - 1)
    kernel = _kernel(2 * radius + 1)
    for axis, length in ((2, w), (1, h)):
        padding = (radius, radius) if axis == 2 else (0, 0, radius, radius)
        padded_CHW = functional.pad(x_CHW, padding, mode="reflect")
        x_CHW = torch.zeros_like(x_CHW)
        # a sum of shifted images is far faster than a convolution of one channel, and exact: it is below 2^24
        for shift, weight in enumerate(kernel):
            x_CHW.add_(padded_CHW.narrow(axis, shift, length), alpha=weight)
    return x_CHW.mul_(1 / BLUR_WEIGHT_ONE**2).add_(0.5).floor_()


def add_noise(x_CHW: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Add the positive half of normally distributed noise: OpenCV's bytes lose the other half.

    Source:  cv::randn on bytes; AlexeyAB/darknet src/image_opencv.cpp image_data_augmentation
    Differs: other random numbers.
    """
    noise_CHW = torch.randn(x_CHW.shape, generator=generator).mul_(max(0, min(deviation, MAX_NOISE_DEVIATION)))
    return noise_CHW.round_().clamp_(min=0).add_(x_CHW).clamp_(max=MAX_BYTE)


def _is_within(position: NDArray[np.int64], length: int) -> NDArray[np.bool_]:
    return (position >= 0) & (position < length)


def _mean_color(pixels_HP: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    # no image has the 2^24 rows that would overflow
    sums_C = np.add.reduce(pixels_HP, 0, dtype=np.uint32).reshape(-1, channels).sum(0, dtype=np.int64)
    mean_C: NDArray[np.uint8] = np.rint(sums_C * channels / pixels_HP.size).astype(np.uint8)
    return mean_C


def _take_columns(pixels_UP: NDArray[np.uint8], column_N: NDArray[np.int64], fill_C: NDArray[np.uint8]) -> Tensor:
    """Take columns of interleaved pixels; those outside the image get the fill color. Returns: (U, C * N)."""
    c = len(fill_C)
    w = pixels_UP.shape[1] // c
    index_CN = column_N.clip(0, w - 1) * c + np.arange(c)[:, None]
    taken_UCN = pixels_UP.take(index_CN, axis=1)
    inside = np.flatnonzero(_is_within(column_N, w))
    if len(inside) < len(column_N):
        start, end = (inside[0], inside[-1] + 1) if len(inside) else (0, 0)
        taken_UCN[:, :, :start] = taken_UCN[:, :, end:] = fill_C[:, None]
    return torch.from_numpy(taken_UCN.reshape(len(pixels_UP), index_CN.size)).float()


@functools.cache
def _value_shares() -> NDArray[np.float32]:
    """Shares of the value that each color has, (3, 65536): at index 256 * hue + saturation.

    OpenCV computes 1 - saturation * t for t from 0, where a color is the largest, to 1, where it is the smallest, in
    float32 with one rounding (FMA), which float64 reproduces.
    """
    sixths_N = np.arange(MAX_BYTE + 1, dtype=np.float32) * (np.float32(6) / np.float32(HUE_STEPS))
    sector_N = np.trunc(sixths_N)
    part_N = sixths_N - sector_N
    ramps_4N = np.stack((np.zeros_like(part_N), np.ones_like(part_N), part_N, 1 - part_N))
    largest, smallest, falls, rises = range(4)
    ramp_of_sector_C6 = np.array(
        (
            (largest, falls, smallest, smallest, rises, largest),
            (rises, largest, largest, falls, smallest, smallest),
            (smallest, smallest, rises, largest, largest, falls),
        )
    )
    t_CN = np.take_along_axis(ramps_4N, ramp_of_sector_C6[:, sector_N.astype(np.int64) % 6], 0)
    saturation_N = np.arange(MAX_BYTE + 1, dtype=np.float32) * np.float32(1 / MAX_BYTE)
    share_CNN = 1 - t_CN.astype(np.float64)[:, :, None] * saturation_N.astype(np.float64)
    shares: NDArray[np.float32] = share_CNN.astype(np.float32).reshape(3, -1)
    return shares


@functools.cache
def _kernel(size: int) -> Sequence[int]:
    """Weights of a kernel in 1/256; the error of each rounding is passed on, the center takes the last."""
    if size in _SMALL_KERNELS:
        exact: Sequence[float] = _SMALL_KERNELS[size]
    else:
        sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8  # OpenCV's default for a kernel size
        gauss = [math.exp(-((position - (size - 1) / 2) ** 2) / (2 * sigma**2)) for position in range(size)]
        exact = [weight / sum(gauss) for weight in gauss]
    weights, error = [], 0.0
    for weight in exact[: size // 2]:
        weights.append(round(weight * BLUR_WEIGHT_ONE + error))
        error += weight * BLUR_WEIGHT_ONE - weights[-1]
    return (*weights, BLUR_WEIGHT_ONE - 2 * sum(weights), *reversed(weights))
