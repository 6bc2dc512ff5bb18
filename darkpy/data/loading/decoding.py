"""Decoding of image files to 8-bit pixels through Pillow, and plain messages for files that cannot be decoded.

Letters: C color, H height, W width.
"""

from __future__ import annotations

import io
import os
import re
import stat
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from darkpy.data.lists.paths import printable
from darkpy.errors import ImageError
from darkpy.files import identify, note_input

ReadT = TypeVar("ReadT")

DEFAULT_MAX_PIXELS = 2 * 89_478_485
"""Pillow's own limit: half a gigabyte of RGB, which a hostile file of a few kilobytes can claim to hold."""
MAX_PIXELS_VARIABLE = "DARKPY_MAX_PIXELS"
"""Environment variable with another limit, which --max-pixels sets; the processes that load images inherit it."""
DENSE_PIXELS, MAX_PIXELS_PER_BYTE = 1 << 24, 500
"""Largest image that may be nearly empty, and the pixels that a byte of larger ones holds at most: a photo has
fewer than 50, a blank 1-bit PNG 8000, which would take gigabytes. A limit that the user sets replaces this rule."""
MAX_SIDE = 1 << 24
"""stb's own limit. Pillow needs extra memory per row: a column of 170 million pixels would take 5 gigabytes."""

_HEAD_BYTES = 512
_ORIENTATION_TAG = 0x0112
_TRANSPOSE_OF_ORIENTATION = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}

_IMAGE_SIGNATURES = (
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"GIF8", "a GIF image"),
    (0, b"BM", "a BMP image"),
    (0, b"II*\0", "a TIFF image"),
    (0, b"MM\0*", "a TIFF image"),
    (8, b"WEBP", "a WebP image"),
    (4, b"ftyp", "a HEIC or AVIF image"),
)
_IMAGE_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1")
_VIDEO_SIGNATURES = (
    (4, b"ftyp", "an MP4 or QuickTime video"),
    (8, b"AVI ", "an AVI video"),
    (0, b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (0, b"FLV\x01", "a Flash video"),
    (0, b"\x00\x00\x01\xba", "an MPEG video"),
)
VIDEO_HINT = "cut it into images (mkdir frames && ffmpeg -i VIDEO frames/%06d.jpg) and name their folder"
_ADDRESS_PATTERN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)


class UnsupportedImage(Exception):
    """Reason to reject a file before Pillow fails on it."""


class _SuppressPillowWarnings:
    """Suppresses Pillow's warnings while any thread is inside; what matters in them is part of the ImageError.

    `warnings.catch_warnings` alone replaces the filters of the whole process, and threads would restore them in the
    wrong order: the first thread to enter saves them, the last to leave restores them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads_inside = 0
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._threads_inside == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._threads_inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._threads_inside -= 1
            if self._threads_inside == 0:
                self._filters.__exit__(None, None, None)


_suppress_pillow_warnings = _SuppressPillowWarnings()
_PIXEL_LIMIT_LOCK = threading.Lock()


def read_image(path: Path, read: Callable[[BinaryIO], ReadT]) -> ReadT:
    """Open an image file and pass it to `read`.

    Raises:  ImageError naming the file, whatever is wrong with it.
    """
    head = b""
    try:
        mode = path.stat().st_mode
        # opening a pipe would block until another process writes to it
        if not stat.S_ISREG(mode):
            raise UnsupportedImage("a folder, not an image" if stat.S_ISDIR(mode) else "not a regular file")
        with path.open("rb") as file:
            note_input(file.fileno())
            head = file.read(_HEAD_BYTES)
            file.seek(0)
            return read(file)
    # Damaged or hostile bytes make decoders raise anything (struct.error, KeyError, zlib.error, MemoryError, ...);
    # to the user all of them mean that this file is damaged.
    except Exception as error:
        name, reason = str(path), explain(error, head)
        if isinstance(error, FileNotFoundError) and (address := _ADDRESS_PATTERN.fullmatch(name)):
            # pathlib has merged its slashes
            name, reason = f"{address[1]}://{address[2]}", "is an address, and darkpy reads files: download it first"
        raise ImageError(f"{printable(name)}: {printable(reason)}") from error


def find_max_pixels() -> int:
    """Return the largest number of pixels that an image may have: the environment's, else the default.

    Raises:  ImageError when the environment's value is not a number.
    """
    text = os.environ.get(MAX_PIXELS_VARIABLE)
    if text is None:
        return DEFAULT_MAX_PIXELS
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise ImageError(f"the environment's {MAX_PIXELS_VARIABLE}={text[:20]} is not a number of pixels")
    return int(text)


def how_to_accept(pixels: int) -> str:
    """Describe the setting with which an image of more pixels than the limit is decoded."""
    return f"--max-pixels {pixels}, or {MAX_PIXELS_VARIABLE}={pixels} in the environment, accepts it"


def decode(file: BinaryIO, *, exif_rotate: bool, min_side: int | None = None) -> NDArray[np.uint8]:
    """Decode the first image of a file to interleaved (H, W, 3) RGB.

    min_side: decode a JPEG at 1/2, 1/4 or 1/8 if no side becomes shorter than this.
    Raises:  any exception, for `explain` to describe.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    with _suppress_pillow_warnings:
        image: PIL.Image.Image = _open_header(file)
        if image.format == "EPS":
            raise UnsupportedImage("PostScript, a program that Ghostscript would have to run")
        w, h = image.size
        if max(w, h) > MAX_SIDE:
            raise UnsupportedImage(f"{w} x {h} pixels, longer than the limit of {MAX_SIDE}")
        is_dense = w * h <= max(DENSE_PIXELS, MAX_PIXELS_PER_BYTE * size)
        if not is_dense and MAX_PIXELS_VARIABLE not in os.environ:
            what = f"{w} x {h} pixels in {size} bytes, perhaps a decompression bomb"
            raise UnsupportedImage(f"{what}; {how_to_accept(w * h)}")
        if min_side is not None:
            image.draft(None, (min_side, min_side))
        image.load()
        if exif_rotate:
            transpose = _TRANSPOSE_OF_ORIENTATION.get(_exif_orientation(image))
            image = image if transpose is None else image.transpose(transpose)
        return to_rgb(image)


def to_rgb(image: PIL.Image.Image) -> NDArray[np.uint8]:
    """Convert a Pillow image of any mode to (H, W, 3) RGB. Raises: any exception, for `explain` to describe."""
    with _suppress_pillow_warnings:
        if image.mode.startswith(("I", "F")):
            return np.repeat(_to_eight_bits(np.asarray(image))[:, :, None], 3, axis=2)
        # with it, Pillow would warn, or choose another palette entry for the transparent color
        if "transparency" in image.info:
            image = image.copy()
            del image.info["transparency"]
        return np.array(image if image.mode == "RGB" else image.convert("RGB"))


class ImageLayout(NamedTuple):
    """Width and height of an upright image, and the EXIF orientation that made it so (1 to 8)."""

    w: int
    h: int
    orientation: int

    @property
    def swaps_sides(self) -> bool:
        return self.orientation >= 5

    def to_upright(self, edges: Sequence[float]) -> tuple[float, float, float, float]:
        """Convert left, top, right, bottom in the stored pixels to the upright image's."""
        left, top, right, bottom = edges
        if self.swaps_sides:
            left, top, right, bottom = top, left, bottom, right
        if self.orientation in (2, 3, 6, 7):
            left, right = self.w - right, self.w - left
        if self.orientation in (3, 4, 7, 8):
            top, bottom = self.h - bottom, self.h - top
        return left, top, right, bottom


def read_image_layout(path: Path) -> ImageLayout:
    """Read size and orientation of an image from the header of its file.

    Raises:  ImageError naming the file.
    """
    return read_image(path, _read_layout)


def layout_of_bytes(data: bytes, name: str) -> ImageLayout:
    """Read size and orientation of an image from the content of its file. Raises: ImageError with the name."""
    try:
        return _read_layout(io.BytesIO(data))
    except Exception as error:  # as in `read_image`
        raise ImageError(f"{printable(name)}: {printable(explain(error, data[:_HEAD_BYTES]))}") from error


def read_image_size(path: Path) -> tuple[int, int]:
    """Read width and height of an image after EXIF rotation from the header of its file.

    Raises:  ImageError naming the file.
    """
    return read_image_layout(path)[:2]


def _read_layout(file: BinaryIO) -> ImageLayout:
    with _suppress_pillow_warnings:
        image = _open_header(file)
        w, h = image.size
        orientation = _exif_orientation(image)
        return ImageLayout(*((h, w) if orientation >= 5 else (w, h)), orientation)


def to_gray(pixels_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert to stb's integer luminance; AlexeyAB's builds with OpenCV may differ by one step."""
    red, green, blue = np.moveaxis(pixels_HWC.astype(np.uint16), 2, 0)
    gray_HW: NDArray[np.uint16] = (red * 77 + green * 150 + blue * 29) >> 8
    return gray_HW[:, :, None].astype(np.uint8)


def explain(error: Exception, head: bytes) -> str:
    """Describe an exception from `decode` of a file that starts with `head`, in one line."""
    text = " ".join(str(error).split())[:120] or type(error).__name__
    if isinstance(error, UnsupportedImage | ImageError):
        return text
    if isinstance(error, PIL.UnidentifiedImageError):
        for start, signature, name in _VIDEO_SIGNATURES:
            if head.startswith(signature, start) and not (start == 4 and head[8:12] in _IMAGE_BRANDS):
                return f"{name}, not an image: {VIDEO_HINT}"
        for start, signature, name in _IMAGE_SIGNATURES:
            if head.startswith(signature, start):
                variant = "of a variant that Pillow does not read"
                return f"starts like {name}, but its header is damaged, truncated or {variant}"
        kind = identify(head)
        return f"not an image but {kind.description}" if kind else "not an image format that Pillow knows"
    if isinstance(error, PIL.Image.DecompressionBombError):
        limit = f"the limit of {find_max_pixels()}, perhaps a decompression bomb"
        return f"claims more pixels than {limit}; a larger --max-pixels, or {MAX_PIXELS_VARIABLE}, accepts it"
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, EOFError) or any(word in text.lower() for word in ("truncated", "not enough image data")):
        return f"truncated, the file ends before the image does ({text})"
    return f"damaged ({text})"


def _open_header(file: BinaryIO) -> PIL.Image.Image:
    """Open an image with our limit in place of Pillow's, which is a global variable, while the header is read."""
    max_pixels = find_max_pixels()
    with _PIXEL_LIMIT_LOCK:
        pillow_limit = PIL.Image.MAX_IMAGE_PIXELS
        PIL.Image.MAX_IMAGE_PIXELS = max_pixels  # at twice as many it raises, before GIF allocates its first frame
        try:
            image = PIL.Image.open(file)
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = pillow_limit
    w, h = image.size
    if w * h > max_pixels:
        what = f"{w} x {h} pixels, more than the limit of {max_pixels}"
        raise UnsupportedImage(f"{what}; {how_to_accept(w * h)}")
    return image


def _exif_orientation(image: PIL.Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # broken EXIF data can raise anything, and the image may still be good
        return 1
    return orientation if orientation in _TRANSPOSE_OF_ORIENTATION else 1


def _to_eight_bits(samples: NDArray[np.float32 | np.int32 | np.uint16]) -> NDArray[np.uint8]:
    """Reduce deep samples. They declare no white level: it is taken as 65535 for integers, as in PNG, 1 for floats."""
    is_float = samples.dtype.kind == "f"
    white = 1 if is_float else 65535
    low, high = samples.min(), samples.max()
    if not (low >= 0 and high <= white):
        raise UnsupportedImage(f"{samples.dtype} samples from {low:g} to {high:g}, only 0 to {white} is supported")
    return (samples * 255 + 0.5 if is_float else samples // 256).astype(np.uint8)
