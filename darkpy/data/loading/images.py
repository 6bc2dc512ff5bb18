"""From an image file to what the network reads: Pillow decodes, darknet's own arithmetic does the rest.

Letters: C color, H height, W width.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkpy.data.loading.decoding import MAX_PIXELS, decode, read_image, to_gray
from darkpy.errors import ShapeError
from darkpy.ops import resample


@dataclass(frozen=True, eq=False, slots=True)
class Image:
    """A decoded image: 8 bits a sample, 3 colors (R, G, B) or 1 (gray), as large as it is in the file."""

    path: Path
    pixels_HWC: NDArray[np.uint8]

    @property
    def w(self) -> int:
        return int(self.pixels_HWC.shape[1])

    @property
    def h(self) -> int:
        return int(self.pixels_HWC.shape[0])

    def view(self) -> Tensor:
        """The same memory as a (C, H, W) tensor, uint8: what `ops.resample` takes fastest."""
        return torch.from_numpy(self.pixels_HWC).permute(2, 0, 1)

    def to_tensor(self) -> Tensor:
        """darknet's image: (C, H, W) float32, 0..1."""
        return self.view().contiguous().float().div_(255)


def load_image(
    path: str | os.PathLike[str],
    *,
    channels: int = 3,
    exif_rotate: bool = True,
    max_pixels: int = MAX_PIXELS,
    least_side: int | None = None,
) -> Image:
    """Decode an image file, or say in one line why not.

    Alpha and transparent colors are dropped and the colors under them shown, of 16 bits the upper 8 are kept, of an
    animation the first image: as stb does. 1 channel is stb's gray. Float samples are read from 0 to 1.
    least_side: decode a large JPEG at a half, a quarter or an eighth where no side becomes shorter than this; it is
        faster, and the pixels are others than darknet's.

    Raises:  ImageError naming the file, whatever is wrong with it; ShapeError for other numbers of channels.
    Source:  pjreddie/darknet src/image.c load_image_stb
    Differs: EXIF orientation is obeyed, as AlexeyAB does with OpenCV; stb ignores it, and so does `exif_rotate=False`.
             A truncated file is refused; OpenCV and newer stb may show what there is of it. TIFF, WebP and more load.
    """
    if channels not in (1, 3):
        raise ShapeError(f"images are read with 1 or 3 channels, not with {channels}")
    path = Path(path)
    pixels_HWC = read_image(
        path, partial(decode, exif_rotate=exif_rotate, max_pixels=max_pixels, least_side=least_side)
    )
    return Image(path, pixels_HWC if channels == 3 else to_gray(pixels_HWC))


def prepare(image: Image, net_w: int, net_h: int, *, letterbox: bool, channels_last: bool = True) -> Tensor:
    """What the network sees of an image: letterboxed, or stretched to its size.

    is_interleaved: lay out pixel after pixel in memory, not channel after channel.
    Shapes:  (C, net_h, net_w) float32, 0..1.
    """
    fit = resample.letterbox if letterbox else resample.resize
    return fit(image.view(), net_w, net_h, channels_last=channels_last)


def stack(images_CHW: Sequence[Tensor]) -> Tensor:
    """Images that `prepare` has made, as the network takes them: (B, C, H, W), laid out in memory as they are."""
    if images_CHW[0].is_contiguous():
        return torch.stack(list(images_CHW))
    return torch.stack([image_CHW.permute(1, 2, 0) for image_CHW in images_CHW]).permute(0, 3, 1, 2)
