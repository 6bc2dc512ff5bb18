"""Dumps: the outputs of all layers for one input, in an `.npz` that other programs can write and read.

`x` is the network's input, `layer0`, `layer1`, ... the outputs as darknet numbers its layers, float32 in the order
batch, channels, rows, columns.

Legend: B images, C H W channels, rows, columns.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from darkpy.errors import DarkpyError, ShapeError
from darkpy.files import open_regular, write_atomic
from darkpy.shapes import Shape

INPUT_NAME = "x"
_LAYER_NAME = re.compile(r"layer(0|[1-9][0-9]{0,8})")
_BLOCK_BYTES = 1 << 20
_MAX_HEADER_BYTES = 1 << 16
_NPY_FORMAT: Any = np.lib.format  # its functions have no type hints
_HEADER_READERS = {(1, 0): _NPY_FORMAT.read_array_header_1_0, (2, 0): _NPY_FORMAT.read_array_header_2_0}


def layer_number(name: str) -> int | None:
    """Layer index in a name like `layer7`; None for other names."""
    match = _LAYER_NAME.fullmatch(name)
    return int(match[1]) if match else None


def is_dump(path: str | os.PathLike[str]) -> bool:
    """True if a file is a dump by its name, or a zip archive by its first bytes."""
    path = Path(path)
    try:
        with open_regular(path) as stream:
            return path.suffix.lower() == ".npz" or stream.read(4) == b"PK\x03\x04"
    except (OSError, ValueError) as error:
        raise DarkpyError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def write_dump(path: str | os.PathLike[str], x_BCHW: torch.Tensor, outputs_BCHW: Sequence[torch.Tensor]) -> None:
    """Write an input and the outputs of all layers, atomically."""
    if Path(path).suffix.lower() != ".npz":
        raise DarkpyError(f"{path}: a dump is an .npz file", hint="give the file a name that ends in .npz")
    tensors = {INPUT_NAME: x_BCHW} | {f"layer{index}": output for index, output in enumerate(outputs_BCHW)}
    arrays: dict[str, Any] = {name: tensor.detach().float().cpu().numpy() for name, tensor in tensors.items()}
    with tempfile.TemporaryFile() as stream:
        np.savez_compressed(stream, **arrays)
        stream.seek(0)
        write_atomic(path, iter(partial(stream.read, _BLOCK_BYTES), b""))


@contextmanager
def open_dump(path: str | os.PathLike[str]) -> Iterator[Dump]:
    """Open a dump to read from it one array at a time. Raises: DarkpyError when the file is not a dump."""
    with _read_errors(Path(path)):
        archive = zipfile.ZipFile(path)
    with archive:
        yield Dump(Path(path), archive)


class Dump:
    """Arrays of an open dump; each array's header is checked before its data is unpacked."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path = path
        self._archive = archive
        self._members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}

    @property
    def has_input(self) -> bool:
        return INPUT_NAME in self._members

    @property
    def layers(self) -> list[int]:
        """Indices of the layers in the dump, in order."""
        return sorted(index for name in self._members if (index := layer_number(name)) is not None)

    @property
    def unknown_names(self) -> list[str]:
        """Names that are neither the input's nor a layer's."""
        return [name for name in self._members if name != INPUT_NAME and layer_number(name) is None]

    def read_input(self, shape: Shape, max_batch: int) -> torch.Tensor:
        """Read the input: all its images, but no more than `max_batch`.

        Raises: ShapeError when it does not have this shape or is too large; DarkpyError for a damaged file.
        """
        with _read_errors(self.path):
            dumped_shape, _ = self._describe(INPUT_NAME)
        batch = int(np.prod(dumped_shape, dtype=object)) // shape.outputs
        if batch > max_batch:
            raise ShapeError(f"{self.path}: x holds {batch} images, at most {max_batch} can be compared at once")
        return self._read(INPUT_NAME, max(batch, 1), shape)

    def read_layer(self, index: int, batch: int, shape: Shape) -> torch.Tensor:
        """Read the output of a layer.

        Raises: ShapeError when it is not `batch` times `shape`; DarkpyError for a damaged file.
        """
        return self._read(f"layer{index}", batch, shape)

    def _read(self, name: str, batch: int, shape: Shape) -> torch.Tensor:
        with _read_errors(self.path):
            dumped_shape, size = self._describe(name)
            if not is_output_shape(dumped_shape, batch, shape):
                raise ShapeError(
                    f"{self.path}: {name} has the shape {dumped_shape}, the cfg gives {(batch, *shape)}",
                    hint="the order is batch, channels, rows, columns; is the dump of this cfg?",
                )
            actual_size = self._members[name].file_size
            if actual_size != size:
                raise DarkpyError(f"{self.path}: {name} takes {actual_size} bytes, its header announces {size}")
            with self._archive.open(self._members[name]) as stream:
                array = _NPY_FORMAT.read_array(stream, allow_pickle=False)
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).reshape(batch, *shape)

    def _describe(self, name: str) -> tuple[tuple[int, ...], int]:
        """Read an array's header. Returns: its shape, and the size in bytes of header and data."""
        with self._archive.open(self._members[name]) as member:
            # a header may claim 4 GB for itself, which a compressed file of 4 MB holds
            stream = io.BytesIO(member.read(_MAX_HEADER_BYTES))
            version = _NPY_FORMAT.read_magic(stream)
            if version not in _HEADER_READERS:
                raise ValueError(f"{name} has an array header of version {version}")
            shape, _, dtype = _HEADER_READERS[version](stream)
            if dtype.hasobject:
                raise DarkpyError(f"{self.path}: {name} is a pickled Python object, which is never loaded")
            if dtype.kind != "f":
                raise DarkpyError(f"{self.path}: {name} holds {dtype}, a dump holds float32")
            return shape, stream.tell() + int(np.prod(shape, dtype=object)) * dtype.itemsize


def is_output_shape(array_shape: Sequence[int], batch: int, shape: Shape) -> bool:
    """True if an array has the shape of a batch of outputs, flat or not; a batch of 1 may be omitted."""
    known: list[tuple[int, ...]] = [(batch, *shape), (batch, shape.outputs), (batch * shape.outputs,)]
    return tuple(array_shape) in known or (batch == 1 and tuple(array_shape) == shape)


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file raises into a DarkpyError."""
    try:
        yield
    except DarkpyError:
        raise
    # damaged or hostile bytes make zipfile, zlib and numpy raise nearly any exception
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DarkpyError(
            f"{path}: cannot be read as a dump: {reason}",
            hint="a dump is an .npz with x, layer0, layer1, ...: darkpy compare CFG WEIGHTS --dump FILE writes one",
        ) from error
