"""State dicts of other programs that read darknet's cfgs, by the names that they give to arrays.

Their modules are numbered as darknet numbers layers, and their arrays are darknet's but for names. What they compute
with them may differ, and what is known of that is told.

Source: github.com/ultralytics/yolov3 branch archive models.py (before its version 9, whose networks come from no cfg);
    github.com/eriklindernoren/PyTorch-YOLOv3 pytorchyolo/models.py; github.com/marvis/pytorch-yolo2 darknet.py, which
    github.com/Tianxiaomo/pytorch-YOLOv4 tool/darknet2pytorch.py took up.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from darkpy.errors import WeightsError
from darkpy.export.state_dict import Layout, LoadResult, OpenArchive, load_state_dict
from darkpy.layers.base import field_values
from darkpy.layers.weighted import WeightedLayer
from darkpy.network import Network
from darkpy.ops.norms import NORM_EPS

_WRAPPED = "module."  # what training on several GPUs puts before every name
_ARRAYS = {
    ("conv", "weight"): "weights",
    ("conv", "bias"): "biases",
    ("norm", "weight"): "scales",
    ("norm", "bias"): "biases",
    ("norm", "running_mean"): "rolling_mean",
    ("norm", "running_var"): "rolling_variance",
}
_NAME = r"(?P<layer>\d{{1,5}})\.(?:(?P<conv>{})|(?P<norm>{}))\.(?P<array>\w+)"


@dataclass(frozen=True, slots=True)
class _Program:
    """How a program names arrays.

    pattern: of the names that count. ignored: of those that hold nothing a weight file has. notes: on its batch norm.
    has_zeros: whether its pools of two at stride 1 read zeros beside the image.
    """

    name: str
    pattern: re.Pattern[str]
    ignored: re.Pattern[str]
    notes: tuple[str, ...] = ()
    has_zeros: bool = True


_COUNTER = r".*\.num_batches_tracked"
PROGRAMS = (
    _Program(
        "ultralytics/yolov3",
        re.compile(r"module_list\." + _NAME.format("Conv2d|0", "BatchNorm2d")),
        re.compile(_COUNTER),
        (
            "ultralytics/yolov3 adds 1e-4 to the variances of batch norm since April 2020, darknet 1e-5: "
            "for weights trained there since then, --bn-eps 1e-4 makes up for it",
        ),
    ),
    _Program(
        "PyTorch-YOLOv3 and ultralytics/yolov3 before August 2019",
        re.compile(r"module_list\." + _NAME.format(r"conv_(?P=layer)", r"batch_norm_(?P=layer)")),
        re.compile(rf"{_COUNTER}|module_list\.\d+\.yolo_\d+\.(anchors|anchor_grid)"),
    ),
    _Program(
        "pytorch-yolo2 and pytorch-YOLOv4",
        re.compile(r"models\." + _NAME.format(r"conv\d+", r"bn\d+")),
        re.compile(_COUNTER),
        has_zeros=False,
    ),
)


class _Renamed(Mapping[str, torch.Tensor]):
    """Arrays under other names, still read when they are asked for."""

    def __init__(self, arrays: Mapping[str, torch.Tensor], names: Mapping[str, str]) -> None:
        self._arrays, self._names = arrays, names

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._arrays[self._names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def layout_of(program: _Program) -> Layout:
    """How the files of a program are read."""

    def recognizes(names: Collection[str]) -> bool:
        return any(program.pattern.fullmatch(name.removeprefix(_WRAPPED)) for name in names)

    def fill(held: OpenArchive, network: Network) -> LoadResult:
        renamed = _rename(program, held)
        try:
            filled = load_state_dict(replace(held, arrays=_Renamed(held.arrays, renamed)), network)
        except WeightsError as error:
            said = f"{error.message} (its names are those of {program.name})"
            raise WeightsError(said, hint=_folded(renamed, network) or error.hint) from error
        known = program.notes if _has_norm(renamed) else ()
        return replace(
            filled, notes=(*filled.notes, *known, *_other_anchors(held, network), *_other_pools(program, network))
        )

    return Layout(program.name, recognizes, fill)


THIRD_PARTY_LAYOUTS = tuple(layout_of(program) for program in PROGRAMS)


@torch.no_grad()
def adjust_bn_epsilon(network: Network, eps: float) -> None:
    """Make batch norm divide by what it does where `eps` is added to a variance and not 1e-5."""
    for part in network.modules():
        if isinstance(part, WeightedLayer) and part.is_normalized and part.array_owner is part:
            part.rolling_variance += eps - NORM_EPS


def _rename(program: _Program, held: OpenArchive) -> dict[str, str]:
    """From our names to theirs. Raises: WeightsError for a name without a meaning, or two for one array."""
    names: dict[str, str] = {}
    for theirs in held.arrays:
        bare = theirs.removeprefix(_WRAPPED)
        if program.ignored.fullmatch(bare):
            continue
        found = program.pattern.fullmatch(bare)
        part = "conv" if found and found["conv"] else "norm"
        array = _ARRAYS.get((part, found["array"])) if found else None
        if found is None or array is None:
            raise WeightsError(
                f"{held.path}: {theirs} is no array of a darknet network (the others are named as by {program.name})",
                hint="what no cfg describes cannot be carried over",
            )
        ours = f"layers.{int(found['layer'])}.{array}"
        if ours in names:
            raise WeightsError(f"{held.path}: {names[ours]} and {theirs} are one array of darknet's, {array}")
        names[ours] = theirs
    return names


def _has_norm(names: Collection[str]) -> bool:
    return any(name.endswith(".scales") for name in names)


def _folded(names: Mapping[str, str], network: Network) -> str | None:
    """What to do where the file has no batch norm at all and the cfg has."""
    if not _has_norm(names) and any(array_spec.is_norm for node in network.plan.nodes for array_spec in node.arrays):
        return "its batch norm is folded, it seems: take batch_normalize= out of the cfg"
    return None


def _other_pools(program: _Program, network: Network) -> Iterator[str]:
    """A note for each pool that the program pads otherwise: zeros beside numbers that may be negative."""
    for node in network.plan.nodes if program.has_zeros else ():
        keys = dict(field_values(node.spec))
        if not node.arrays and (keys.get("size"), keys.get("stride")) == (2, 1):
            yield (
                f"{network.plan.place(node.index)}: {program.name} pools with zeros beside the image, and darknet "
                "without: what it finds will differ"
            )


def _other_anchors(held: OpenArchive, network: Network) -> list[str]:
    """A note for each head whose anchors the file has, and the cfg has others."""
    notes: list[str] = []
    for name in held.arrays:
        found = re.fullmatch(r"(?:module\.)?module_list\.(\d{1,5})\.yolo_\d+\.anchors", name)
        if found is None or int(found[1]) >= len(network.plan.nodes):
            continue
        node = network.plan.nodes[int(found[1])]
        anchors, mask = getattr(node.spec, "anchors", ()), getattr(node.spec, "mask", ())
        wanted = [side for one in mask for side in anchors[2 * one : 2 * one + 2]]
        theirs = held.arrays[name].flatten().tolist()
        if wanted and theirs != wanted:
            notes.append(f"{network.plan.place(node.index)}: the file has the anchors {theirs}, the cfg {wanted}")
    return notes
