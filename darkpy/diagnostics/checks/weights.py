"""Checks of weights: NaN, all zero, very large."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from darkpy.finding import Cause, Finding, Location, Severity
from darkpy.layers.base import Layer
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
                text = f"has {array_spec.name} up to {float(array.abs().max()):.3g}"
                yield _finding(Severity.WARNING, "weights-large", location, text, "an earlier checkpoint", "more decay")


def _finding(severity: Severity, name: str, location: Location, message: str, *hints: str) -> Finding:
    cause = Cause.RATES if severity is Severity.ERROR else Cause.DETAILS
    return Finding(name=name, message=message, severity=severity, cause=cause, location=location, hints=hints)
