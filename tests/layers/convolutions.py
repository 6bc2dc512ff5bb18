"""Convolutional layers with random arrays, and their expected output as loops."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from darkpy.config.net import NetSpec
from darkpy.dialect import Dialect
from darkpy.layers.convolutional import Convolutional, ConvolutionalSpec
from darkpy.shapes import Shape

Array = NDArray[Any]
AX, PJ = Dialect.ALEXEYAB, Dialect.PJREDDIE
X = Shape(4, 7, 10)


def spec(dialect: Dialect = AX, **keys: Any) -> ConvolutionalSpec:
    return ConvolutionalSpec(**{"dialect": dialect, "activation": "linear", **keys})


def built(layer_spec: ConvolutionalSpec, x: Shape = X) -> Convolutional:
    """The layer with random weights and biases."""
    layer = layer_spec.build((x,), NetSpec())
    generator = torch.Generator().manual_seed(1)
    for array_spec in layer_spec.arrays((x,)):
        layer.put_array(array_spec, torch.rand(array_spec.shape, generator=generator) * 2 - 1)
    return layer


def image(x: Shape = X) -> torch.Tensor:
    return torch.rand(2, *x, generator=torch.Generator().manual_seed(2)) * 4 - 2


def correlated(
    x_BCHW: Array,
    weights_FCKK: Array,
    strides: tuple[int, int] = (1, 1),
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Array:
    """Loop over outputs; the size is darknet's, which ignores dilation."""
    batch, _, height, width = x_BCHW.shape
    filters, of_group, size, _ = weights_FCKK.shape
    (down, across), reach = strides, padding * dilation
    h, w = int((height + 2 * padding - size) / down) + 1, int((width + 2 * padding - size) / across) + 1  # as C divides
    y_BFHW = np.zeros((batch, filters, h, w))
    for f, j, i, c, dy, dx in product(*map(range, (filters, h, w, of_group, size, size))):
        row, column = j * down - reach + dy * dilation, i * across - reach + dx * dilation
        if 0 <= row < height and 0 <= column < width:
            channel = f // (filters // groups) * of_group + c
            y_BFHW[:, f, j, i] += weights_FCKK[f, c, dy, dx] * x_BCHW[:, channel, row, column]
    return y_BFHW


def numbers(layer: Convolutional) -> tuple[Array, Array]:
    return layer.weights.detach().double().numpy(), layer.biases.detach().double().numpy()[:, None, None]
