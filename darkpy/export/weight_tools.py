"""darknet's weight tools: read a weight file, write another one for the same cfg.

A partial file (`darknet53.conv.74`) stays partial: the layers it lacks are not initialized.

Source: pjreddie/darknet examples/darknet.c, AlexeyAB/darknet src/darknet.c: partial, average, rgbgr_net, rescale_net,
    oneoff; src/convolutional_layer.c rgbgr_weights, rescale_weights.
Differs: darknet fills up a partial file with random numbers; AlexeyAB's rounds `seen` down to whole batches.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch

from darkpy.build import Node, Plan
from darkpy.errors import DarkpyError, WeightsError
from darkpy.layers.base import ArraySpec, Layer
from darkpy.layers.head import HeadSpec
from darkpy.layers.weighted import WeightedLayer
from darkpy.network import Network
from darkpy.weightfile import Header

BOX_ENTRIES = 5  # x, y, w, h, objectness
ONEOFF_ANCHORS = 3  # darknet's oneoff copies the classes so many times
ONEOFF_INIT_SCALE = 0.1  # of the weights that oneoff initializes


def upgrade_header(network: Network) -> None:
    """Set the current header of the dialect and keep `seen`; connected weights are then not transposed."""
    network.header = Header.new(network.plan.dialect).with_seen(network.header.seen)


@dataclass(frozen=True, slots=True)
class LoadedWeights:
    """A network with the weights of a file. cutoff: the first layer that a partial file lacks, or None."""

    network: Network
    cutoff: int | None

    @property
    def plan(self) -> Plan:
        return self.network.plan

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Layers that the file holds."""
        return self.plan.nodes[: self.cutoff]

    def pack(self) -> Iterator[bytes]:
        """Yield the bytes of the file, with the current header of the dialect.

        Raises: WeightsError when an array holds NaN or infinity.
        """
        upgrade_header(self.network)
        return self.network.pack_weights(cutoff=self.cutoff)


def load_weights_file(plan: Plan, path: str | os.PathLike[str]) -> LoadedWeights:
    """Read a weight file, whole or partial.

    Raises: WeightsError when it does not fit the cfg; DarkpyError when the cfg skips parts of the file.
    """
    for node in plan.nodes:
        spec = node.spec
        for key in ("dontload", "numload", "dontloadscales"):
            if node.arrays and getattr(spec, key):
                raise DarkpyError(
                    f"{plan.place(node.index)}: {key}= skips a part of the file, which would be lost",
                    hint=f"remove {key}= from the cfg",
                )
    network = Network(plan)
    loaded = LoadedWeights(network, network.load_weights(path, allow_partial=True).first_missing)
    for node in loaded.nodes:
        for array_spec in node.arrays:
            if array_values(network, node, array_spec).is_meta:
                raise WeightsError(
                    f"{path}: lacks {array_spec.name!r} of {plan.place(node.index)}, which no darknet has"
                )
    return loaded


def new_weights(plan: Plan) -> LoadedWeights:
    """Initialize a new network as darknet does."""
    network = Network(plan)
    network.initialize()
    return LoadedWeights(network, None)


def keep_first(loaded: LoadedWeights, count: int) -> LoadedWeights:
    """Keep the layers 0 to `count` - 1 and reset `seen`, to start the training of another network from.

    Raises: DarkpyError when the file has fewer layers, or none of these has weights.
    """
    plan, in_file = loaded.plan, len(loaded.nodes)
    if not 1 <= count <= len(plan.nodes):
        raise DarkpyError(
            f"{count} layers cannot be kept: {plan.file} has {len(plan.nodes)}",
            hint="layers of all kinds count: 15 keeps the layers 0 to 14",
        )
    if count > in_file and any(node.arrays for node in plan.nodes[in_file:count]):
        raise WeightsError(f"{count} layers cannot be kept: the file ends before {plan.place(in_file)}")
    if not any(node.arrays for node in plan.nodes[:count]):
        raise DarkpyError(f"none of the first {count} layers of {plan.file} has weights")
    loaded.network.header = Header.new(plan.dialect)
    return LoadedWeights(loaded.network, count)


def repeat_weights(plan: Plan, path: str | os.PathLike[str], start: int) -> LoadedWeights:
    """Fill a network from a file, and its layers from `start` on from the beginning of the same file once more.

    Layers that neither fills are initialized; `seen` is reset.
    Raises: DarkpyError when there are no weights from `start` on; WeightsError when the file ends within a layer.
    Source: pjreddie/darknet examples/darknet.c oneoff2
    """
    if not any(node.arrays for node in plan.nodes[max(start, 0) :]):
        raise DarkpyError(
            f"no layer of {plan.file} has weights from layer {start} on", hint=f"it has {len(plan.nodes)} layers"
        )
    network = Network(plan)
    for first in (0, max(start, 0)):
        network.load_weights(path, start=first, cutoff=len(plan.nodes), allow_partial=True)
    network.initialize()
    network.header = Header.new(plan.dialect)
    return LoadedWeights(network, None)


@torch.no_grad()
def average(plan: Plan, paths: Sequence[str | os.PathLike[str]]) -> LoadedWeights:
    """Average the arrays of several files, with the header of the first; two networks are in memory at a time.

    Raises: WeightsError when the files do not hold the same layers.
    Differs: darknet takes the mean in convolutional layers and in connected ones without their batch norm, and keeps
        the first file's values elsewhere; in grouped convolutions it adds up beyond their weights.
    """
    first, *others = paths
    total = load_weights_file(plan, first)
    for path in others:
        loaded = load_weights_file(plan, path)
        if loaded.cutoff != total.cutoff:
            raise WeightsError(f"{path} does not hold the same layers as {first}", hint="average files of one size")
        for mine, theirs in zip(_arrays(total), _arrays(loaded), strict=True):
            mine += theirs
    for mine in _arrays(total):
        mine *= 1 / len(paths)
    return total


@torch.no_grad()
def swap_red_and_blue(loaded: LoadedWeights) -> None:
    """Convert a network that was trained on BGR images to RGB ones, or the reverse.

    Raises: DarkpyError when the first convolution does not read three channels.
    """
    layer = _first_convolution(loaded)
    layer.weights.copy_(layer.weights[:, [2, 1, 0]])


@torch.no_grad()
def take_unit_inputs(loaded: LoadedWeights) -> None:
    """Convert a network that was trained on inputs from -1 to 1 to inputs from 0 to 1.

    w * (2x - 1) = 2w * x - sum(w): the weights double, and their sum moves into the bias. At the image's border, which
    is padded with zeros, the result is not exact.

    Raises: DarkpyError when the first convolution does not read three channels.
    Differs: where batch norm follows, its mean moves; darknet moves the bias behind it as if there were none.
    """
    layer = _first_convolution(loaded)
    sums_F = layer.weights.double().sum((1, 2, 3)).float()
    layer.weights *= 2
    if layer.is_normalized:
        layer.rolling_mean += sums_F
    else:
        layer.biases -= sums_F


@torch.no_grad()
def copy_classes(plan: Plan, path: str | os.PathLike[str], seed: int = 0) -> LoadedWeights:
    """Make a detector of a file whose last convolution has class filters only, by copying them to each anchor.

    The other entries of a box (x, y, w, h, objectness) are initialized, the same for each anchor. `seen` becomes 0.
    Raises: DarkpyError when the cfg does not end in a convolution of 3 * (classes + 5) filters and a head;
        WeightsError when the file does not fit.
    Differs: darknet has the count of the file's classes, 11921 or 9372, in its source; AlexeyAB's reads too much.
    """
    node = _last_convolution(plan)
    filters = node.arrays[0].shape[0]
    classes = filters // ONEOFF_ANCHORS - BOX_ENTRIES
    if filters % ONEOFF_ANCHORS or classes < 1:
        raise DarkpyError(
            f"{plan.place(node.index)}: its {filters} filters are not {ONEOFF_ANCHORS} * (classes + {BOX_ENTRIES})",
            hint="the cfg is the detector's, with three anchors",
        )
    spec = replace(node.spec, filters=classes)  # type: ignore[call-arg]
    changed = replace(node, spec=spec, arrays=spec.arrays(node.inputs))
    source_plan = replace(plan, nodes=(*plan.nodes[: node.index], changed, *plan.nodes[node.index + 1 :]))
    try:
        source = load_weights_file(source_plan, path)
    except WeightsError as error:
        hint = f"its last convolution must have {classes} filters, the classes only, and all else must be as in the cfg"
        raise WeightsError(error.message, hint=hint) from error
    if source.cutoff is not None:
        raise WeightsError(f"{path}: ends before {plan.place(source.cutoff)}")
    target = Network(plan)
    target.initialize(torch.Generator().manual_seed(seed))
    for other in plan.nodes:
        for array_spec in other.arrays:
            array, initial = array_values(source.network, other, array_spec), array_values(target, other, array_spec)
            if other.index == node.index:
                boxes = initial[:BOX_ENTRIES] * (ONEOFF_INIT_SCALE if array_spec.is_decayed else 0)
                array = torch.cat([boxes, array] * ONEOFF_ANCHORS)
            layer_at_node(target, other).put_array(array_spec, array)
    return LoadedWeights(target, None)


def layer_at_node(network: Network, node: Node) -> Layer:
    return cast("Layer", network.layers[node.index])


def array_values(network: Network, node: Node, array_spec: ArraySpec) -> torch.Tensor:
    """Values of an array that is not folded away."""
    array = layer_at_node(network, node).array(array_spec)
    assert array is not None
    return array


def _arrays(loaded: LoadedWeights) -> Iterator[torch.Tensor]:
    for node in loaded.nodes:
        for array_spec in node.arrays:
            yield array_values(loaded.network, node, array_spec)


def _last_convolution(plan: Plan) -> Node:
    """Return the convolution before the head. Raises: DarkpyError without such an end, or if it has batch norm."""
    *_, node, head = (plan.nodes[0], *plan.nodes)
    shapes = [array_spec.shape for array_spec in node.arrays]
    if not isinstance(head.spec, HeadSpec) or len(shapes) != 2 or shapes[0] != shapes[1][:1] or len(shapes[1]) != 4:
        raise DarkpyError(
            f"{plan.file}: does not end in a convolution without batch norm and a detection head",
            hint="the cfg is the detector's",
        )
    return node


def _first_convolution(loaded: LoadedWeights) -> WeightedLayer:
    """Return the first convolution. Raises: DarkpyError when there is none, or it does not read three channels."""
    for node in loaded.nodes:
        layer = layer_at_node(loaded.network, node)
        if node.arrays and isinstance(layer, WeightedLayer) and layer.filter_axis == 0 and layer.weights.dim() == 4:
            channels = layer.weights.shape[1]
            if channels != 3:
                place = loaded.plan.place(node.index)
                raise DarkpyError(f"{place}: its filters read {channels} channels, not red, green and blue")
            return layer
    raise DarkpyError(f"{loaded.plan.file}: no convolution reads the image")
