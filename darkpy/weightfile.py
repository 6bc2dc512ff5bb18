"""`.weights` files of every version: read and written by one walk over the array specs, so both always agree.

A file is a header and then float32 values, without names or a checksum: only the cfg tells which array they are.
Source: pjreddie/darknet and AlexeyAB/darknet src/parser.c load_weights_upto, save_weights_upto.
Differs: sizes are checked before anything is read, and a file that does not fit changes nothing; `flipped` arrays are
flipped back when written, so that reading and writing a file gives the same bytes.
"""

from __future__ import annotations

import math
import os
import struct
import warnings
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import IO, Any

import numpy as np
import torch

from darkpy.build import Node, Plan
from darkpy.dialect import ALEXEYAB_REVISION, EXTENSION_REVISION, Dialect
from darkpy.errors import DarkpyWarning, WeightsError
from darkpy.files import ZIP_ARCHIVE, FileKind, identify, identify_by_suffix, open_regular
from darkpy.layers.base import ArraySpec, Layer
from darkpy.layers.head import HeadSpec

MAX_SHORT_SEEN = 2**32 - 1
MAX_VERSION = 1 << 20
"""Largest part of a version; darknet marks transposed files by numbers above 1,000, darkpy its own by 65,536."""
_PARTIAL_HINT = "training may start from it; --allow-partial (allow_partial=True) runs it anyway"


@dataclass(frozen=True, slots=True)
class Header:
    """The first 16 or 20 bytes of a file. Units: `seen` counts the images that the network was trained on.

    is_short: `seen` has 4 bytes although the version calls for 8, as some converters write it.
    """

    major: int
    minor: int
    revision: int
    seen: int
    is_short: bool = False

    @classmethod
    def new(cls, dialect: Dialect) -> Header:
        return cls(0, 2, 0 if dialect is Dialect.PJREDDIE else ALEXEYAB_REVISION, 0)

    @classmethod
    def unpack(cls, data: bytes) -> Header:
        """Parse the start of a file. Raises: struct.error when it is shorter than a header."""
        major, minor, revision = struct.unpack_from("<3i", data)
        version = cls(major, minor, revision, 0)
        (seen,) = struct.unpack_from("<Q" if version.has_long_seen else "<I", data, 12)
        return replace(version, seen=seen)

    @property
    def has_long_seen(self) -> bool:
        is_recent = self.major * 10 + self.minor >= 2 and self.major < 1000 and self.minor < 1000
        return is_recent and not self.is_short

    @property
    def is_plausible(self) -> bool:
        """True if a program may have written this version; other binary files rarely begin so."""
        return all(0 <= part <= MAX_VERSION for part in (self.major, self.minor, self.revision))

    @property
    def is_transposed(self) -> bool:
        """True if connected weights are stored [inputs][outputs], as darknet marks its oldest files."""
        return self.major > 1000 or self.minor > 1000

    @property
    def size(self) -> int:
        return 20 if self.has_long_seen else 16

    def shortened(self) -> Header:
        """Return the header that the same bytes are if `seen` has 4 of them."""
        return replace(self, seen=self.seen & MAX_SHORT_SEEN, is_short=True)

    def with_seen(self, seen: int) -> Header:
        """Return the header with another count, in the current format if 32 bits cannot hold the count."""
        fits = self.has_long_seen or seen <= MAX_SHORT_SEEN
        return replace(self, seen=seen) if fits else Header(0, 2, 0, seen)

    def pack(self) -> bytes:
        layout = "<3iQ" if self.has_long_seen else "<3iI"
        return struct.pack(layout, self.major, self.minor, self.revision, self.seen)


@dataclass(frozen=True, slots=True)
class LoadReport:
    """Layers that a file filled: `loaded` of the `expected` layers with weights.

    first_missing: index of the first layer that got none, if any.
    """

    header: Header
    loaded: int
    expected: int
    first_missing: int | None = None


@dataclass(frozen=True, slots=True)
class _FileArray:
    """The part of an array that is in the file: all of it, or with `numload` its first filters."""

    array_spec: ArraySpec
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        return math.prod(self.shape)


class _Contents:
    """The layers of a plan with their arrays in file order.

    ends: the number of values up to the end of each layer, beginning with 0.
    """

    def __init__(self, plan: Plan, start: int, cutoff: int | None, *, with_extensions: bool) -> None:
        nodes = ((node, _file_arrays(node, with_extensions)) for node in plan.nodes[start:cutoff])
        self.layers = [(node, arrays) for node, arrays in nodes if arrays]
        self.ends = [0, *accumulate(sum(array.count for array in arrays) for _, arrays in self.layers)]


def read_header(path: str | os.PathLike[str]) -> tuple[Header, int]:
    """Read the header of a weight file. Returns: the header, and the number of float32 values that follow it.

    Raises: WeightsError when the file is missing or is something else (a web page, a Git-LFS pointer, a pickle).
    """
    try:
        with open_regular(path) as stream:
            start = stream.read(512)
            size = os.fstat(stream.fileno()).st_size
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    kind = identify(start)
    if kind is ZIP_ARCHIVE:
        kind = identify_by_suffix(path) or kind
    if kind is not None:
        raise WeightsError(f"{path} is {kind.description}, not a darknet weight file", hint=kind.hint)
    try:
        header = Header.unpack(start[:size])
    except struct.error:
        raise WeightsError(f"{path} has {size} bytes, fewer than a header") from None
    if not header.is_plausible:
        version = f"its first 12 bytes would be the version {header.major}.{header.minor}.{header.revision}"
        kind = identify_by_suffix(path) or FileKind("damaged, or another binary file", "fetch it again")
        raise WeightsError(f"{path} is {kind.description}, not a darknet weight file: {version}", hint=kind.hint)
    if (size - header.size) % 4:
        raise WeightsError(
            f"{path}: the {size - header.size} bytes after its header are not a whole number of float32 values",
            hint="the download or copy was interrupted; fetch it again",
        )
    return header, (size - header.size) // 4


def load_weights(
    path: str | os.PathLike[str],
    plan: Plan,
    layers: Sequence[Layer],
    *,
    start: int = 0,
    cutoff: int | None = None,
    allow_partial: bool = False,
    mapped: bool = False,
) -> LoadReport:
    """Fill the layers `start` <= i < `cutoff` from a weight file.

    The file's first values are those of layer `start`; with a `cutoff` the file may continue after the last layer.
    A file that ends exactly between two layers is a partial file (`darknet53.conv.74`).

    allow_partial: accept a partial file.
    mapped: use copy-on-write maps of the file, which cost nothing until they are used. If the file is written to,
        values not used yet change; if it is truncated, this process crashes; replacing it is safe.
    Raises: WeightsError, before any array has changed.
    """
    contents = _Contents(plan, start, cutoff, with_extensions=True)
    header, count = read_header(path)
    # with 4 bytes of `seen` where 8 are expected, the first bias is read as its upper half: billions of images
    if header.seen > MAX_SHORT_SEEN and count not in contents.ends and count + 1 in contents.ends:
        header, count = header.shortened(), count + 1
    if cutoff is not None:
        count = min(count, contents.ends[-1])
    if count not in contents.ends and not header.revision & EXTENSION_REVISION:
        without_extensions = _Contents(plan, start, cutoff, with_extensions=False)
        if count in without_extensions.ends[1:]:
            _report_missing_extensions(path, plan, allow_partial)
            contents = without_extensions
    if count not in contents.ends or (count == 0 and contents.layers):
        raise _size_error(path, plan, contents, count, header)
    loaded = contents.ends.index(count)
    expected = len(contents.layers)
    first_missing = contents.layers[loaded][0].index if loaded < expected else None
    if first_missing is not None and not allow_partial:
        last_filled = contents.layers[loaded - 1][0].index
        raise WeightsError(
            f"{path} is a partial file: it fills {loaded} of {expected} layers, up to {plan.place(last_filled)}",
            hint=_PARTIAL_HINT,
        )
    filled = contents.layers[:loaded]
    _check_not_folded(plan, layers, [node for node, _ in filled])
    try:
        with open_regular(path) as stream:
            tensors = list(_read_arrays(stream, filled, header, mapped=mapped))
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise WeightsError(f"{path} became shorter while it was read", hint="is it still being written?") from error
    for index, array_spec, tensor in tensors:
        layers[index].put_array(array_spec, tensor)
    return LoadReport(header, loaded, expected, first_missing)


def pack_weights(plan: Plan, layers: Sequence[Layer], header: Header, *, cutoff: int | None = None) -> Iterator[bytes]:
    """Generate the bytes of a `.weights` file with the layers below `cutoff`, array by array.

    Raises: WeightsError when a layer's arrays are gone (folded for inference) or hold non-finite values.
    """
    saved = [node for node in plan.nodes[:cutoff] if not node.spec.dontsave]
    _check_not_folded(plan, layers, saved)
    is_extension = any(array_spec.is_extension for node in saved for array_spec in node.arrays)
    yield replace(header, revision=header.revision | (EXTENSION_REVISION if is_extension else 0)).pack()
    for node in saved:
        for array_spec in node.arrays:
            array = layers[node.index].array(array_spec)
            assert array is not None
            tensor = array.detach().to("cpu", torch.float32)
            if not torch.isfinite(tensor).all():
                raise WeightsError(
                    f"{plan.place(node.index)}: {array_spec.name} holds NaN or infinity; nothing is written"
                )
            if _is_stored_transposed(array_spec, header):
                tensor = tensor.reshape(array_spec.shape[0], -1).T
            yield tensor.contiguous().numpy().astype("<f4", copy=False).tobytes()


def _file_arrays(node: Node, with_extensions: bool) -> list[_FileArray]:
    """List the arrays that a file holds of a layer.

    Differs: `numload` counts along the first axis of every array; darknet reads it in convolutional layers only.
    """
    spec = node.spec
    if spec.dontload:
        return []
    arrays = [array_spec for array_spec in node.arrays if with_extensions or not array_spec.is_extension]
    arrays = [array_spec for array_spec in arrays if not (spec.dontloadscales and array_spec.is_norm)]
    if not spec.numload:
        return [_FileArray(array_spec, array_spec.shape) for array_spec in arrays]
    return [
        _FileArray(array_spec, (min(spec.numload, array_spec.shape[0]), *array_spec.shape[1:])) for array_spec in arrays
    ]


def _report_missing_extensions(path: str | os.PathLike[str], plan: Plan, allow_partial: bool) -> None:
    """Warn that darknet's own file lacks the network's extension arrays. Raises: WeightsError unless allowed."""
    (node, array_spec), *others = [
        (node, array_spec) for node in plan.nodes for array_spec in node.arrays if array_spec.is_extension
    ]
    text = f"{path} is darknet's own and lacks {array_spec.name!r} of {plan.place(node.index)}"
    text += f" and {len(others)} more arrays"
    if not allow_partial:
        raise WeightsError(text, hint=_PARTIAL_HINT)
    warnings.warn(f"{text}; they are initialized", DarkpyWarning, stacklevel=5)


def _size_error(
    path: str | os.PathLike[str], plan: Plan, contents: _Contents, count: int, header: Header
) -> WeightsError:
    """Build the error for a file that ends inside a layer or after the last one."""
    ends = contents.ends
    sizes = f"it holds {count} values, {plan.file} needs {ends[-1]}"
    hint = "are this cfg and these weights a pair (classes, filters, dialect)?"
    if header.revision & EXTENSION_REVISION:
        sizes += "; it has arrays that darknet does not know"
        hint = "use the cfg it was trained with: group_normalize, layer_normalize, prelu, scale= of [l2norm]"
    elif (head := next((node for node in plan.nodes if isinstance(node.spec, HeadSpec)), None)) is not None:
        part = f"darkpy partial CFG {path} START.weights {max(1, head.index - 1)}"
        hint += f" Of weights for other classes, {part} makes a start for a training; CFG is theirs"
    if count > ends[-1]:
        return WeightsError(f"{path} is too long: {sizes}; {count - ends[-1]} are left over", hint=hint)
    complete = bisect_right(ends, count) - 1
    node, arrays = contents.layers[complete]
    into = count - ends[complete]
    array = arrays[bisect_right(list(accumulate(array.count for array in arrays)), into)].array_spec.name
    position = f"{into} values into {plan.place(node.index)}, in its {array!r}"
    return WeightsError(f"{path} is too short: {sizes}; it ends {position}", hint=hint)


def _read_arrays(
    stream: IO[bytes], layers: Sequence[tuple[Node, list[_FileArray]]], header: Header, *, mapped: bool
) -> Iterator[tuple[int, ArraySpec, torch.Tensor]]:
    """Read the file's arrays. Returns: layer index, spec and tensor. Raises: ValueError when the file ends early."""
    offset = header.size
    total = sum(array.count for _, arrays in layers for array in arrays)
    stream.seek(offset)
    unread: np.ndarray[Any, Any] = np.fromfile(stream, dtype="<f4", count=0 if mapped else total)
    if not mapped and len(unread) < total:
        raise ValueError(f"{len(unread)} of {total} values")
    for node, arrays in layers:
        *ends, count = accumulate(array.count for array in arrays)
        values: np.ndarray[Any, Any]
        if mapped:
            # one map a layer: a layer that replaces its arrays then releases the file's memory
            values = np.memmap(stream, dtype="<f4", mode="c", offset=offset, shape=(count,))
            offset += values.nbytes
        else:
            values, unread = unread[:count], unread[count:]
        for array, part in zip(arrays, np.split(values, ends), strict=True):
            array_spec, first = array.array_spec, array.shape[0]
            if _is_stored_transposed(array_spec, header):
                part = np.ascontiguousarray(part.reshape(array.count // first, first).T)
            tensor = torch.from_numpy(part.reshape(array.shape))
            if array.shape != array_spec.shape:  # numload=: the rest keeps its initial values
                whole = array_spec.init.fill_(torch.empty(array_spec.shape))
                whole[:first] = tensor
                tensor = whole
            yield node.index, array_spec, tensor


def _is_stored_transposed(array_spec: ArraySpec, header: Header) -> bool:
    """True if the file holds the array with its first axis last."""
    return array_spec.is_flipped or (array_spec.is_connected and header.is_transposed)


def _check_not_folded(plan: Plan, layers: Sequence[Layer], nodes: Sequence[Node]) -> None:
    """Raises: WeightsError naming the first array that is folded away."""
    for node in nodes:
        for array_spec in node.arrays:
            if layers[node.index].array(array_spec) is None:
                raise WeightsError(
                    f"{plan.place(node.index)}: {array_spec.name} was folded away for inference",
                    hint="load and save before for_inference()",
                )
