"""Dumps: every layer's output for one input, in an `.npz` that other programs can write and read.

`x` is the network's input, `layer0`, `layer1`, ... the outputs as darknet numbers its layers, float32 in the order
batch, channels, rows, columns.

Legend: B images, C H W channels, rows, columns.
"""

from __future__ import annotations

import os
import re
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from darkpy.errors import DarkpyError, ShapeError
from darkpy.files import write_atomic
from darkpy.shapes import Shape

INPUT = "x"
_LAYER = re.compile(r"layer(0|[1-9][0-9]{0,8})")
_BLOCK = 1 << 20
_NPY: Any = np.lib.format  # its functions have no types
_HEADERS = {(1, 0): _NPY.read_array_header_1_0, (2, 0): _NPY.read_array_header_2_0}


def layer_number(name: str) -> int | None:
    """The layer that `layer7` names."""
    found = _LAYER.fullmatch(name)
    return int(found[1]) if found else None


def is_dump(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a dump by its name, or a zip archive by its first bytes."""
    path = Path(path)
    try:
        with path.open("rb") as stream:
            return path.suffix.lower() == ".npz" or stream.read(4) == b"PK\x03\x04"
    except (OSError, ValueError) as error:
        raise DarkpyError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def write_dump(path: str | os.PathLike[str], x_BCHW: torch.Tensor, outputs_BCHW: Sequence[torch.Tensor]) -> None:
    """Write an input and every layer's output; the file appears whole or not at all."""
    if Path(path).suffix.lower() != ".npz":
        raise DarkpyError(f"{path}: a dump is an .npz file", hint="give the file a name that ends in .npz")
    tensors = {INPUT: x_BCHW} | {f"layer{index}": output for index, output in enumerate(outputs_BCHW)}
    arrays: dict[str, Any] = {name: tensor.detach().float().cpu().numpy() for name, tensor in tensors.items()}
    with tempfile.TemporaryFile() as stream:
        np.savez_compressed(stream, **arrays)
        stream.seek(0)
        write_atomic(path, _blocks(stream))


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    while block := stream.read(_BLOCK):
        yield block


@contextmanager
def open_dump(path: str | os.PathLike[str]) -> Iterator[Dump]:
    """A dump to read from, one array at a time. Raises: DarkpyError when it is none."""
    with _refusing(Path(path)):
        archive = zipfile.ZipFile(path)
    with archive:
        yield Dump(Path(path), archive)


class Dump:
    """The arrays of an open dump; nothing is unpacked before its size has been found right."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path = path
        self._archive = archive
        self._members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}

    @property
    def has_input(self) -> bool:
        return INPUT in self._members

    @property
    def layers(self) -> list[int]:
        """The numbers of the layers it holds, in order."""
        return sorted(number for name in self._members if (number := layer_number(name)) is not None)

    @property
    def strangers(self) -> list[str]:
        """Names in it that are neither the input nor a layer's."""
        return [name for name in self._members if name != INPUT and layer_number(name) is None]

    def read_input(self, shape: Shape, most: int) -> torch.Tensor:
        """The input, of as many images as it holds but no more than `most`.

        Raises: ShapeError when it is not what a network with this input shape reads, DarkpyError for a bad file.
        """
        with _refusing(self.path):
            found, _ = self._describe(INPUT)
        batch = int(np.prod(found, dtype=object)) // shape.outputs
        if batch > most:
            raise ShapeError(f"{self.path}: x holds {batch} images, more than the {most} that are compared at once")
        return self._read(INPUT, max(batch, 1), shape)

    def read_layer(self, index: int, batch: int, shape: Shape) -> torch.Tensor:
        """One layer's output. Raises: ShapeError when it is not `batch` times `shape`, DarkpyError for a bad file."""
        return self._read(f"layer{index}", batch, shape)

    def _read(self, name: str, batch: int, shape: Shape) -> torch.Tensor:
        with _refusing(self.path):
            found, size = self._describe(name)
            if not fits(found, batch, shape):
                raise ShapeError(
                    f"{self.path}: {name} is {found}, the cfg makes it {(batch, *shape)}",
                    hint="the order is batch, channels, rows, columns; is the dump of this cfg?",
                )
            held = self._members[name].file_size
            if held != size:
                raise DarkpyError(f"{self.path}: {name} takes {held} bytes, its header announces {size}")
            with self._archive.open(self._members[name]) as stream:
                array = _NPY.read_array(stream, allow_pickle=False)
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).reshape(batch, *shape)

    def _describe(self, name: str) -> tuple[tuple[int, ...], int]:
        """What an array's own header says: its shape, and how many bytes that makes with the header."""
        with self._archive.open(self._members[name]) as stream:
            version = _NPY.read_magic(stream)
            if version not in _HEADERS:
                raise ValueError(f"{name} has an array header of version {version}")
            shape, _, dtype = _HEADERS[version](stream)
            if dtype.hasobject:
                raise DarkpyError(f"{self.path}: {name} is a pickled Python object, which is never loaded")
            if dtype.kind != "f":
                raise DarkpyError(f"{self.path}: {name} holds {dtype}, a dump holds float32")
            return shape, stream.tell() + int(np.prod(shape, dtype=object)) * dtype.itemsize


def fits(found: Sequence[int], batch: int, shape: Shape) -> bool:
    """Whether an array's shape is that of a batch of outputs, flat or not; the batch may be left out when it is 1."""
    known: list[tuple[int, ...]] = [(batch, *shape), (batch, shape.outputs), (batch * shape.outputs,)]
    return tuple(found) in known or (batch == 1 and tuple(found) == shape)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except DarkpyError:
        raise
    # Broken or hostile bytes make zipfile, zlib and numpy raise whatever they trip over: for the user the file is bad.
    except Exception as fault:
        reason = getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
        raise DarkpyError(
            f"{path}: cannot be read as a dump: {reason}",
            hint="a dump is an .npz with x, layer0, layer1, ...: darkpy compare CFG WEIGHTS --dump FILE writes one",
        ) from fault
