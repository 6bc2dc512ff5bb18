"""A network as arrays with names, `layers.0.weights`: the state dict of `Network`, which .pt and .safetensors hold.

Beside the arrays travel a few texts (`WeightsMetadata`): the header of the `.weights` file and where a partial file
ends, so that the way back gives the same bytes; the cfg; and what the classes are called.
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

PREFIX = "darkpy."  # of the texts' names, so that other programs' stay apart
_INT, _SEEN = 2**31, 2**64


@dataclass(frozen=True, slots=True)
class WeightsMetadata:
    """What is known of a network's numbers besides themselves.

    cutoff: the first layer that has none, in a partial file. cfg: its text. names: of the classes.
    """

    header: Header | None = None
    cutoff: int | None = None
    cfg: str | None = None
    dialect: Dialect | None = None
    names: tuple[str, ...] = ()

    def as_texts(self) -> dict[str, str]:
        """For a file's metadata; what is not known is left out."""
        texts: dict[str, str | None] = {
            "header": json.dumps(asdict(self.header)) if self.header else None,
            "cutoff": None if self.cutoff is None else str(self.cutoff),
            "cfg": self.cfg,
            "dialect": str(self.dialect) if self.dialect else None,
            "names": json.dumps(self.names, ensure_ascii=False) if self.names else None,
        }
        return {PREFIX + name: text for name, text in texts.items() if text is not None}

    @classmethod
    def from_texts(cls, path: Path, texts: Mapping[str, str]) -> WeightsMetadata:
        """Raises: WeightsError when a text is not what `as_texts` writes."""
        known = {name.removeprefix(PREFIX): text for name, text in texts.items() if name.startswith(PREFIX)}
        try:
            return cls(
                header=_read_header(known["header"]) if "header" in known else None,
                cutoff=int(known["cutoff"]) if "cutoff" in known else None,
                cfg=known.get("cfg"),
                dialect=Dialect(known["dialect"]) if "dialect" in known else None,
                names=tuple(str(name) for name in json.loads(known.get("names", "[]"))),
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise WeightsError(f"{path}: its metadata cannot be understood: {error}") from error


def _read_header(text: str) -> Header:
    """Raises: ValueError, TypeError, KeyError for anything but a header."""
    fields = json.loads(text)
    header = Header(**fields)
    numbers = (header.major, header.minor, header.revision, header.seen)
    if any(type(number) is not int for number in numbers) or type(header.is_short) is not bool:
        raise TypeError("its header holds something else than whole numbers")
    most = _SEEN if header.has_long_seen else 2**32
    if not (all(-_INT <= number < _INT for number in numbers[:3]) and 0 <= header.seen < most):
        raise ValueError("its header holds numbers that no header has")
    return header


@dataclass(frozen=True, slots=True)
class OpenArchive:
    """An opened file of named arrays; they are read when they are asked for."""

    path: Path
    arrays: Mapping[str, torch.Tensor]
    about: WeightsMetadata


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What came of filling a network from a file.

    cutoff: the first layer that got no numbers, in a partial file. names: of the classes, where the file knows them.
    notes: what could not be taken over, or not as it was.
    """

    cutoff: int | None = None
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """One program's way to name a network's arrays.

    recognizes: whether a file with these names is of this program.
    fill: gives the network its arrays and header. Raises: WeightsError, and then nothing has changed.
    """

    name: str
    recognizes: Callable[[Collection[str]], bool]
    fill: Callable[[OpenArchive, Network], LoadResult]


def named_arrays(plan: Plan) -> Iterator[tuple[int, ArraySpec, str]]:
    """Layer, slot and name of every array of a network, in the order of the weight file."""
    for node in plan.nodes:
        for array_spec in node.arrays:
            yield node.index, array_spec, f"layers.{node.index}.{array_spec.name}"


def state_dict(network: Network, cutoff: int | None = None) -> dict[str, torch.Tensor]:
    """The arrays of the layers below `cutoff`, on the CPU.

    Raises: WeightsError when one has no numbers, or holds NaN or infinity.
    """
    check_arrays(network, cutoff)
    found: dict[str, torch.Tensor] = {}
    for index, array_spec, name in named_arrays(network.plan):
        if cutoff is None or index < cutoff:
            array = network.built[index].array(array_spec)
            assert array is not None
            found[name] = array.detach().to("cpu", torch.float32).contiguous()
    return found


def check_arrays(network: Network, cutoff: int | None = None) -> None:
    """Raises: WeightsError naming the first array below `cutoff` without numbers, or with NaN or infinity."""
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


def to_float32(held: OpenArchive, name: str) -> tuple[torch.Tensor, bool]:
    """An array as float32, and whether a number of it had to be rounded.

    Raises: WeightsError when it holds something else than real numbers.
    """
    array = held.arrays[name]
    if not array.is_floating_point():
        kind = str(array.dtype).removeprefix("torch.")
        raise WeightsError(f"{held.path}: {name} holds {kind}, and weights are float32")
    exact = array.detach().to("cpu").float()
    return exact, array.dtype == torch.float64 and not torch.equal(exact.double(), array.detach().to("cpu"))


def load_state_dict(held: OpenArchive, network: Network) -> LoadResult:
    """Take over what `state_dict` gave. A file without the last layers is a partial one.

    Raises: WeightsError, and then nothing has changed.
    """
    plan, cutoff = network.plan, held.about.cutoff
    wanted = {name: (index, array_spec) for index, array_spec, name in named_arrays(plan)}
    if strange := [name for name in held.arrays if name not in wanted]:
        raise _misfit(
            held, plan, f"it holds {strange[0]}, {tuple(held.arrays[strange[0]].shape)}, which {plan.file} lacks"
        )
    if cutoff is not None and cutoff not in {index for index, _ in wanted.values()}:
        raise _misfit(held, plan, f"it ends before layer {cutoff}, which has no weights there")
    last = max((wanted[name][0] for name in held.arrays), default=-1)
    if cutoff is None:
        cutoff = next((index for index, _ in wanted.values() if index > last), None)
    found: list[tuple[int, ArraySpec, torch.Tensor]] = []
    rounded: list[str] = []
    for name, (index, array_spec) in wanted.items():
        if cutoff is not None and index >= cutoff:
            if name in held.arrays:
                raise _misfit(held, plan, f"it holds {name}, but no {plan.place(cutoff)}")
            continue
        if name not in held.arrays:
            raise _misfit(held, plan, f"it has no {name}, which {plan.place(index)} wants")
        if tuple(held.arrays[name].shape) != array_spec.shape:
            have = tuple(held.arrays[name].shape)
            raise _misfit(held, plan, f"its {name} is {have}, {plan.place(index)} wants {array_spec.shape}")
        array, is_rounded = to_float32(held, name)
        found.append((index, array_spec, array))
        rounded += [name] if is_rounded else []
    if not found and wanted:
        raise _misfit(held, plan, "it holds no array of this network")
    for index, array_spec, array in found:
        network.built[index].put_array(array_spec, array)
    notes = [f"{len(rounded)} arrays in float64 were rounded to float32, {rounded[0]} for one"] if rounded else []
    if held.about.header is None:
        notes.append(f"{held.path} has no darknet header: `seen` counts from 0")
    network.header = held.about.header or Header.new(plan.dialect)
    return LoadResult(cutoff, held.about.names, tuple(notes))


def _misfit(held: OpenArchive, plan: Plan, reason: str) -> WeightsError:
    return WeightsError(
        f"{held.path} does not fit {plan.file}: {reason}", hint="are this cfg and these weights a pair?"
    )


OWN_LAYOUT = Layout("darkpy", lambda names: any(name.startswith("layers.") for name in names), load_state_dict)
