"""Batch norm folded into the weights, removed, or added: darknet's denormalize, reset and normalize.

Source: pjreddie/darknet examples/darknet.c denormalize_net, reset_normalize_net, normalize_net;
    src/convolutional_layer.c denormalize_convolutional_layer.
Differs: recurrent layers' parts are folded too, and deconvolutional layers; connected layers use 1e-5 as everywhere,
    not 1e-6; AlexeyAB's code multiplies far beyond a convolution's weights and crashes; a new batch norm has variance 1
    and changes nothing, where darknet's has 0 and multiplies by 316.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from darkpy.build import Node, Plan
from darkpy.config.schema import keys_of
from darkpy.errors import WeightsError
from darkpy.export.weight_tools import LoadedWeights, array_values, layer_at_node
from darkpy.layers.base import LayerSpec
from darkpy.layers.weighted import WeightedLayer
from darkpy.network import Network
from darkpy.ops.norms import NORM_EPS

BATCH_NORM_KEY = "batch_normalize"
BATCH_NORM_KEYS = (BATCH_NORM_KEY, "cbn")  # cbn= switches it on, too


@torch.no_grad()
def reset(loaded: LoadedWeights) -> None:
    """Fold batch norm into the weights and keep an identity in its place: scales 1, means 0, variances 1.

    Raises: WeightsError when a variance is so negative that it has no square root.
    """
    for node in loaded.nodes:
        if node.arrays:  # a layer without arrays of its own shares another one's
            for part in layer_at_node(loaded.network, node).modules():
                if isinstance(part, WeightedLayer) and part.is_normalized:
                    _fold(part, loaded.plan.place(node.index))


def denormalize(loaded: LoadedWeights) -> LoadedWeights:
    """Fold batch norm into the weights and remove it; the cfg of the new file has none. Raises: WeightsError."""
    reset(loaded)
    return _transfer(loaded, without_batch_norm(loaded.plan))


def normalize(loaded: LoadedWeights) -> LoadedWeights:
    """Add an identity batch norm to each layer that can have one; the cfg of the new file has it everywhere."""
    return _transfer(loaded, with_batch_norm(loaded.plan))


def without_batch_norm(plan: Plan) -> Plan:
    """The network without batch norm in its layers."""
    return replace(plan, nodes=tuple(_set_batch_norm(node, enabled=False) for node in plan.nodes))


def with_batch_norm(plan: Plan) -> Plan:
    """The network with batch norm in each layer that can have it."""
    return replace(plan, nodes=tuple(_set_batch_norm(node, enabled=True) for node in plan.nodes))


def rewrite_cfg(cfg: Path, before: Plan, after: Plan) -> bytes:
    """The cfg's text with batch norm as in `after`, and all else unchanged, line ends included."""
    lines = cfg.read_bytes().split(b"\n")
    added: dict[int, bytes] = {}
    for old, new in zip(before.nodes, after.nodes, strict=True):
        if old.spec == new.spec:
            continue
        enabled = getattr(new.spec, BATCH_NORM_KEY)
        for name in BATCH_NORM_KEYS:
            entry = old.section.entries.get(name)
            if entry is not None:
                end = b"\r" if lines[entry.line - 1].endswith(b"\r") else b""
                value = b"1" if enabled and name == BATCH_NORM_KEY else b"0"
                lines[entry.line - 1] = name.encode() + b"=" + value + end
        if enabled and BATCH_NORM_KEY not in old.section.entries:
            added[old.section.line] = BATCH_NORM_KEY.encode() + b"=1"
    text = []
    for line_number, line in enumerate(lines, 1):
        text.append(line)
        if line_number in added:
            text.append(added[line_number] + (b"\r" if line.endswith(b"\r") else b""))
    return b"\n".join(text)


def _set_batch_norm(node: Node, *, enabled: bool) -> Node:
    keys = keys_of(type(node.spec))
    if BATCH_NORM_KEY not in keys:
        return node
    names = [name for name in BATCH_NORM_KEYS if name in keys]
    is_normalized = any(getattr(node.spec, name) for name in names)
    if enabled == is_normalized or getattr(node.spec, "norm_groups", False):  # a layer has one kind of norm at most
        return node
    spec: LayerSpec = replace(
        node.spec, **{name: keys[name].element(enabled and name == BATCH_NORM_KEY) for name in names}
    )
    return replace(node, spec=spec, arrays=spec.arrays(node.inputs))


def _transfer(loaded: LoadedWeights, plan: Plan) -> LoadedWeights:
    """Put the arrays into another network; arrays that only this has get their initial values, variances 1."""
    network = Network(plan)
    for old, new in zip(loaded.nodes, plan.nodes, strict=False):
        old_specs = {array_spec.name: array_spec for array_spec in old.arrays}
        for array_spec in new.arrays:
            if array_spec.name in old_specs:
                array = array_values(loaded.network, old, old_specs[array_spec.name])
            else:
                array = array_spec.init.fill_(torch.empty(array_spec.shape))
                array += array_spec.is_statistic and array_spec.name.endswith("rolling_variance")
            layer_at_node(network, new).put_array(array_spec, array)
    network.header = loaded.network.header
    return LoadedWeights(network, loaded.cutoff)


def _fold(part: WeightedLayer, place: str) -> None:
    """Fold y = scale * (w*x - mean) / sqrt(variance + eps) + bias into weights and biases.

    With factor = scale / sqrt(variance + eps): w' = factor * w, bias' = bias - factor * mean.
    """
    variance_F = part.rolling_variance.double() + NORM_EPS
    if not (variance_F > 0).all():
        least = float(part.rolling_variance.min())
        raise WeightsError(f"{place}: a rolling variance is {least:g}; it has no square root")
    # rounded where darknet rounds, for the same bytes as from a build whose compiler fuses multiply and add
    factor_F = (part.scales.double() / variance_F.sqrt()).float()
    shape = [1] * part.weights.dim()
    shape[part.filter_axis] = -1
    part.weights *= factor_F.view(shape)
    part.biases.copy_(part.biases.double() - part.rolling_mean.double() * factor_F.double())
    part.scales.fill_(1)
    part.rolling_mean.fill_(0)
    part.rolling_variance.fill_(1)
