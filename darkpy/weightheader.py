"""The header of a `.weights` file, of all ages.

Source: pjreddie/darknet and AlexeyAB/darknet src/parser.c load_weights_upto, save_weights_upto.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, replace
from pathlib import Path

from darkpy.dialect import Dialect
from darkpy.errors import WeightsError
from darkpy.files import describe

MAX_SHORT_SEEN = 2**32 - 1
FOREIGN = 1 << 16  # of a header's revision: the file has arrays that no darknet has; none looks, and all misread it


@dataclass(frozen=True, slots=True)
class Header:
    """The first 16 or 20 bytes. Units: `seen` counts the images the network has been trained on.

    is_short: four ints where the version asks for five, as some converters write it.
    """

    major: int
    minor: int
    revision: int
    seen: int
    is_short: bool = False

    @classmethod
    def new(cls, dialect: Dialect) -> Header:
        return cls(0, 2, 0 if dialect is Dialect.PJREDDIE else 5, 0)

    @classmethod
    def unpack(cls, data: bytes) -> Header:
        """Read a header from the start of a file. Raises: struct.error when the file is shorter than it."""
        major, minor, revision = struct.unpack_from("<3i", data)
        version = cls(major, minor, revision, 0)
        (seen,) = struct.unpack_from("<Q" if version.has_long_seen else "<I", data, 12)
        return replace(version, seen=seen)

    @property
    def has_long_seen(self) -> bool:
        is_recent = self.major * 10 + self.minor >= 2 and self.major < 1000 and self.minor < 1000
        return is_recent and not self.is_short

    @property
    def is_transposed(self) -> bool:
        """Connected weights are stored [inputs][outputs]: darknet's mark for its oldest files."""
        return self.major > 1000 or self.minor > 1000

    @property
    def size(self) -> int:
        return 20 if self.has_long_seen else 16

    def shortened(self) -> Header:
        """The same bytes, with only four of them for `seen`."""
        return replace(self, seen=self.seen & MAX_SHORT_SEEN, is_short=True)

    def with_seen(self, seen: int) -> Header:
        """The same kind of header for another count, or today's where its 32 bits cannot hold that."""
        is_held = self.has_long_seen or seen <= MAX_SHORT_SEEN
        return replace(self, seen=seen) if is_held else Header(0, 2, 0, seen)

    def pack(self) -> bytes:
        form = "<3iQ" if self.has_long_seen else "<3iI"
        return struct.pack(form, self.major, self.minor, self.revision, self.seen)


def read_header(path: str | os.PathLike[str]) -> tuple[Header, int]:
    """The header of a weight file, and how many numbers follow it.

    Raises: WeightsError when the file is missing or is something else (a page, a Git-LFS pointer, a pickle).
    """
    try:
        with Path(path).open("rb") as stream:
            start = stream.read(512)
            size = os.fstat(stream.fileno()).st_size
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if foreign := describe(start):
        raise WeightsError(f"{path} is {foreign.what}, not a darknet weight file", hint=foreign.hint)
    try:
        header = Header.unpack(start[:size])
    except struct.error:
        raise WeightsError(f"{path} has {size} bytes, fewer than a header") from None
    if (size - header.size) % 4:
        raise WeightsError(
            f"{path}: the {size - header.size} bytes after its header are no whole number of float32",
            hint="the download or copy broke off; fetch it again",
        )
    return header, (size - header.size) // 4
