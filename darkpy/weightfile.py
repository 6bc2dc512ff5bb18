"""`.weights` of all ages: reading and writing are one walk over the slots, so they cannot disagree.

A file is a header and then float32 numbers, without names or a checksum: the cfg alone says what they are.
Source: pjreddie/darknet and AlexeyAB/darknet src/parser.c load_weights_upto, save_weights_upto.
Differs: sizes are checked before anything is read, and a file that does not fit changes nothing; `flipped` arrays are
flipped back when written, so that reading and writing a file gives the same bytes.
"""

from __future__ import annotations

import math
import os
import warnings
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from darkpy.build import Node, Plan
from darkpy.errors import DarkpyWarning, WeightsError
from darkpy.layers.base import ArraySpec, Layer
from darkpy.weightheader import FOREIGN as FOREIGN
from darkpy.weightheader import MAX_SHORT_SEEN
from darkpy.weightheader import Header as Header
from darkpy.weightheader import read_header as read_header


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a file filled: `layers` of the `wanted` layers with weights; `missing` is the first that got none."""

    header: Header
    layers: int
    wanted: int
    missing: int | None = None


@dataclass(frozen=True, slots=True)
class _Piece:
    """The part of a slot that stands in a file: all of it, or with `numload` its first filters."""

    array_spec: ArraySpec
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        return math.prod(self.shape)


_Wanted = Sequence[tuple[Node, list[_Piece]]]


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

    mapped: copy-on-write maps of the file, which cost nothing before they are used. Whoever writes into the file
        changes what was not used yet, and whoever cuts it short ends this process; replacing it does no harm.
    The file's first numbers are those of layer `start`; with a `cutoff` it may go on behind the last layer's.
    A file that ends exactly between two layers is a partial file (`darknet53.conv.74`): refused unless allowed.
    Raises: WeightsError, before any array has changed.
    """
    wanted, ends = _walk(plan, start, cutoff)
    header, held = read_header(path)
    # four ints where five are due: the first bias then looks like images seen by the billion
    if header.seen > MAX_SHORT_SEEN and held not in ends and held + 1 in ends:
        header, held = header.shortened(), held + 1
    if cutoff is not None:
        held = min(held, ends[-1])
    if held not in ends and not header.revision & FOREIGN:
        plain, plain_ends = _walk(plan, start, cutoff, has_foreign=False)
        if held in plain_ends[1:]:
            _tell_lacking(path, plan, allow_partial)
            wanted, ends = plain, plain_ends
    if held not in ends or (held == 0 and wanted):
        raise _misfit(path, plan, wanted, ends, held, header)
    filled = ends.index(held)
    missing = wanted[filled][0].index if filled < len(wanted) else None
    if missing is not None and not allow_partial:
        raise WeightsError(
            f"{path} is a partial file: it fills {filled} of {len(wanted)} layers, up to {plan.place(missing)}",
            hint="training may start from it; --allow-partial (allow_partial=True) runs it all the same",
        )
    _check_arrays(plan, layers, [node for node, _ in wanted[:filled]])
    try:
        with Path(path).open("rb") as stream:
            arrays = list(_arrays(stream, wanted[:filled], header, mapped=mapped))
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise WeightsError(f"{path} became shorter while it was read", hint="is it still being written?") from error
    for index, array_spec, tensor in arrays:
        layers[index].put_array(array_spec, tensor)
    return LoadReport(header, filled, len(wanted), missing)


def pack_weights(plan: Plan, layers: Sequence[Layer], header: Header, *, cutoff: int | None = None) -> Iterator[bytes]:
    """The bytes of a `.weights` file that holds the layers below `cutoff`, piece by piece.

    Raises: WeightsError when a layer's arrays are gone (folded for inference) or hold NaN or infinity.
    """
    saved = [node for node in plan.nodes[:cutoff] if not node.spec.dontsave]
    _check_arrays(plan, layers, saved)
    is_extension = any(array_spec.is_extension for node in saved for array_spec in node.arrays)
    yield replace(header, revision=header.revision | (FOREIGN if is_extension else 0)).pack()
    for node in saved:
        for array_spec in node.arrays:
            yield _bytes(layers[node.index], array_spec, header, plan.place(node.index))


def _walk(plan: Plan, start: int, cutoff: int | None, *, has_foreign: bool = True) -> tuple[_Wanted, list[int]]:
    """What a file holds of each layer, and after how many numbers each ends."""
    wanted = [(node, pieces) for node in plan.nodes[start:cutoff] if (pieces := _pieces(node, has_foreign))]
    return wanted, [0, *accumulate(sum(piece.count for piece in pieces) for _, pieces in wanted)]


def _tell_lacking(path: str | os.PathLike[str], plan: Plan, allow_partial: bool) -> None:
    """Say which arrays a darknet's own file does not have. Raises: WeightsError unless the network may lack some."""
    (node, array_spec), *others = [
        (node, array_spec) for node in plan.nodes for array_spec in node.arrays if array_spec.is_extension
    ]
    text = (
        f"{path} is a darknet's and lacks {array_spec.name!r} of {plan.place(node.index)} and {len(others)} more arrays"
    )
    if not allow_partial:
        hint = "training may start from it; --allow-partial (allow_partial=True) runs it all the same"
        raise WeightsError(text, hint=hint)
    warnings.warn(f"{text}; they start new", DarkpyWarning, stacklevel=4)


def _pieces(node: Node, has_foreign: bool) -> list[_Piece]:
    """What the file holds of a layer.

    Differs: `numload` counts along the first axis of every array; darknet looks at it in convolutional layers only.
    """
    spec = node.spec
    if spec.dontload:
        return []
    arrays = [array_spec for array_spec in node.arrays if has_foreign or not array_spec.is_extension]
    arrays = [array_spec for array_spec in arrays if not (spec.dontloadscales and array_spec.is_norm)]
    if not spec.numload:
        return [_Piece(array_spec, array_spec.shape) for array_spec in arrays]
    return [
        _Piece(array_spec, (min(spec.numload, array_spec.shape[0]), *array_spec.shape[1:])) for array_spec in arrays
    ]


def _misfit(
    path: str | os.PathLike[str], plan: Plan, wanted: _Wanted, ends: Sequence[int], held: int, header: Header
) -> WeightsError:
    """What to say of a file that ends inside a layer, or behind the last one."""
    sizes = f"it holds {held} numbers, {plan.file} wants {ends[-1]}"
    hint = "are this cfg and these weights a pair (classes, filters, fork)?"
    if header.revision & FOREIGN:
        sizes += "; it has arrays that no darknet has"
        hint = "use the cfg it was trained with: group_normalize, layer_normalize, prelu, scale= of [l2norm]"
    if held > ends[-1]:
        return WeightsError(f"{path} is too long: {sizes}; {held - ends[-1]} are left over", hint=hint)
    complete = bisect_right(ends, held) - 1
    node, pieces = wanted[complete]
    into = held - ends[complete]
    array = pieces[bisect_right(_ends(pieces), into)].array_spec.name
    where = f"{into} numbers into {plan.place(node.index)}, in its {array!r}"
    return WeightsError(f"{path} is too short: {sizes}; it runs out {where}", hint=hint)


def _arrays(
    stream: IO[bytes], wanted: _Wanted, header: Header, *, mapped: bool
) -> Iterator[tuple[int, ArraySpec, torch.Tensor]]:
    """The file's arrays, each with its layer's number and its slot. Raises: ValueError when the file ends early."""
    offset = header.size
    total = sum(piece.count for _, pieces in wanted for piece in pieces)
    stream.seek(offset)
    held: np.ndarray[Any, Any] = np.fromfile(stream, dtype="<f4", count=0 if mapped else total)
    if not mapped and len(held) < total:
        raise ValueError(f"{len(held)} of {total} numbers")
    for node, pieces in wanted:
        *ends, count = _ends(pieces)
        numbers: np.ndarray[Any, Any]
        if mapped:
            # one map a layer, so that a layer that replaces its arrays gives the file's memory back
            numbers = np.memmap(stream, dtype="<f4", mode="c", offset=offset, shape=(count,))
            offset += numbers.nbytes
        else:
            numbers, held = held[:count], held[count:]
        for piece, part in zip(pieces, np.split(numbers, ends), strict=True):
            yield node.index, piece.array_spec, _tensor(piece, part, header)


def _ends(pieces: Sequence[_Piece]) -> list[int]:
    return list(accumulate(piece.count for piece in pieces))


def _tensor(piece: _Piece, numbers: np.ndarray[Any, Any], header: Header) -> torch.Tensor:
    array_spec = piece.array_spec
    if _is_turned(array_spec, header):
        first, rest = piece.shape[0], piece.count // piece.shape[0]
        numbers = np.ascontiguousarray(numbers.reshape(rest, first).T)
    tensor = torch.from_numpy(numbers.reshape(piece.shape))
    if piece.shape == array_spec.shape:
        return tensor
    whole = array_spec.init.fill_(torch.empty(array_spec.shape))
    whole[: piece.shape[0]] = tensor
    return whole


def _is_turned(array_spec: ArraySpec, header: Header) -> bool:
    """Whether the file holds the array with its first axis last."""
    return array_spec.is_flipped or (array_spec.is_connected and header.is_transposed)


def _check_arrays(plan: Plan, layers: Sequence[Layer], nodes: Sequence[Node]) -> None:
    """Raises: WeightsError naming the first array that is folded away."""
    for node in nodes:
        for array_spec in node.arrays:
            if layers[node.index].array(array_spec) is None:
                hint = "load and save before for_inference()"
                raise WeightsError(
                    f"{plan.place(node.index)}: {array_spec.name} was folded away for inference", hint=hint
                )


def _bytes(layer: Layer, array_spec: ArraySpec, header: Header, place: str) -> bytes:
    array = layer.array(array_spec)
    assert array is not None
    tensor = array.detach().to("cpu", torch.float32)
    if not torch.isfinite(tensor).all():
        raise WeightsError(f"{place}: {array_spec.name} holds NaN or infinity; nothing is written")
    if _is_turned(array_spec, header):
        tensor = tensor.reshape(array_spec.shape[0], -1).T
    return tensor.contiguous().numpy().astype("<f4", copy=False).tobytes()
