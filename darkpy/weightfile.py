"""`.weights` of all ages: reading and writing are one walk over the slots, so they cannot disagree.

A file is a header and then float32 numbers, without names or a checksum: the cfg alone says what they are.
Source: pjreddie/darknet and AlexeyAB/darknet src/parser.c load_weights_upto, save_weights_upto.
Differs: sizes are checked before anything is read, and a file that does not fit changes nothing; `flipped` arrays are
flipped back when written, so that reading and writing a file gives the same bytes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from darkpy.build import Node, Plan
from darkpy.dialect import Dialect
from darkpy.errors import WeightsError
from darkpy.files import describe, write_whole
from darkpy.layers.base import Layer, Slot


@dataclass(frozen=True, slots=True)
class Header:
    """The first 16 or 20 bytes. Units: `seen` counts the images the network has been trained on."""

    major: int
    minor: int
    revision: int
    seen: int

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
        return self.major * 10 + self.minor >= 2 and not self.is_transposed

    @property
    def is_transposed(self) -> bool:
        """Connected weights are stored [inputs][outputs]: darknet's mark for its oldest files."""
        return self.major > 1000 or self.minor > 1000

    @property
    def size(self) -> int:
        return 20 if self.has_long_seen else 16

    def pack(self) -> bytes:
        form = "<3iQ" if self.has_long_seen else "<3iI"
        return struct.pack(form, self.major, self.minor, self.revision, self.seen)


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a file filled: `layers` of the `wanted` layers with weights; `missing` is the first that got none."""

    header: Header
    layers: int
    wanted: int
    missing: int | None = None

    @property
    def is_partial(self) -> bool:
        return self.missing is not None


@dataclass(frozen=True, slots=True)
class _Piece:
    """The part of a slot that stands in a file: all of it, or with `numload` its first filters."""

    slot: Slot
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


def read_header(path: str | os.PathLike[str]) -> tuple[Header, int]:
    """The header of a weight file, and how many numbers follow it.

    Raises: WeightsError when the file is missing or is something else (a page, a Git-LFS pointer, a pickle).
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            start = stream.read(512)
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if foreign := describe(start):
        raise WeightsError(f"{path} is {foreign.what}, not a darknet weight file", hint=foreign.hint)
    try:
        header = Header.unpack(start)
    except struct.error:
        raise WeightsError(f"{path} has {size} bytes, fewer than a header") from None
    if (size - header.size) % 4:
        raise WeightsError(
            f"{path}: the {size - header.size} bytes after its header are no whole number of float32",
            hint="the download or copy broke off; fetch it again",
        )
    return header, (size - header.size) // 4


def load_weights(
    path: str | os.PathLike[str],
    plan: Plan,
    layers: Sequence[Layer],
    *,
    start: int = 0,
    cutoff: int | None = None,
    is_partial_allowed: bool = False,
) -> LoadReport:
    """Fill the layers `start` <= i < `cutoff` from a weight file; the arrays are copy-on-write views of it.

    A file that ends exactly between two layers is a partial file (`darknet53.conv.74`): refused unless allowed.
    Raises: WeightsError, before any array has changed.
    """
    path = Path(path)
    header, available = read_header(path)
    wanted = [(node, pieces) for node in plan.nodes[start:cutoff] if (pieces := _pieces(node))]
    counts = [sum(piece.count for piece in pieces) for _, pieces in wanted]
    filled = _fitting_layers(path, plan, wanted, counts, available)
    missing = wanted[filled][0].index if filled < len(wanted) else None
    if missing is not None and not is_partial_allowed:
        raise WeightsError(
            f"{path} is a partial file: it fills {filled} of {len(wanted)} layers, up to {plan.place(missing)}",
            hint="training may start from it; to run it all the same allow partial weights",
        )
    offset = header.size
    for (node, pieces), count in zip(wanted[:filled], counts, strict=False):
        # one map a layer, so that a layer that replaces its arrays gives the file's memory back
        numbers = np.memmap(path, dtype="<f4", mode="c", offset=offset, shape=(count,))
        offset += 4 * count
        for piece, part in zip(pieces, np.split(numbers, _ends(pieces)), strict=True):
            _put(layers[node.index], piece, part, header)
    return LoadReport(header, filled, len(wanted), missing)


def save_weights(
    path: str | os.PathLike[str], plan: Plan, layers: Sequence[Layer], header: Header, *, cutoff: int | None = None
) -> None:
    """Write the layers below `cutoff` under `header`; the file appears whole or not at all.

    Raises: WeightsError when a layer's arrays are gone (folded for inference) or hold NaN or infinity.
    """

    def chunks() -> Iterator[bytes]:
        yield header.pack()
        for node in plan.nodes[:cutoff]:
            for slot in () if node.spec.dontsave else node.slots:
                yield _bytes(layers[node.index], slot, header, plan.place(node.index))

    write_whole(path, chunks())


def initialise(plan: Plan, layers: Sequence[Layer], generator: torch.Generator | None = None) -> None:
    """Fill every array that holds no memory yet as darknet starts a new network."""
    for node in plan.nodes:
        for slot in node.slots:
            owner, name = _owner(layers[node.index], slot)
            if getattr(owner, name).is_meta:
                _set(owner, name, slot.init.fill_(torch.empty(slot.shape), generator))


def _pieces(node: Node) -> list[_Piece]:
    """What the file holds of a layer."""
    spec = node.spec
    if spec.dontload:
        return []
    slots = [slot for slot in node.slots if not (spec.dontloadscales and slot.is_norm)]
    if not spec.numload:
        return [_Piece(slot, slot.shape) for slot in slots]
    return [_Piece(slot, (min(spec.numload, slot.shape[0]), *slot.shape[1:])) for slot in slots]


def _ends(pieces: Sequence[_Piece]) -> list[int]:
    return list(accumulate(piece.count for piece in pieces))[:-1]


def _fitting_layers(
    path: Path, plan: Plan, wanted: Sequence[tuple[Node, list[_Piece]]], counts: Sequence[int], available: int
) -> int:
    """How many layers the file fills exactly."""
    left = available
    for done, ((node, pieces), count) in enumerate(zip(wanted, counts, strict=True)):
        if left == 0 and done:
            return done
        if left < count:
            ends = [0, *_ends(pieces)]
            array = pieces[max(i for i, end in enumerate(ends) if end <= left)].slot.name
            raise WeightsError(
                f"{path} is too short: it holds {available} numbers, {plan.file} wants {sum(counts)}; "
                f"it runs out {left} numbers into {plan.place(node.index)}, in {array!r} ({count} wanted)",
                hint="are this cfg and these weights a pair (classes, filters, fork)?",
            )
        left -= count
    if left:
        raise WeightsError(
            f"{path} is too long: it holds {available} numbers, {plan.file} wants {sum(counts)}; {left} are left over",
            hint="are this cfg and these weights a pair (classes, filters, fork)?",
        )
    return len(wanted)


def _put(layer: Layer, piece: _Piece, numbers: np.ndarray[Any, Any], header: Header) -> None:
    if piece.slot.is_flipped or (piece.slot.is_connected and header.is_transposed):
        first, rest = piece.shape[0], piece.count // piece.shape[0]
        numbers = np.ascontiguousarray(numbers.reshape(rest, first).T)
    tensor = torch.from_numpy(numbers.reshape(piece.shape))
    owner, name = _owner(layer, piece.slot)
    if piece.shape != piece.slot.shape:
        whole = piece.slot.init.fill_(torch.empty(piece.slot.shape))
        whole[: piece.shape[0]] = tensor
        tensor = whole
    _set(owner, name, tensor)


def _owner(layer: Layer, slot: Slot) -> tuple[nn.Module, str]:
    path, _, name = slot.name.rpartition(".")
    return layer.get_submodule(path), name


def _set(owner: nn.Module, name: str, tensor: torch.Tensor) -> None:
    setattr(owner, name, nn.Parameter(tensor) if name in owner._parameters else tensor)


def _bytes(layer: Layer, slot: Slot, header: Header, place: str) -> bytes:
    owner, name = _owner(layer, slot)
    tensor = getattr(owner, name, None)
    if tensor is None:
        raise WeightsError(f"{place}: {slot.name} was folded away for inference", hint="save before for_inference()")
    tensor = tensor.detach().to("cpu", torch.float32)
    if not torch.isfinite(tensor).all():
        raise WeightsError(f"{place}: {slot.name} holds NaN or infinity; nothing is written")
    if slot.is_flipped or (slot.is_connected and header.is_transposed):
        tensor = tensor.reshape(slot.shape[0], -1).T
    array: np.ndarray[Any, Any] = tensor.contiguous().numpy().astype("<f4", copy=False)
    return array.tobytes()
