"""State dicts of other programs that read darknet's cfgs, recognized by the names of their arrays.

Their modules are numbered as darknet numbers layers, and their arrays are darknet's except for names. They may compute
something else with them; the known differences are reported.

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

_DATA_PARALLEL_PREFIX = "module."  # torch's DataParallel adds it to every name
_ARRAY_NAMES = {
    ("conv", "weight"): "weights",
    ("conv", "bias"): "biases",
    ("norm", "weight"): "scales",
    ("norm", "bias"): "biases",
    ("norm", "running_mean"): "rolling_mean",
    ("norm", "running_var"): "rolling_variance",
}
_NAME_PATTERN = r"(?P<layer>\d{{1,5}})\.(?:(?P<conv>{})|(?P<norm>{}))\.(?P<array>\w+)"


@dataclass(frozen=True, slots=True)
class _NamingScheme:
    """Naming scheme of a program.

    pattern: names of arrays to load. ignored: names of arrays that no weight file has. notes: on its batch norm.
    pads_zeros: True if its max-pooling of size 2 at stride 1 pads with zeros.
    """

    name: str
    pattern: re.Pattern[str]
    ignored: re.Pattern[str]
    notes: tuple[str, ...] = ()
    pads_zeros: bool = True


_BATCH_COUNTER = r".*\.num_batches_tracked"
_NAMING_SCHEMES = (
    _NamingScheme(
        "ultralytics/yolov3",
        re.compile(r"module_list\." + _NAME_PATTERN.format("Conv2d|0", "BatchNorm2d")),
        re.compile(_BATCH_COUNTER),
        (
            "ultralytics/yolov3 adds 1e-4 to the variances of batch norm since April 2020, darknet 1e-5: "
            "for weights trained there since then, --bn-eps 1e-4 makes up for it",
        ),
    ),
    _NamingScheme(
        "PyTorch-YOLOv3 and ultralytics/yolov3 before August 2019",
        re.compile(r"module_list\." + _NAME_PATTERN.format(r"conv_(?P=layer)", r"batch_norm_(?P=layer)")),
        re.compile(rf"{_BATCH_COUNTER}|module_list\.\d+\.yolo_\d+\.(anchors|anchor_grid)"),
    ),
    _NamingScheme(
        "pytorch-yolo2 and pytorch-YOLOv4",
        re.compile(r"models\." + _NAME_PATTERN.format(r"conv\d+", r"bn\d+")),
        re.compile(_BATCH_COUNTER),
        pads_zeros=False,
    ),
)


class _Renamed(Mapping[str, torch.Tensor]):
    """Arrays under other names, still read when they are accessed."""

    def __init__(self, arrays: Mapping[str, torch.Tensor], names: Mapping[str, str]) -> None:
        self._arrays, self._names = arrays, names

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._arrays[self._names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def layout_of(program: _NamingScheme) -> Layout:
    """Make the layout that loads the files of a program."""

    def recognizes(names: Collection[str]) -> bool:
        return any(program.pattern.fullmatch(name.removeprefix(_DATA_PARALLEL_PREFIX)) for name in names)

    def fill(archive: OpenArchive, network: Network) -> LoadResult:
        names = _darknet_names(program, archive)
        has_norm = any(name.endswith(".scales") for name in names)
        try:
            loaded = load_state_dict(replace(archive, arrays=_Renamed(archive.arrays, names)), network)
        except WeightsError as error:
            hint = error.hint
            if not has_norm and any(array_spec.is_norm for node in network.plan.nodes for array_spec in node.arrays):
                hint = "its batch norm seems to be folded: remove batch_normalize= from the cfg"
            raise WeightsError(f"{error.message} (its names are those of {program.name})", hint=hint) from error
        notes = (
            *(program.notes if has_norm else ()),
            *_different_anchors(archive, network),
            *_different_pools(program, network),
        )
        return replace(loaded, notes=(*loaded.notes, *notes))

    return Layout(program.name, recognizes, fill)


THIRD_PARTY_LAYOUTS = tuple(layout_of(scheme) for scheme in _NAMING_SCHEMES)


@torch.no_grad()
def adjust_bn_epsilon(network: Network, eps: float) -> None:
    """Correct the variances of weights trained with another epsilon of batch norm, as darkpy adds 1e-5."""
    for part in network.modules():
        if isinstance(part, WeightedLayer) and part.is_normalized and part.array_owner is part:
            part.rolling_variance += eps - NORM_EPS


def _darknet_names(program: _NamingScheme, archive: OpenArchive) -> dict[str, str]:
    """Map darkpy's names to the file's. Raises: WeightsError for an unknown name, or two names for one array."""
    names: dict[str, str] = {}
    for theirs in archive.arrays:
        bare = theirs.removeprefix(_DATA_PARALLEL_PREFIX)
        if program.ignored.fullmatch(bare):
            continue
        match = program.pattern.fullmatch(bare)
        array = _ARRAY_NAMES.get(("conv" if match["conv"] else "norm", match["array"])) if match else None
        if match is None or array is None:
            raise WeightsError(
                f"{archive.path}: {theirs} is not an array of a darknet network (the others are named as by "
                f"{program.name})",
                hint="only arrays of layers in the cfg can be converted",
            )
        ours = f"layers.{int(match['layer'])}.{array}"
        if ours in names:
            raise WeightsError(f"{archive.path}: {names[ours]} and {theirs} are the same array in darknet, {array}")
        names[ours] = theirs
    return names


def _different_pools(program: _NamingScheme, network: Network) -> Iterator[str]:
    """Yield a note for each max-pooling that the program pads with zeros, which exceed negative values."""
    for node in network.plan.nodes if program.pads_zeros else ():
        keys = dict(field_values(node.spec))
        if not node.arrays and (keys.get("size"), keys.get("stride")) == (2, 1):
            yield (
                f"{network.plan.place(node.index)}: {program.name} pads max-pooling with zeros, darknet does not: "
                "detections will differ"
            )


def _different_anchors(archive: OpenArchive, network: Network) -> Iterator[str]:
    """Yield a note for each head whose anchors differ between the file and the cfg."""
    for name in archive.arrays:
        match = re.fullmatch(r"(?:module\.)?module_list\.(\d{1,5})\.yolo_\d+\.anchors", name)
        if match is None or int(match[1]) >= len(network.plan.nodes):
            continue
        node = network.plan.nodes[int(match[1])]
        anchors, mask = getattr(node.spec, "anchors", ()), getattr(node.spec, "mask", ())
        ours = [side for index in mask for side in anchors[2 * index : 2 * index + 2]]
        theirs = archive.arrays[name].flatten().tolist()
        if ours and theirs != ours:
            yield f"{network.plan.place(node.index)}: the file has the anchors {theirs}, the cfg {ours}"
