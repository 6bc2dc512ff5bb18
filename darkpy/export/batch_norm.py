"""Batch norm folded into the weights, taken out of the file, or put in: darknet's denormalize, reset and normalize.

Source: pjreddie/darknet examples/darknet.c denormalize_net, reset_normalize_net, normalize_net;
    src/convolutional_layer.c denormalize_convolutional_layer.
Differs: layers made of layers are folded too, and deconvolutional ones; connected layers with 1e-5 as everywhere, not
    1e-6; AlexeyAB's code multiplies far beyond a convolution's weights and crashes; a new batch norm has variance 1 and
    changes nothing, where darknet's has 0 and multiplies by 316.
"""

from __future__ import annotations

from collections.abc import Iterator
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

KEY = "batch_normalize"
SAME = ("cbn",)  # other keys that switch it on


@torch.no_grad()
def reset(opened: LoadedWeights) -> None:
    """Fold batch norm into the weights and keep one that does nothing: scales 1, means 0, variances 1.

    Raises: WeightsError when a variance is so negative that no square root is left.
    """
    for node in opened.nodes:
        for product in _products(opened.network, node):
            if product.is_normalized:
                _fold(product, opened.plan.place(node.index))


def denormalize(opened: LoadedWeights) -> LoadedWeights:
    """Fold batch norm into the weights; the file is then one for `without` the keys. Raises: WeightsError."""
    reset(opened)
    return _moved(opened, without(opened.plan))


def normalize(opened: LoadedWeights) -> LoadedWeights:
    """Give each layer that can have batch norm one that does nothing; the file is then one for `with_batch_norm`."""
    return _moved(opened, with_batch_norm(opened.plan))


def without(plan: Plan) -> Plan:
    """The network without batch norm in its layers."""
    return _replanned(plan, is_on=False)


def with_batch_norm(plan: Plan) -> Plan:
    """The network with batch norm in each layer that can have it."""
    return _replanned(plan, is_on=True)


def changed_cfg(cfg: Path, before: Plan, after: Plan) -> bytes:
    """The cfg's text with batch norm as `after` has it and all else as it was."""
    lines = cfg.read_bytes().split(b"\n")
    added: dict[int, bytes] = {}
    for old, new in zip(before.nodes, after.nodes, strict=True):
        if old.spec == new.spec:
            continue
        is_on = getattr(new.spec, KEY)
        for name in (KEY, *SAME):
            entry = old.section.entries.get(name)
            if entry is not None:
                end = b"\r" if lines[entry.line - 1].endswith(b"\r") else b""
                value = b"1" if is_on and name == KEY else b"0"
                lines[entry.line - 1] = name.encode() + b"=" + value + end
        if is_on and KEY not in old.section.entries:
            added[old.section.line] = KEY.encode() + b"=1"
    return b"\n".join(part for number, line in enumerate(lines, 1) for part in _with(line, added.get(number)))


def _with(line: bytes, added: bytes | None) -> list[bytes]:
    if added is None:
        return [line]
    return [line, added + (b"\r" if line.endswith(b"\r") else b"")]


def _replanned(plan: Plan, *, is_on: bool) -> Plan:
    return replace(plan, nodes=tuple(_changed(node, is_on) for node in plan.nodes))


def _changed(node: Node, is_on: bool) -> Node:
    keys = keys_of(type(node.spec))
    if KEY not in keys:
        return node
    is_normalized = any(getattr(node.spec, name) for name in (KEY, *SAME) if name in keys)
    if is_on == is_normalized or getattr(node.spec, "norm_groups", False):  # another norm leaves no room for this one
        return node
    values = {name: keys[name].element(is_on and name == KEY) for name in (KEY, *SAME) if name in keys}
    spec: LayerSpec = replace(node.spec, **values)
    return replace(node, spec=spec, arrays=spec.arrays(node.inputs))


def _moved(opened: LoadedWeights, plan: Plan) -> LoadedWeights:
    """The arrays in another network; those that are only there are as a new layer has them, but for variances of 1."""
    network = Network(plan)
    for old, new in zip(opened.nodes, plan.nodes, strict=False):
        held = {array_spec.name: array_spec for array_spec in old.arrays}
        for array_spec in new.arrays:
            if array_spec.name in held:
                array = array_values(opened.network, old, held[array_spec.name])
            else:
                array = array_spec.init.fill_(torch.empty(array_spec.shape))
                array += array_spec.is_statistic and array_spec.name.endswith("rolling_variance")
            layer_at_node(network, new).put_array(array_spec, array)
    network.header = opened.network.header
    return LoadedWeights(network, opened.cutoff)


def _products(network: Network, node: Node) -> Iterator[WeightedLayer]:
    """The layers with weights of their own in a layer: itself, or those it is made of."""
    if node.arrays:
        yield from (part for part in layer_at_node(network, node).modules() if isinstance(part, WeightedLayer))


def _fold(product: WeightedLayer, place: str) -> None:
    variance_F = product.rolling_variance.double() + NORM_EPS
    if not (variance_F > 0).all():
        raise WeightsError(f"{place}: a rolling variance is {float(product.rolling_variance.min()):g}; it has no root")
    # rounded where darknet rounds, for the same bytes as from a build whose compiler fuses a product and a sum
    factor_F = (product.scales.double() / variance_F.sqrt()).float()
    across = [1] * product.weights.dim()
    across[product.filter_axis] = -1
    product.weights *= factor_F.view(across)
    product.biases.copy_(product.biases.double() - product.rolling_mean.double() * factor_F.double())
    product.scales.fill_(1)
    product.rolling_mean.fill_(0)
    product.rolling_variance.fill_(1)
