"""An image file's bytes to 8-bit pixels through Pillow, or the reason why not in plain words.

Letters: C color, H height, W width.
"""

from __future__ import annotations

import stat
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from darkpy.data.lists.paths import printable
from darkpy.errors import ImageError
from darkpy.files import identify

Read = TypeVar("Read")

MAX_PIXELS = 2 * 89_478_485
"""Where Pillow, too, refuses an image: half a gigabyte of RGB, which a hostile file of some kilobytes can claim."""
MAX_SIDE = 1 << 24
"""stb's own limit. Each row costs Pillow some bytes more: a column of 170 million pixels would take 5 gigabytes."""

_HEAD = 512
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}

_ACROSS = frozenset(_UPRIGHT[number] for number in (5, 6, 7, 8))
"""Those that make rows of columns."""

_SIGNATURES = (
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"GIF8", "a GIF image"),
    (0, b"BM", "a BMP image"),
    (0, b"II*\0", "a TIFF image"),
    (0, b"MM\0*", "a TIFF image"),
    (8, b"WEBP", "a WebP image"),
    (4, b"ftyp", "a HEIC or AVIF image or a video"),
)


class Refusal(Exception):
    """Why a file is not taken, found out before Pillow trips over it."""


class _Muzzle:
    """Keeps Pillow's warnings from the user while any thread is inside: what matters of them is in the ImageError.

    `warnings.catch_warnings` alone swaps the filters of the whole process, and threads would put them back crosswise.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._filters.__exit__(None, None, None)


_MUZZLE = _Muzzle()
_LIMIT_LOCK = threading.Lock()


def read_image(path: Path, read: Callable[[BinaryIO], Read]) -> Read:
    """What `read` makes of an image file.

    Raises:  ImageError naming the file, whatever is wrong with it.
    """
    head = b""
    try:
        mode = path.stat().st_mode
        # opening a pipe would wait for somebody to write to it
        if not stat.S_ISREG(mode):
            raise Refusal("a folder, not an image" if stat.S_ISDIR(mode) else "not a regular file")
        with path.open("rb") as file:
            head = file.read(_HEAD)
            file.seek(0)
            return read(file)
    # A decoder fed with broken or hostile bytes raises whatever it trips over, not only what it means to raise
    # (struct.error, KeyError, zlib.error, MemoryError, ...): for the user all of it is one thing, this file is bad.
    except Exception as fault:
        raise ImageError(f"{printable(path)}: {printable(explain(fault, head))}") from fault


def decode(file: BinaryIO, *, exif_rotate: bool, max_pixels: int, least_side: int | None = None) -> NDArray[np.uint8]:
    """The first image of a file as interleaved (H, W, 3) RGB; raises anything, for `explain` to put into words.

    least_side: decode a JPEG at a half, a quarter or an eighth where no side becomes shorter than this.
    """
    with _MUZZLE:
        image: PIL.Image.Image = _open_header(file, max_pixels)
        if image.format == "EPS":
            raise Refusal("PostScript, a program that Ghostscript would have to run")
        w, h = image.size
        if w * h > max_pixels:
            raise Refusal(f"{w} x {h} pixels, more than the limit of {max_pixels}")
        if max(w, h) > MAX_SIDE:
            raise Refusal(f"{w} x {h} pixels, longer than the limit of {MAX_SIDE}")
        if least_side is not None:
            image.draft(None, (least_side, least_side))
        image.load()
        if exif_rotate:
            image = _turn_upright(image)
        return _to_rgb(image)


def read_image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image as it is decoded, upright, from the beginning of its file.

    Raises:  ImageError naming the file.
    """
    return read_image(path, _measure)


def _measure(file: BinaryIO) -> tuple[int, int]:
    with _MUZZLE:
        image = _open_header(file, MAX_PIXELS)
        w, h = image.size
        return (h, w) if _turn(image) in _ACROSS else (w, h)


def to_gray(pixels_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """stb's whole-number luminance; AlexeyAB's builds with OpenCV may differ by one step."""
    red, green, blue = np.moveaxis(pixels_HWC.astype(np.uint16), 2, 0)
    gray_HW: NDArray[np.uint16] = (red * 77 + green * 150 + blue * 29) >> 8
    return gray_HW[:, :, None].astype(np.uint8)


def explain(fault: Exception, head: bytes) -> str:
    """What an exception from `decode` says about the file that starts with `head`, in one line."""
    text = " ".join(str(fault).split())[:120] or type(fault).__name__
    if isinstance(fault, Refusal):
        return text
    if isinstance(fault, PIL.UnidentifiedImageError):
        return _describe(head)
    if isinstance(fault, PIL.Image.DecompressionBombError):
        return "claims more pixels than the limit, a decompression bomb perhaps"
    if isinstance(fault, MemoryError):
        return "does not fit into memory"
    if isinstance(fault, OSError) and fault.strerror:
        return fault.strerror.lower()
    if isinstance(fault, EOFError) or any(word in text.lower() for word in ("truncated", "not enough image data")):
        return f"truncated, the file ends before the image does ({text})"
    return f"damaged ({text})"


def _open_header(file: BinaryIO, max_pixels: int) -> PIL.Image.Image:
    """Pillow checks sizes against a global: ours stands there only while a header is read."""
    with _LIMIT_LOCK:
        pillows_limit = PIL.Image.MAX_IMAGE_PIXELS
        PIL.Image.MAX_IMAGE_PIXELS = max_pixels
        try:
            return PIL.Image.open(file)
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = pillows_limit


def _turn_upright(image: PIL.Image.Image) -> PIL.Image.Image:
    turn = _turn(image)
    return image if turn is None else image.transpose(turn)


def _turn(image: PIL.Image.Image) -> PIL.Image.Transpose | None:
    """What makes an image upright."""
    try:
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # the camera's notes are broken (in as many ways as an image can be), the image is not
        return None


def _to_rgb(image: PIL.Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith(("I", "F")):
        gray_HW = _to_eight_bits(np.asarray(image))
        return np.repeat(gray_HW[:, :, None], 3, axis=2)
    # left in place, the transparent color would make Pillow warn or choose another palette entry
    image.info.pop("transparency", None)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _to_eight_bits(samples: NDArray[np.float32 | np.int32 | np.uint16]) -> NDArray[np.uint8]:
    """Deep samples have no white of their own: the 16 bits of PNG, or 0 to 1 for floats, are all that is agreed on."""
    is_float = samples.dtype.kind == "f"
    white = 1 if is_float else 65535
    low, high = samples.min(), samples.max()
    if not (low >= 0 and high <= white):
        raise Refusal(f"{samples.dtype} samples from {low:g} to {high:g}, where 0 to {white} can be read")
    return (samples * 255 + 0.5 if is_float else samples // 256).astype(np.uint8)


def _describe(head: bytes) -> str:
    """What a file is that Pillow does not know as an image."""
    for start, signature, what in _SIGNATURES:
        if head.startswith(signature, start):
            return f"starts like {what}, but its header is damaged, cut off or of a kind that Pillow does not read"
    kind = identify(head)
    return f"not an image but {kind.description}" if kind else "not an image that Pillow knows"
