"""Checks of weights: NaN, all zero, very large."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from darkpy.build import Plan
from darkpy.finding import Cause, Finding, Location, Severity
from darkpy.layers.base import ArraySpec, Layer
from darkpy.network import Network

MAX_WEIGHT = 1e4
"""No weight of a working network is larger: float32 products of a few layers of such weights overflow."""


def check_weights(network: Network) -> Iterator[Finding]:
    """Check each array for NaN and infinite values, for zeros only and for very large values, in forward order."""
    for node, layer in zip(network.plan.nodes, network.layers, strict=True):
        assert isinstance(layer, Layer)
        for array_spec in node.arrays:
            array = layer.array(array_spec)
            if array is None or array.is_meta:
                continue
            location, array = network.plan.locate(node.index), array.detach()
            bad = int((~array.isfinite()).sum())
            if bad:
                text = f"has {bad} NaN or infinite of {array.numel()} {array_spec.name}: all later outputs are NaN"
                hints = ("an earlier checkpoint", "a smaller learning_rate from there on")
                yield _finding(Severity.ERROR, "weights-not-finite", location, text, *hints)
            elif array_spec.is_decayed and not array.any():
                text = f"has {array.numel()} {array_spec.name}, all 0: every filter learns the same"
                yield _finding(
                    Severity.WARNING, "weights-zero", location, text, "init=msra, and weights that end before it"
                )
            elif float(torch.linalg.vector_norm(array, torch.inf)) > MAX_WEIGHT and not array_spec.is_statistic:
                text = f"the weights are ruined: {array_spec.name} are up to {float(array.abs().max()):.3g}"
                yield _finding(Severity.ERROR, "weights-large", location, text, "an earlier checkpoint", "more decay")


def check_frozen_norms(plan: Plan, network: Network | None) -> Iterator[Finding]:
    """Find batch norm that is frozen at the statistics of a new layer, variance 0: inputs are divided by nearly 0.

    network: filled; None if it starts without weights.
    """
    frozen_layers = network.frozen_layers if network is not None else 0
    first_learning = max(frozen_layers, *(node.index for node in plan.nodes if node.spec.freezes_inputs), 0)
    frozen: list[int] = []
    for node in plan.nodes:
        mode = node.spec.bn_freeze or plan.net.bn_freeze
        if mode not in ("stats", "all") and node.index >= first_learning:
            continue
        variances = [spec for spec in node.arrays if spec.is_statistic and spec.name.endswith("rolling_variance")]
        if variances and not (network is not None and _has_values(network.built[node.index], variances)):
            frozen.append(node.index)
    if frozen:
        key = "bn_freeze" if "bn_freeze" in plan.nodes[frozen[0]].section.entries else None
        keys = "--freeze" if frozen[-1] < frozen_layers else "stopbackward="
        keys = "bn_freeze=" if frozen[-1] >= first_learning else keys
        text = f"has batch norm that {keys} freezes at the statistics of a new layer: its variance is 0"
        if len(frozen) > 1:
            text = f"{text}; so have {len(frozen)} layers"
        hints = ("weights that fill these layers", f"no {keys} for them")
        yield _finding(Severity.ERROR, "frozen-norm-empty", plan.locate(frozen[0], key), text, *hints)


def _has_values(layer: Layer, array_specs: Sequence[ArraySpec]) -> bool:
    arrays = [layer.array(array_spec) for array_spec in array_specs]
    return any(array is not None and bool(array.any()) for array in arrays)


def _finding(severity: Severity, name: str, location: Location, message: str, *hints: str) -> Finding:
    cause = Cause.RATES if severity is Severity.ERROR else Cause.DETAILS
    return Finding(name=name, message=message, severity=severity, cause=cause, location=location, hints=hints)
