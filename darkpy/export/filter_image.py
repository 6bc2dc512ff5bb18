"""The filters of a convolution as an image.

Legend: F filters, C channels, K size.
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
from darkpy.export.weight_stats import DECAYED, layer_at
from darkpy.export.weight_tools import LoadedWeights, array_values

MAX_FILTERS = 64
MAX_CHANNELS = 32
SIDE = 32  # a filter is enlarged to about this
GAP = 2
MAX_SIDE = 4096
FLAT = 1e-9  # less contrast than this is none


def filters_of(opened: LoadedWeights, index: int | None = None) -> tuple[Node, torch.Tensor]:
    """A convolution and its filters FCKK, the first one by default. Raises: DarkpyError when the layer has none."""
    for node in opened.nodes if index is None else [layer_at(opened, index)]:
        for array_spec in node.arrays:
            if array_spec.name == DECAYED and len(array_spec.shape) == 4:
                return node, array_values(opened.network, node, array_spec)
    where = opened.plan.file if index is None else opened.plan.place(index)
    raise DarkpyError(f"{where}: no filters to draw", hint="convolutional layers have them")


def draw_filters(weights_FCKK: torch.Tensor) -> NDArray[np.uint8]:
    """Each filter from its darkest number, 0, to its brightest, 255: in color if it reads three channels, else in a
    row of its channels.

    Returns: pixels HW3.
    """
    room = max(1, MAX_SIDE // (_enlarged(weights_FCKK.shape[2]) + GAP))
    shown_FCKK = weights_FCKK.detach()[: min(room, MAX_FILTERS), : min(room, MAX_CHANNELS)].float()
    flat = shown_FCKK.flatten(1)
    low, high = flat.amin(1)[:, None, None, None], flat.amax(1)[:, None, None, None]
    shades_FCKK = ((shown_FCKK - low) / torch.where(high - low < FLAT, torch.ones_like(high), high - low)).nan_to_num(0)
    filters, channels, size, _ = shades_FCKK.shape
    if channels == 3:
        tiles_TKK3, across = shades_FCKK.permute(0, 2, 3, 1), math.ceil(math.sqrt(filters))
    else:
        tiles_TKK3, across = shades_FCKK.reshape(-1, size, size, 1).expand(-1, -1, -1, 3), channels
    return _grid((tiles_TKK3.numpy() * 255).round().astype(np.uint8), across)


def _enlarged(size: int) -> int:
    return size * max(1, round(SIDE / size))


def _grid(tiles_TKK3: NDArray[np.uint8], across: int) -> NDArray[np.uint8]:
    """Tiles side by side, `across` in a row, each enlarged by a whole number."""
    side = _enlarged(tiles_TKK3.shape[1])
    times = side // tiles_TKK3.shape[1]
    down = math.ceil(len(tiles_TKK3) / across)
    image_HW3 = np.zeros((down * (side + GAP) - GAP, across * (side + GAP) - GAP, 3), np.uint8)
    for number, tile_KK3 in enumerate(tiles_TKK3):
        top, left = (place * (side + GAP) for place in divmod(number, across))
        image_HW3[top : top + side, left : left + side] = tile_KK3.repeat(times, 0).repeat(times, 1)
    return image_HW3
