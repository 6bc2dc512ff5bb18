"""Duplicate images: the same bytes, or the same image re-encoded.

Letters: N, M images; P values of a fingerprint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from darkpy.files import open_regular

FINGERPRINT_SIDE_PX = 16
"""Width and height of a fingerprint: small enough to be unaffected by compression and scaling."""
MAX_DISTANCE_LEVELS, MAX_DISTANCE_SHARE = 5.0, 0.14
"""Largest distance between two fingerprints of one image: in steps of 255, and as a share of the image's contrast.
Re-encoding an image as JPEG of quality 30, or at half its size, moves its fingerprint by less than 1, a drawing full of
fine noise by 3. Of 364 images of blood smears one pair, of one field, is 3.3 apart (0.16 of its contrast), all
others 9.6 and more."""
_READ_BLOCK_BYTES = 2048


def file_digest(path: Path) -> bytes:
    """A hash of a file's bytes. Raises: OSError."""
    with open_regular(path) as stream:
        digest = hashlib.blake2b(digest_size=16)
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.digest()


def image_fingerprint(pixels_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image as SIDE x SIDE means of its colors: (P,) uint8, P = SIDE * SIDE * 3."""
    image = PIL.Image.fromarray(pixels_HWC if pixels_HWC.shape[2] == 3 else pixels_HWC[:, :, 0]).convert("RGB")
    small_HWC = np.asarray(image.resize((FINGERPRINT_SIDE_PX, FINGERPRINT_SIDE_PX), PIL.Image.Resampling.BOX))
    return small_HWC.reshape(-1)


def find_copies(
    ours_NP: NDArray[np.uint8], others_MP: NDArray[np.uint8], aspect_N: Sequence[float], aspect_M: Sequence[float]
) -> Iterator[tuple[int, int]]:
    """Pairs (n, m) with equal fingerprints, to within the effect of compression and scaling; the nearest n of each m.

    aspect: width by height, which copies share.
    """
    if not len(ours_NP) or not len(others_MP):
        return
    aspects_N, aspects_M = np.asarray(aspect_N), np.asarray(aspect_M)
    others = others_MP.astype(np.float32)
    contrast_M = others.std(axis=1)
    nearest_M = np.full(len(others), np.inf, np.float32)
    which_M = np.zeros(len(others), np.int64)
    for start in range(0, len(ours_NP), _READ_BLOCK_BYTES):
        block = ours_NP[start : start + _READ_BLOCK_BYTES].astype(np.float32)
        squares_NM = (block**2).sum(1)[:, None] + (others**2).sum(1)[None] - 2 * block @ others.T
        distance_NM = np.sqrt(np.maximum(squares_NM, 0) / block.shape[1])
        ratio_NM = aspects_N[start : start + _READ_BLOCK_BYTES, None] / aspects_M[None]
        distance_NM[np.abs(np.log(ratio_NM)) > 0.05] = np.inf
        best_M = distance_NM.argmin(axis=0)
        closest_M = distance_NM[best_M, np.arange(len(others))]
        is_nearer_M = closest_M < nearest_M
        nearest_M[is_nearer_M], which_M[is_nearer_M] = closest_M[is_nearer_M], start + best_M[is_nearer_M]
    for m in np.flatnonzero(nearest_M <= np.minimum(MAX_DISTANCE_LEVELS, MAX_DISTANCE_SHARE * contrast_M)):
        yield int(which_M[m]), int(m)
