"""Images in memory (arrays, tensors, Pillow images, encoded bytes) to 8-bit RGB pixels.

Letters: C color, H height, W width.
"""

from __future__ import annotations

import io
from typing import Any, Literal

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkpy.data.loading.decoding import decode, explain, find_max_pixels, how_to_accept, to_rgb
from darkpy.errors import ImageError

ChannelOrder = Literal["rgb", "bgr"]
Pixels = bytes | bytearray | memoryview | NDArray[Any] | Tensor | PIL.Image.Image
"""An image in memory."""

_CHANNEL_COUNTS = (1, 3, 4)
_ARRAY_HINT = "an image is an array of shape (height, width, 3) and dtype uint8"
_TENSOR_HINT = "an image is a tensor of shape (3, height, width): float from 0 to 1, or uint8"


def to_pixels(image: Pixels, name: str, channel_order: ChannelOrder = "rgb") -> NDArray[np.uint8]:
    """Convert an image in memory to (H, W, 3) uint8 RGB; alpha is dropped, and gray is repeated.

    name: of the image, for messages. channel_order: of arrays and tensors; other images know their own.
    A float tensor is rounded to 8 bits. A Pillow image is taken as it is, without EXIF rotation.
    Returns: an array that may share memory with the image.
    Raises:  ImageError naming the image, for a wrong type, shape or range and for damaged bytes.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return _decode_bytes(bytes(image), name)
    if isinstance(image, PIL.Image.Image):
        try:
            return to_rgb(image)
        except Exception as error:  # decoders raise anything for damaged bytes, which Pillow reads late
            raise ImageError(f"{name}: {explain(error, b'')}") from error
    if isinstance(image, Tensor):
        pixels_HWC = _from_tensor(image, name)
    else:
        pixels_HWC = _check_array(image, name)
    if pixels_HWC.shape[2] == 1:
        return pixels_HWC.repeat(3, axis=2)
    pixels_HW3 = np.ascontiguousarray(pixels_HWC[:, :, :3] if channel_order == "rgb" else pixels_HWC[:, :, 2::-1])
    return pixels_HW3 if pixels_HW3.flags.writeable else pixels_HW3.copy()  # torch warns of read-only ones


def _decode_bytes(data: bytes, name: str) -> NDArray[np.uint8]:
    try:
        return decode(io.BytesIO(data), exif_rotate=True)
    except Exception as error:  # as for files
        raise ImageError(f"{name}: {explain(error, data[:512])}") from error


def _check_array(image: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Check an array's type and shape. Returns: (H, W, C)."""
    shape = " x ".join(map(str, image.shape)) or "no dimension"
    if image.dtype != np.uint8:
        hint = _ARRAY_HINT
        if image.dtype.kind == "f":
            hint = "for values from 0 to 1: (image * 255).round().astype(numpy.uint8)"
        raise ImageError(f"{name}: is an array of {image.dtype}, not of uint8", hint=hint)
    if image.ndim == 4:
        raise ImageError(f"{name}: is an array of {shape}, several images", hint="pass list(array)")
    pixels_HWC = image[:, :, None] if image.ndim == 2 else image
    if pixels_HWC.ndim != 3 or pixels_HWC.shape[2] not in _CHANNEL_COUNTS:
        is_CHW = pixels_HWC.ndim == 3 and pixels_HWC.shape[0] in _CHANNEL_COUNTS
        hint = "the colors come last: image.transpose(1, 2, 0)" if is_CHW else _ARRAY_HINT
        raise ImageError(f"{name}: is an array of {shape}, not of height x width x 3", hint=hint)
    pixels = pixels_HWC.shape[0] * pixels_HWC.shape[1]
    if pixels_HWC.size == 0:
        raise ImageError(f"{name}: has {shape} pixels", hint=_ARRAY_HINT)
    if pixels > find_max_pixels():
        raise ImageError(f"{name}: has {shape} pixels", hint=how_to_accept(pixels))
    return pixels_HWC


def _from_tensor(image: Tensor, name: str) -> NDArray[np.uint8]:
    shape = " x ".join(map(str, image.shape)) or "no dimension"
    if image.dim() == 4:
        raise ImageError(f"{name}: is a tensor of {shape}, several images", hint="pass list(tensor)")
    if image.dim() not in (2, 3) or (image.dim() == 3 and image.shape[0] not in _CHANNEL_COUNTS):
        is_HWC = image.dim() == 3 and image.shape[2] in _CHANNEL_COUNTS
        hint = "the colors come first: tensor.permute(2, 0, 1)" if is_HWC else _TENSOR_HINT
        raise ImageError(f"{name}: is a tensor of {shape}, not of 3 x height x width", hint=hint)
    if image.is_meta or image.layout is not torch.strided:
        kind = "without values (meta)" if image.is_meta else "that is sparse"
        raise ImageError(f"{name}: is a tensor {kind}", hint=_TENSOR_HINT)
    image = image.detach().cpu()
    if image.is_floating_point() and image.numel():
        low, high = image.min().item(), image.max().item()
        if not (low >= 0 and high <= 1):
            hint = "divide values from 0 to 255 by 255" if 1 < high <= 255 and low >= 0 else _TENSOR_HINT
            raise ImageError(f"{name}: is a tensor with values from {low:g} to {high:g}, not from 0 to 1", hint=hint)
        image = (image.float() * 255).round().to(torch.uint8)
    if image.dtype != torch.uint8:
        raise ImageError(f"{name}: is a tensor of {image.dtype}, not of uint8 or float", hint=_TENSOR_HINT)
    image_CHW = image if image.dim() == 3 else image[None]
    return _check_array(image_CHW.permute(1, 2, 0).numpy(), name)
