"""Filters of a convolution as an image.

Legend: F filters, C channels, K size, T tiles.
Source: pjreddie/darknet src/convolutional_layer.c get_weights, src/image.c normalize_image, show_images.
Differs: filters stand in a grid, enlarged, where darknet puts them into one column; of many, the first.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from darkpy.build import Node
from darkpy.errors import DarkpyError
from darkpy.export.weight_stats import WEIGHTS_ARRAY, layer_at
from darkpy.export.weight_tools import LoadedWeights, array_values

MAX_FILTERS = 64
MAX_CHANNELS = 32
TILE_SIDE_PX = 32  # a filter is enlarged to about this
GAP_PX = 2
MAX_SIDE_PX = 4096
MIN_CONTRAST = 1e-9  # a filter with a smaller range of values is drawn flat


def filters_of(loaded: LoadedWeights, index: int | None = None) -> tuple[Node, torch.Tensor]:
    """A convolution and its filters FCKK, the first one by default. Raises: DarkpyError when the layer has none."""
    for node in loaded.nodes if index is None else [layer_at(loaded, index)]:
        for array_spec in node.arrays:
            if array_spec.name == WEIGHTS_ARRAY and len(array_spec.shape) == 4:
                return node, array_values(loaded.network, node, array_spec)
    where = loaded.plan.file if index is None else loaded.plan.place(index)
    raise DarkpyError(f"{where}: no filters to draw", hint="convolutional layers have them")


def draw_filters(weights_FCKK: torch.Tensor) -> NDArray[np.uint8]:
    """Draw each filter from its smallest value, 0, to its largest, 255: in color if it reads three channels, else in a
    row of its channels.

    Returns: pixels HW3.
    """
    scale = max(1, round(TILE_SIDE_PX / weights_FCKK.shape[2]))
    step = weights_FCKK.shape[2] * scale + GAP_PX
    limit = max(1, MAX_SIDE_PX // step)
    shown_FCKK = weights_FCKK.detach()[: min(limit, MAX_FILTERS), : min(limit, MAX_CHANNELS)].float()
    flat = shown_FCKK.flatten(1)
    low, high = flat.amin(1)[:, None, None, None], flat.amax(1)[:, None, None, None]
    contrast = torch.where(high - low < MIN_CONTRAST, torch.ones_like(high), high - low)
    shades_FCKK = ((shown_FCKK - low) / contrast).nan_to_num(0)
    filters, channels, size, _ = shades_FCKK.shape
    if channels == 3:
        tiles_TKK3, columns = shades_FCKK.permute(0, 2, 3, 1), math.ceil(math.sqrt(filters))
    else:
        tiles_TKK3, columns = shades_FCKK.reshape(-1, size, size, 1).expand(-1, -1, -1, 3), channels
    rows = math.ceil(len(tiles_TKK3) / columns)
    image_HW3 = np.zeros((rows * step - GAP_PX, columns * step - GAP_PX, 3), np.uint8)
    for index, tile_KK3 in enumerate((tiles_TKK3.numpy() * 255).round().astype(np.uint8)):
        top, left = (position * step for position in divmod(index, columns))
        enlarged_HW3 = tile_KK3.repeat(scale, 0).repeat(scale, 1)
        image_HW3[top : top + size * scale, left : left + size * scale] = enlarged_HW3
    return image_HW3
