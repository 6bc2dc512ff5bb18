"""From one file of weights to another: what is read (`LAYOUTS`, `open_source`) and what is written (`TARGETS`).

A source fills a network, a target packs it; both say what they could not carry over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from darkpy.errors import DarkpyError, WeightsError
from darkpy.export.onnx_files import dropped_by_onnx, pack_onnx
from darkpy.export.onnx_graph import OnnxOptions
from darkpy.export.safetensors_files import pack_safetensors, read_safetensors
from darkpy.export.state_dict import (
    OWN_LAYOUT,
    Layout,
    LoadResult,
    OpenArchive,
    WeightsMetadata,
    check_arrays,
    state_dict,
)
from darkpy.export.third_party import THIRD_PARTY_LAYOUTS
from darkpy.export.torch_files import pack_torch, read_torch
from darkpy.network import Network

LAYOUTS: tuple[Layout, ...] = (OWN_LAYOUT, *THIRD_PARTY_LAYOUTS)
"""Whose names for arrays are understood in .pt and .safetensors files, in the order in which they are tried."""


@dataclass(frozen=True, slots=True)
class Source:
    """An opened file of weights. about: what it says of itself; fill: gives a network its numbers and header.

    Raises (fill): WeightsError when it does not fit, and then nothing has changed.
    """

    path: Path
    kind: str
    about: WeightsMetadata
    fill: Callable[[Network], LoadResult]


@dataclass(frozen=True, slots=True)
class Conversion:
    """A network with its numbers, on the way to a target. onnx: what an ONNX file is to give."""

    network: Network
    about: WeightsMetadata
    onnx: OnnxOptions = field(default_factory=OnnxOptions)


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of file.

    pack: its bytes. losses: what it does not carry over of a network, in words. takes_partial: whether it may end
        before the network does.
    """

    name: str
    suffixes: tuple[str, ...]
    pack: Callable[[Conversion], Iterator[bytes]]
    losses: Callable[[Conversion], list[str]] = lambda converted: []
    takes_partial: bool = True


def open_source(path: Path) -> Source:
    """What kind of file it is tells its beginning, not its name.

    Raises: WeightsError when it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(16)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if path.suffix.lower() == ".onnx":
        raise WeightsError(
            f"{path}: an ONNX file is no way back: what it holds is folded, and stands in an order of its own",
            hint="convert the .weights, .pt or .safetensors file that it was made from",
        )
    if start[8:10] == b'{"' or path.suffix.lower() == ".safetensors":
        held = read_safetensors(path)
        return Source(path, "safetensors", held.about, lambda network: _fill_named(held, network))
    if start.startswith((b"PK\x03\x04", b"\x80\x02")) or path.suffix.lower() in TARGETS["pt"].suffixes:
        held = read_torch(path)
        return Source(path, "pt", held.about, lambda network: _fill_named(held, network))
    return Source(path, "weights", WeightsMetadata(), lambda network: _fill_weights(path, network))


def fill(source: Source, network: Network, *, allow_partial: bool = False) -> LoadResult:
    """Give a network a file's numbers.

    Raises: WeightsError when they do not fit, or end early and neither the caller nor the file itself says that they
        may.
    """
    filled = source.fill(network)
    if filled.cutoff is not None and filled.cutoff != source.about.cutoff and not allow_partial:
        raise WeightsError(
            f"{source.path} is a partial file: it ends before {network.plan.place(filled.cutoff)}",
            hint="--allow-partial takes it as it is",
        )
    check_arrays(network, filled.cutoff)
    return filled


def _fill_weights(path: Path, network: Network) -> LoadResult:
    report = network.load_weights(path, allow_partial=True)
    short = [node for node in network.plan.nodes if node.spec.numload and node.arrays]
    notes = [f"{network.plan.place(short[0].index)}: numload= leaves filters new"] if short else []
    return LoadResult(report.first_missing, notes=tuple(notes))


def _fill_named(held: OpenArchive, network: Network) -> LoadResult:
    for layout in LAYOUTS:
        if layout.recognizes(held.arrays.keys()):
            return layout.fill(held, network)
    some = ", ".join(list(held.arrays)[:3])
    raise WeightsError(f"{held.path}: names its arrays {some}, ..., as no program that darkpy knows")


def pack(converted: Conversion, target: Target) -> Iterator[bytes]:
    """The bytes of the target. Raises: DarkpyError when it cannot hold the network."""
    if converted.about.cutoff is not None and not target.takes_partial:
        place = converted.network.plan.place(converted.about.cutoff)
        raise WeightsError(f"{target.name} files are run as they are, but {place} and those behind have no numbers")
    return target.pack(converted)


def target_for(path: Path, name: str | None = None) -> Target:
    """The target of that name, or else of the file's ending. Raises: DarkpyError when there is none."""
    if name is not None:
        return TARGETS[name]
    for target in TARGETS.values():
        if path.suffix.lower() in target.suffixes:
            return target
    endings = ", ".join(suffix for target in TARGETS.values() for suffix in target.suffixes)
    raise DarkpyError(f"{path}: its ending says no format", hint=f"one of {endings}, or --to FORMAT")


def _pack_weights(converted: Conversion) -> Iterator[bytes]:
    return converted.network.pack_weights(cutoff=converted.about.cutoff)


def _pack_torch(converted: Conversion) -> Iterator[bytes]:
    return pack_torch(state_dict(converted.network, converted.about.cutoff), converted.about)


def _pack_safetensors(converted: Conversion) -> Iterator[bytes]:
    return pack_safetensors(state_dict(converted.network, converted.about.cutoff), converted.about)


def _pack_onnx(converted: Conversion) -> Iterator[bytes]:
    return pack_onnx(converted.network, converted.about, converted.onnx)


def _losses_of_onnx(converted: Conversion) -> list[str]:
    return dropped_by_onnx(converted.network, converted.onnx)


TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        Target("weights", (".weights",), _pack_weights),
        Target("pt", (".pt", ".pth"), _pack_torch),
        Target("safetensors", (".safetensors",), _pack_safetensors),
        Target("onnx", (".onnx",), _pack_onnx, _losses_of_onnx, takes_partial=False),
    )
}
