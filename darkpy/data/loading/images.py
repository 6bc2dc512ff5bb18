"""Loading of images: Pillow decodes, and darknet's own arithmetic makes the network's input.

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

from darkpy.data.loading.decoding import decode, read_image, to_gray
from darkpy.errors import ShapeError
from darkpy.ops import resample
from darkpy.shapes import Shape


@dataclass(frozen=True, eq=False, slots=True)
class Image:
    """Decoded image in its own size, with 8 bits a sample and 3 channels (R, G, B) or 1 (gray)."""

    path: Path
    pixels_HWC: NDArray[np.uint8]

    @property
    def w(self) -> int:
        return int(self.pixels_HWC.shape[1])

    @property
    def h(self) -> int:
        return int(self.pixels_HWC.shape[0])

    def view(self) -> Tensor:
        """Return the same memory as a (C, H, W) uint8 tensor, the fastest input of `ops.resample`."""
        return torch.from_numpy(self.pixels_HWC).permute(2, 0, 1)

    def to_tensor(self) -> Tensor:
        """Convert to darknet's image: (C, H, W) float32, 0..1."""
        return self.view().contiguous().float().div_(255)


def load_image(
    path: str | os.PathLike[str],
    *,
    channels: int = 3,
    exif_rotate: bool = True,
    min_side: int | None = None,
) -> Image:
    """Decode an image file.

    As in stb, alpha is dropped, 16 bits are cut to the upper 8, and an animation yields its first image. 1 channel is
    stb's gray. Float samples must lie in 0..1.
    min_side: decode a large JPEG at 1/2, 1/4 or 1/8 if no side becomes shorter than this; it is faster, but the pixels
        differ from darknet's.

    Raises:  ImageError naming the file, whatever is wrong with it; ShapeError for other numbers of channels.
    Source:  pjreddie/darknet src/image.c load_image_stb
    Differs: EXIF orientation is applied, as AlexeyAB does with OpenCV; stb ignores it, and so does `exif_rotate=False`.
             A truncated file is an error; OpenCV and newer stb may decode a part. TIFF, WebP and more are supported.
    """
    if channels not in (1, 3):
        raise ShapeError(f"images are read with 1 or 3 channels, not {channels}")
    path = Path(path)
    pixels_HWC = read_image(path, partial(decode, exif_rotate=exif_rotate, min_side=min_side))
    return Image(path, pixels_HWC if channels == 3 else to_gray(pixels_HWC))


def prepare(
    image: Image,
    net_w: int,
    net_h: int,
    *,
    letterbox: bool,
    channels_last: bool = True,
    out_CHW: Tensor | None = None,
) -> Tensor:
    """Resize an image to the network's input, letterboxed or stretched.

    channels_last: memory format of the result. out_CHW: memory for it, as a part of a batch.
    Shapes:  (C, net_h, net_w) float32, 0..1.
    """
    fit = resample.letterbox if letterbox else resample.resize
    return fit(image.view(), net_w, net_h, channels_last=channels_last, out_CHW=out_CHW)


def new_batch(count: int, shape: Shape, channels_last: bool) -> Tensor:
    """Allocate (B, C, H, W) for images of `prepare`, each of which is written into its part."""
    if channels_last:
        return torch.empty((count, shape.h, shape.w, shape.c)).permute(0, 3, 1, 2)
    return torch.empty((count, *shape))


def stack(images_CHW: Sequence[Tensor]) -> Tensor:
    """Stack images made by `prepare` into (B, C, H, W), keeping their memory format.

    A single one is not copied, nor are parts of one batch that follow each other.
    """
    first_CHW, size = images_CHW[0], images_CHW[0].numel()
    storage, start = first_CHW.untyped_storage().data_ptr(), first_CHW.storage_offset()
    if all(
        image_CHW.untyped_storage().data_ptr() == storage and image_CHW.storage_offset() == start + index * size
        for index, image_CHW in enumerate(images_CHW)
    ):
        return first_CHW.as_strided((len(images_CHW), *first_CHW.shape), (size, *first_CHW.stride()))
    if first_CHW.is_contiguous():
        return torch.stack(list(images_CHW))
    return torch.stack([image_CHW.permute(1, 2, 0) for image_CHW in images_CHW]).permute(0, 3, 1, 2)
