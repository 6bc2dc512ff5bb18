"""Conversion of weights from one kind of file to another: sources (`open_source`) and targets (`TARGET_FORMATS`).

A source fills a network, a target packs it; both report what is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from darkpy.errors import DarkpyError, WeightsError
from darkpy.evaluation.onnx_outputs import run_onnx
from darkpy.export.deepstream import deepstream_config
from darkpy.export.ncnn_files import pack_ncnn, run_ncnn
from darkpy.export.onnx_files import dropped_by_onnx, pack_onnx
from darkpy.export.onnx_graph import OUTPUT_FORMS, OnnxOptions
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
from darkpy.export.torch_graphs import (
    pack_pt2,
    pack_torchscript,
    run_coreml,
    run_pt2,
    run_torchscript,
    write_coreml,
)
from darkpy.files import identify_by_suffix, open_regular, write_atomic
from darkpy.network import Network

ARRAY_LAYOUTS: tuple[Layout, ...] = (OWN_LAYOUT, *THIRD_PARTY_LAYOUTS)
"""Naming schemes understood in .pt and .safetensors files, in the order in which they are tried."""
FOLDED_SUFFIXES = (".onnx", ".torchscript", ".pt2")


@dataclass(frozen=True, slots=True)
class Source:
    """An opened file of weights. fill: loads its arrays and header into a network.

    Raises (fill): WeightsError when it does not fit, and then nothing has changed.
    """

    path: Path
    kind: str
    metadata: WeightsMetadata
    fill: Callable[[Network], LoadResult]


@dataclass(frozen=True, slots=True)
class Conversion:
    """A network with its weights, on the way to a target. stem: of the file's name."""

    network: Network
    metadata: WeightsMetadata
    onnx: OnnxOptions = field(default_factory=OnnxOptions)
    stem: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of file.

    pack: yields its bytes. dropped: messages on what it does not carry over of a network.
    allows_partial: True if it may end before the network does.
    run: runs a file of a folded network on x_BCHW and returns its outputs by name; None for weights, which darkpy runs.
    precisions: of such a file, the usual one first. forms: of its outputs.
    companions: of further files beside it, the suffix and what yields their bytes.
    write: in place of pack, for a target that is not a file.
    """

    name: str
    suffixes: tuple[str, ...]
    pack: Callable[[Conversion], Iterator[bytes]]
    dropped: Callable[[Conversion], list[str]] = lambda conversion: []
    allows_partial: bool = True
    run: Callable[[Path, torch.Tensor], Mapping[str, torch.Tensor]] | None = None
    precisions: tuple[str, ...] = ()
    forms: tuple[str, ...] = ()
    companions: Mapping[str, Callable[[Conversion], Iterator[bytes]]] = field(default_factory=dict)
    write: Callable[[Conversion, Path], None] | None = None


def open_source(path: Path) -> Source:
    """Open a file of weights; its first bytes decide on its kind, before its name unless that is of `FOLDED_SUFFIXES`.

    Raises: WeightsError when it cannot be read.
    """
    try:
        with open_regular(path) as stream:
            start = stream.read(16)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if path.suffix.lower() in FOLDED_SUFFIXES and (kind := identify_by_suffix(path)):
        raise WeightsError(
            f"{path}: {kind.description} cannot be converted back: its weights are folded and in another order",
            hint="convert the .weights, .pt or .safetensors file that it was made from",
        )
    if start[8:10] == b'{"' or path.suffix.lower() == ".safetensors":
        archive = read_safetensors(path)
        return Source(path, "safetensors", archive.metadata, lambda network: _load_named(archive, network))
    if start.startswith((b"PK\x03\x04", b"\x80\x02")) or path.suffix.lower() in TARGET_FORMATS["pt"].suffixes:
        archive = read_torch(path)
        return Source(path, "pt", archive.metadata, lambda network: _load_named(archive, network))

    def load(network: Network) -> LoadResult:
        report = network.load_weights(path, allow_partial=True)
        partly_loaded = [node for node in network.plan.nodes if node.spec.numload and node.arrays]
        notes = [f"{network.plan.place(node.index)}: numload= leaves filters new" for node in partly_loaded[:1]]
        return LoadResult(report.first_missing, notes=tuple(notes))

    return Source(path, "weights", WeightsMetadata(), load)


def fill(source: Source, network: Network, *, allow_partial: bool = False) -> LoadResult:
    """Load a file's arrays and header into a network.

    Raises: WeightsError when they do not fit, or end early although neither `allow_partial` nor the file's own metadata
        allows it.
    """
    loaded = source.fill(network)
    if loaded.cutoff is not None and loaded.cutoff != source.metadata.cutoff and not allow_partial:
        raise WeightsError(
            f"{source.path} is a partial file: it ends before {network.plan.place(loaded.cutoff)}",
            hint="--allow-partial takes it as it is",
        )
    check_arrays(network, loaded.cutoff)
    return loaded


def _load_named(archive: OpenArchive, network: Network) -> LoadResult:
    for layout in ARRAY_LAYOUTS:
        if layout.recognizes(archive.arrays.keys()):
            return layout.fill(archive, network)
    some = ", ".join(list(archive.arrays)[:3])
    raise WeightsError(f"{archive.path}: its array names ({some}, ...) are those of no supported program")


def write_target(conversion: Conversion, target: Target, path: Path) -> None:
    """Write the file and its companion. Raises: DarkpyError when the target cannot hold the network."""
    cutoff = conversion.metadata.cutoff
    if cutoff is not None and not target.allows_partial:
        place = conversion.network.plan.place(cutoff)
        raise WeightsError(f"{target.name} files must be complete, but {place} and later layers have no weights")
    conversion = replace(conversion, stem=path.stem)
    for suffix, pack_companion in target.companions.items():  # first, so that a file is never without them
        write_atomic(path.with_suffix(suffix), pack_companion(conversion))
    if target.write is not None:
        target.write(conversion, path)
    else:
        write_atomic(path, target.pack(conversion))


def target_for(path: Path, name: str | None = None) -> Target:
    """Return the target of that name, or else of the file's suffix. Raises: DarkpyError when there is none."""
    if name is not None:
        return TARGET_FORMATS[name]
    for target in TARGET_FORMATS.values():
        if path.suffix.lower() in target.suffixes:
            return target
    if path.suffix.lower() in OTHER_RUNTIMES:
        paths = (path.with_suffix(suffix) for suffix in (".onnx", ".mlpackage", ".torchscript"))
        hint = OTHER_RUNTIMES[path.suffix.lower()].format(*paths)
        raise DarkpyError(f"{path}: darkpy does not write {path.suffix} files", hint=hint)
    suffixes = ", ".join(suffix for target in TARGET_FORMATS.values() for suffix in target.suffixes)
    raise DarkpyError(f"{path}: its suffix names no format", hint=f"one of {suffixes}, or --to FORMAT")


def _arrays(conversion: Conversion) -> dict[str, torch.Tensor]:
    return state_dict(conversion.network, conversion.metadata.cutoff)


def _dropped_without_metadata(made: Conversion) -> list[str]:
    lost = "cfg, header and class names are not stored: this kind of file has no place for them"
    return [*dropped_by_onnx(made.network, made.onnx), lost]


def _pack_deepstream(made: Conversion) -> Iterator[bytes]:
    text = deepstream_config(made.network, made.stem, made.metadata.names, made.onnx.precision, made.onnx.thresh)
    yield text.encode()


OTHER_RUNTIMES = {
    **dict.fromkeys((".engine", ".trt", ".plan"), "write {0}; TensorRT's trtexec makes an engine of it"),
    **dict.fromkeys((".xml", ".blob"), "write {0}; OpenVINO reads it, and its ovc makes .xml and .bin of it"),
    **dict.fromkeys((".tflite", ".pb", ".h5", ".keras"), "write {0}; onnx2tf makes TensorFlow's files of it"),
    ".mlmodel": "--to coreml writes {1}, a folder that replaces this kind of file",
    **dict.fromkeys((".ts", ".ptl"), "--to torchscript writes {2}"),
    **dict.fromkeys((".mnn", ".rknn"), "write {0}; the runtime's converter makes its files of it"),
}
"""Suffixes that other runtimes read, and the way there by an ONNX file."""
TARGET_FORMATS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("weights", (".weights",), lambda made: made.network.pack_weights(cutoff=made.metadata.cutoff)),
        Target("pt", (".pt", ".pth"), lambda made: pack_torch(_arrays(made), made.metadata)),
        Target("safetensors", (".safetensors",), lambda made: pack_safetensors(_arrays(made), made.metadata)),
        Target(
            "onnx",
            (".onnx",),
            lambda made: pack_onnx(made.network, made.metadata, made.onnx),
            lambda made: dropped_by_onnx(made.network, made.onnx),
            allows_partial=False,
            run=run_onnx,
            precisions=("fp32", "fp16", "int8"),
            forms=OUTPUT_FORMS,
        ),
        Target(
            "ncnn",
            (".param",),
            lambda made: iter([pack_ncnn(made.network, made.onnx).param.encode()]),
            _dropped_without_metadata,
            allows_partial=False,
            run=run_ncnn,
            precisions=("fp32", "fp16"),
            forms=("heads", "raw", "boxes", "rows"),
            companions={".bin": lambda made: iter(pack_ncnn(made.network, made.onnx).arrays)},
        ),
        Target(
            "torchscript",
            (".torchscript",),
            lambda made: pack_torchscript(made.network),
            _dropped_without_metadata,
            allows_partial=False,
            run=run_torchscript,
            precisions=("fp32",),
            forms=("heads",),
        ),
        Target(
            "pt2",
            (".pt2",),
            lambda made: pack_pt2(made.network),
            _dropped_without_metadata,
            allows_partial=False,
            run=run_pt2,
            precisions=("fp32",),
            forms=("heads",),
        ),
        Target(
            "coreml",
            (".mlpackage",),
            lambda made: iter(()),
            _dropped_without_metadata,
            allows_partial=False,
            run=run_coreml,
            precisions=("fp32", "fp16"),
            forms=("heads",),
            write=lambda made, path: write_coreml(made.network, path, made.onnx.precision),
        ),
        Target(
            "deepstream",
            (".deepstream.txt",),
            _pack_deepstream,
            lambda made: dropped_by_onnx(made.network, made.onnx),
            allows_partial=False,
            run=lambda path, x_BCHW: run_onnx(path.with_suffix(".onnx"), x_BCHW),
            precisions=("fp32", "fp16"),
            forms=("corners",),
            companions={
                ".onnx": lambda made: pack_onnx(made.network, made.metadata, replace(made.onnx, precision="fp32")),
                ".labels.txt": lambda made: iter(f"{name}\n".encode() for name in made.metadata.names),
            },
        ),
    )
}
