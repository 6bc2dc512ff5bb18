"""Conversion of weights from one dialect to the other: the same arrays in the order of the other program's file.

The arrays of [gru] and [lstm] lie in another order, pjreddie's [batchnorm] has no biases, and every file gets today's
header. All else is a difference of the networks: arrays without a counterpart are an error, keys that only one dialect
reads are reported, and both networks are run on the same weights.
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

OPTIONAL_ARRAY = "biases"  # has no effect where its values are 0
RELATIVE_TOLERANCE = 1e-4
UNREPORTED_KEYS = {"dialect", "constrain", "init"}


def plan_for_dialect(text: str, plan: Plan, dialect: Dialect) -> Plan:
    """Plan the same cfg in another dialect. Raises: WeightsError when that cannot read it."""
    try:
        made = make_plan(parse(text, plan.file), dialect)
    except ConfigError as error:
        first = error.findings[0]
        section = "" if first.location.section is None else f"[{first.location.section}] "
        message = f"{plan.file} is not a network for {dialect}'s darknet: {section}{first.message}"
        raise WeightsError(message) from error
    for node in made.nodes:
        if extensions := node.spec.extensions():
            raise WeightsError(f"{plan.place(node.index)}: no darknet has {extensions[0]}")
    return made


def transfer(network: Network, cutoff: int | None, plan: Plan) -> tuple[Network, list[str]]:
    """Put a network's weights into the network of another dialect. Returns: that network, and notes for the user.

    cutoff: the first layer without weights, in a partial file.
    Raises: WeightsError naming the first array without a counterpart.
    """
    made = Network(plan)
    for old, new in zip(network.plan.nodes[:cutoff], plan.nodes, strict=False):
        place = network.plan.place(old.index)
        if (old.type, old.sources, old.shape) != (new.type, new.sources, new.shape):
            raise WeightsError(
                f"{place}: its output is {old.shape} in {network.plan.dialect}'s darknet, "
                f"{new.shape} in {plan.dialect}'s"
            )
        for array_spec, array in _transfer_arrays(network, old, new, place, plan.dialect):
            layer_at_node(made, new).put_array(array_spec, array)
    made.header = network.header
    upgrade_header(made)
    notes = list(_different_keys(network.plan, plan))
    if cutoff is None:
        notes += _different_outputs(network, made)
    return made, notes


def _transfer_arrays(
    network: Network, old: Node, new: Node, place: str, dialect: Dialect
) -> Iterator[tuple[ArraySpec, torch.Tensor]]:
    new_specs = {array_spec.name: array_spec for array_spec in new.arrays}
    for array_spec in old.arrays:
        array = array_values(network, old, array_spec)
        if array_spec.name in new_specs and new_specs[array_spec.name].shape == array_spec.shape:
            yield new_specs.pop(array_spec.name), array
        elif array_spec.name != OPTIONAL_ARRAY or bool(array.any()):
            raise WeightsError(
                f"{place}: {dialect}'s darknet has no array for its {array_spec.name}, {array_spec.shape}"
            )
    for array_spec in new_specs.values():
        if array_spec.name != OPTIONAL_ARRAY:
            raise WeightsError(
                f"{place}: {dialect}'s darknet needs {array_spec.name}, {array_spec.shape}, which the file lacks"
            )
        yield array_spec, torch.zeros(array_spec.shape)


def _different_keys(plan: Plan, other: Plan) -> Iterator[str]:
    """Yield a note for each key of the cfg whose value differs between the two dialects."""
    layers_by_key: dict[tuple[str, str, object, object], list[int]] = {}
    for old, new in zip(plan.nodes, other.nodes, strict=False):
        new_values: Mapping[str, object] = dict(field_values(new.spec))
        for name, value in field_values(old.spec):
            if name in old.section.entries and name not in UNREPORTED_KEYS and new_values.get(name) != value:
                layers_by_key.setdefault((old.type, name, value, new_values.get(name)), []).append(old.index)
    for (section, name, value, new_value), layers in layers_by_key.items():
        where = ", ".join(map(str, layers[:5])) + (", ..." if len(layers) > 5 else "")
        yield (
            f"[{section}] {name} is {value} for {plan.dialect}'s darknet and {new_value} for {other.dialect}'s: "
            f"layers {where}"
        )


@torch.no_grad()
def _different_outputs(network: Network, other: Network) -> Iterator[str]:
    """Yield a note for each output that differs on a random image."""
    plan, generator = network.plan, torch.Generator().manual_seed(0)
    x_BCHW = torch.rand(plan.net.time_steps, *plan.input_shape, generator=generator)
    for each in (network, other):
        each.eval().reset_state()
    for index, (ours, theirs) in enumerate(zip(network(x_BCHW), other(x_BCHW), strict=True)):
        difference, largest = float((ours - theirs).abs().max()), float(ours.abs().max())
        if not difference <= RELATIVE_TOLERANCE * largest:
            yield (
                f"the two programs compute different outputs with these weights: output {index} departs by "
                f"{difference:.3g} of {largest:.3g}"
            )
    for each in (network, other):
        each.reset_state()
