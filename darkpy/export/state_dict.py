"""The state dict of `Network` (`layers.0.weights`, ...), which .pt and .safetensors files hold.

They also hold a few texts (`WeightsMetadata`): the header of the `.weights` file and the end of a partial file, so that
converting back gives the same bytes; the cfg; and the class names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from darkpy.build import Plan
from darkpy.dialect import Dialect
from darkpy.errors import WeightsError
from darkpy.layers.base import ArraySpec
from darkpy.network import Network
from darkpy.weightfile import Header

METADATA_PREFIX = "darkpy."  # of the texts' names, to tell them from other programs'
CUT_OFF_HINT = "the download or copy may have been cut off; fetch it again"
_INT32_LIMIT, _UINT64_LIMIT = 2**31, 2**64


@dataclass(frozen=True, slots=True)
class WeightsMetadata:
    """Metadata of a file of weights.

    cutoff: the first layer without weights, in a partial file. cfg: its text. names: those of the classes.
    """

    header: Header | None = None
    cutoff: int | None = None
    cfg: str | None = None
    dialect: Dialect | None = None
    names: tuple[str, ...] = ()

    def as_texts(self) -> dict[str, str]:
        """Encode as texts for a file; unknown entries are omitted."""
        texts: dict[str, str | None] = {
            "header": json.dumps(asdict(self.header)) if self.header else None,
            "cutoff": None if self.cutoff is None else str(self.cutoff),
            "cfg": self.cfg,
            "dialect": str(self.dialect) if self.dialect else None,
            "names": json.dumps(self.names, ensure_ascii=False) if self.names else None,
        }
        return {METADATA_PREFIX + name: text for name, text in texts.items() if text is not None}

    @classmethod
    def from_texts(cls, path: Path, texts: Mapping[str, str]) -> WeightsMetadata:
        """Decode the texts of `as_texts`. Raises: WeightsError when one of them is malformed."""
        known = {
            name.removeprefix(METADATA_PREFIX): text for name, text in texts.items() if name.startswith(METADATA_PREFIX)
        }
        try:
            return cls(
                header=_read_header(known["header"]) if "header" in known else None,
                cutoff=int(known["cutoff"]) if "cutoff" in known else None,
                cfg=known.get("cfg"),
                dialect=Dialect(known["dialect"]) if "dialect" in known else None,
                names=tuple(str(name) for name in json.loads(known.get("names", "[]"))),
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise WeightsError(f"{path}: malformed metadata: {error}") from error


def _read_header(text: str) -> Header:
    """Decode a header. Raises: ValueError, TypeError, KeyError for anything else."""
    fields = json.loads(text)
    header = Header(**fields)
    numbers = (header.major, header.minor, header.revision, header.seen)
    if any(type(number) is not int for number in numbers) or type(header.is_short) is not bool:
        raise TypeError("its header holds values other than integers")
    seen_limit = _UINT64_LIMIT if header.has_long_seen else 2**32
    versions = numbers[:3]
    if not (all(-_INT32_LIMIT <= version < _INT32_LIMIT for version in versions) and 0 <= header.seen < seen_limit):
        raise ValueError("its header holds integers that are out of range")
    return header


@dataclass(frozen=True, slots=True)
class OpenArchive:
    """An open file of named arrays, which are read when they are accessed."""

    path: Path
    arrays: Mapping[str, torch.Tensor]
    metadata: WeightsMetadata


@dataclass(frozen=True, slots=True)
class LoadResult:
    """Result of loading a file into a network.

    cutoff: the first layer that got no weights, in a partial file. names: class names, if the file holds them.
    notes: messages on what was not loaded, or was changed.
    """

    cutoff: int | None = None
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """Naming scheme of a program for a network's arrays.

    recognizes: True if a file with these array names is of this program.
    fill: loads arrays and header into the network. Raises: WeightsError, and then nothing has changed.
    """

    name: str
    recognizes: Callable[[Collection[str]], bool]
    fill: Callable[[OpenArchive, Network], LoadResult]


def named_arrays(plan: Plan) -> Iterator[tuple[int, ArraySpec, str]]:
    """Yield layer index, spec and name of every array of a network, in the order of the weight file."""
    for node in plan.nodes:
        for array_spec in node.arrays:
            yield node.index, array_spec, f"layers.{node.index}.{array_spec.name}"


def state_dict(network: Network, cutoff: int | None = None) -> dict[str, torch.Tensor]:
    """Return the arrays of the layers below `cutoff`, on the CPU.

    Raises: WeightsError when one has no values, or holds NaN or infinity.
    """
    check_arrays(network, cutoff)
    arrays: dict[str, torch.Tensor] = {}
    for index, array_spec, name in named_arrays(network.plan):
        if cutoff is None or index < cutoff:
            array = network.built[index].array(array_spec)
            assert array is not None
            arrays[name] = array.detach().to("cpu", torch.float32).contiguous()
    return arrays


def check_arrays(network: Network, cutoff: int | None = None) -> None:
    """Raises: WeightsError naming the first array below `cutoff` without values, or with NaN or infinity."""
    for index, array_spec, _ in named_arrays(network.plan):
        if cutoff is not None and index >= cutoff:
            return
        place = network.plan.place(index)
        array: torch.Tensor | None = network.built[index].array(array_spec)
        if array is None:
            raise WeightsError(f"{place}: {array_spec.name} was folded away for inference")
        if array.is_meta:
            raise WeightsError(
                f"{place}: no file holds its {array_spec.name}",
                hint="take dontload= and dontloadscales= out of the cfg",
            )
        if not torch.isfinite(array).all():
            raise WeightsError(f"{place}: {array_spec.name} holds NaN or infinity; nothing is written")


def to_float32(archive: OpenArchive, name: str) -> tuple[torch.Tensor, bool]:
    """Convert an array to float32. Returns: the array, and True if a value had to be rounded.

    Raises: WeightsError when it does not hold floating-point numbers.
    """
    array = archive.arrays[name]
    if not array.is_floating_point():
        kind = str(array.dtype).removeprefix("torch.")
        raise WeightsError(f"{archive.path}: {name} is {kind}, weights are float32")
    exact = array.detach().to("cpu").float()
    return exact, array.dtype == torch.float64 and not torch.equal(exact.double(), array.detach().to("cpu"))


def load_state_dict(archive: OpenArchive, network: Network) -> LoadResult:
    """Load the arrays of `state_dict` into a network. A file without the last layers is a partial one.

    Raises: WeightsError, and then nothing has changed.
    """
    plan, cutoff = network.plan, archive.metadata.cutoff
    expected = {name: (index, array_spec) for index, array_spec, name in named_arrays(plan)}
    if unknown := [name for name in archive.arrays if name not in expected]:
        shape = tuple(archive.arrays[unknown[0]].shape)
        raise _misfit(archive, plan, f"it holds {unknown[0]}, {shape}, which {plan.file} lacks")
    if cutoff is not None and cutoff not in {index for index, _ in expected.values()}:
        raise _misfit(archive, plan, f"it ends before layer {cutoff}, which has no weights there")
    last = max((expected[name][0] for name in archive.arrays), default=-1)
    if cutoff is None:
        cutoff = next((index for index, _ in expected.values() if index > last), None)
    loaded: list[tuple[int, ArraySpec, torch.Tensor]] = []
    rounded: list[str] = []
    for name, (index, array_spec) in expected.items():
        if cutoff is not None and index >= cutoff:
            if name in archive.arrays:
                raise _misfit(archive, plan, f"it holds {name}, but no {plan.place(cutoff)}")
            continue
        if name not in archive.arrays:
            raise _misfit(archive, plan, f"it has no {name}, which {plan.place(index)} needs")
        shape = tuple(archive.arrays[name].shape)
        if shape != array_spec.shape:
            raise _misfit(archive, plan, f"its {name} is {shape}, {plan.place(index)} needs {array_spec.shape}")
        array, is_rounded = to_float32(archive, name)
        loaded.append((index, array_spec, array))
        rounded += [name] if is_rounded else []
    if not loaded and expected:
        raise _misfit(archive, plan, "it holds no array of this network")
    for index, array_spec, array in loaded:
        network.built[index].put_array(array_spec, array)
    notes = [f"{len(rounded)} arrays in float64 were rounded to float32, {rounded[0]} for example"] if rounded else []
    if archive.metadata.header is None:
        notes.append(f"{archive.path} has no darknet header: `seen` counts from 0")
    network.header = archive.metadata.header or Header.new(plan.dialect)
    return LoadResult(cutoff, archive.metadata.names, tuple(notes))


def _misfit(archive: OpenArchive, plan: Plan, reason: str) -> WeightsError:
    return WeightsError(
        f"{archive.path} does not fit {plan.file}: {reason}", hint="do this cfg and these weights belong together?"
    )


OWN_LAYOUT = Layout("darkpy", lambda names: any(name.startswith("layers.") for name in names), load_state_dict)
