"""Weights of one darknet for the other: the same arrays in the order that the other's file has.

The arrays of [gru] and [lstm] lie in another order, pjreddie's [batchnorm] has no biases, and every file gets today's
header. What else differs is a difference of the networks: arrays without a counterpart are refused, keys that only one
fork reads are told, and both readings of the cfg are run on the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from darkpy.build import Node, Plan, make_plan
from darkpy.config.text import parse
from darkpy.dialect import Dialect
from darkpy.errors import ConfigError, WeightsError
from darkpy.export.weight_tools import array_values, layer_at_node, upgrade_header
from darkpy.layers.base import ArraySpec, field_values
from darkpy.network import Network

ADDED = "biases"  # an array that does nothing where its numbers are 0
TOLERANCE = 1e-4
UNTOLD = {"dialect", "constrain", "init"}


def plan_for_dialect(text: str, plan: Plan, dialect: Dialect) -> Plan:
    """The same cfg as the other fork reads it. Raises: WeightsError when it cannot."""
    try:
        made = make_plan(parse(text, plan.file), dialect)
    except ConfigError as error:
        first = error.findings[0]
        section = "" if first.location.section is None else f"[{first.location.section}] "
        raise WeightsError(f"{plan.file} is no network for {dialect}'s darknet: {section}{first.message}") from error
    for node in made.nodes:
        if own := node.spec.extensions():
            raise WeightsError(f"{plan.place(node.index)}: no darknet has {own[0]}")
    return made


def transfer(network: Network, cutoff: int | None, plan: Plan) -> tuple[Network, list[str]]:
    """The network's numbers in the other fork's network, and what a reader of the file should know.

    cutoff: the first layer without numbers, in a partial file.
    Raises: WeightsError naming the first array that has no place there.
    """
    made = Network(plan)
    for old, new in zip(network.plan.nodes[:cutoff], plan.nodes, strict=False):
        place = network.plan.place(old.index)
        if (old.type, old.sources, old.shape) != (new.type, new.sources, new.shape):
            raise WeightsError(
                f"{place}: puts out {old.shape} in {network.plan.dialect}'s darknet, {new.shape} in {plan.dialect}'s"
            )
        for array_spec, array in _carried(network, old, new, place, plan.dialect):
            layer_at_node(made, new).put_array(array_spec, array)
    made.header = network.header
    upgrade_header(made)
    notes = list(_other_keys(network.plan, plan))
    if cutoff is None:
        notes += _other_outputs(network, made)
    return made, notes


def _carried(
    network: Network, old: Node, new: Node, place: str, dialect: Dialect
) -> Iterator[tuple[ArraySpec, torch.Tensor]]:
    theirs = {array_spec.name: array_spec for array_spec in new.arrays}
    for array_spec in old.arrays:
        array = array_values(network, old, array_spec)
        if array_spec.name in theirs and theirs[array_spec.name].shape == array_spec.shape:
            yield theirs.pop(array_spec.name), array
        elif array_spec.name != ADDED or bool(array.any()):
            raise WeightsError(
                f"{place}: {dialect}'s darknet has no place for its {array_spec.name}, {array_spec.shape}"
            )
    for array_spec in theirs.values():
        if array_spec.name != ADDED:
            raise WeightsError(
                f"{place}: {dialect}'s darknet wants {array_spec.name}, {array_spec.shape}, which are not there"
            )
        yield array_spec, torch.zeros(array_spec.shape)


def _other_keys(mine: Plan, theirs: Plan) -> Iterator[str]:
    """A note for each key that means something in one of the two alone."""
    found: dict[tuple[str, str, object, object], list[int]] = {}
    for old, new in zip(mine.nodes, theirs.nodes, strict=False):
        others: Mapping[str, object] = dict(field_values(new.spec))
        for name, value in field_values(old.spec):
            if name in old.section.entries and name not in UNTOLD and others.get(name) != value:
                found.setdefault((old.type, name, value, others.get(name)), []).append(old.index)
    for (section, name, value, other), layers in found.items():
        where = ", ".join(map(str, layers[:5])) + (", ..." if len(layers) > 5 else "")
        yield (
            f"[{section}] {name} is {value} for {mine.dialect}'s darknet and {other} for {theirs.dialect}'s: "
            f"layers {where}"
        )


@torch.no_grad()
def _other_outputs(mine: Network, theirs: Network) -> Iterator[str]:
    """A note where the two do not compute the same of random images."""
    x_BCHW = torch.rand(mine.plan.net.time_steps, *mine.plan.input_shape, generator=torch.Generator().manual_seed(0))
    for network in (mine, theirs):
        network.eval().reset_state()
    for index, (one, other) in enumerate(zip(mine(x_BCHW), theirs(x_BCHW), strict=True)):
        difference, largest = float((one - other).abs().max()), float(one.abs().max())
        if not difference <= TOLERANCE * largest:
            yield (
                f"the two darknets compute other things with these numbers: output {index} departs by {difference:.3g} "
                f"of {largest:.3g}"
            )
    for network in (mine, theirs):
        network.reset_state()
