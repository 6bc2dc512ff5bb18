"""What can be seen of weights before anything is computed with them."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from darkpy.diagnostics.checks.cfg import Cfg
from darkpy.finding import Cause, Finding, Location, Severity
from darkpy.layers.base import Layer
from darkpy.network import Network

LARGE = 1e4
"""Beyond this no weight of a network that works is: float32 products of some layers of such overflow."""


def check_weights(cfg: Cfg, network: Network) -> Iterator[Finding]:
    """Arrays that hold what is no number, or nothing, or numbers beyond all use: layer by layer, in forward order."""
    for node, layer in zip(network.plan.nodes, network.layers, strict=True):
        assert isinstance(layer, Layer)
        for array_spec in node.arrays:
            array = layer.array(array_spec)
            if array is None or array.is_meta:
                continue
            location, array = cfg.plan.locate(node.index), array.detach()
            spoilt = int((~array.isfinite()).sum())
            if spoilt:
                text = f"has {spoilt} NaN or infinite of {array.numel()} {array_spec.name}: all later outputs are NaN"
                hints = ("an earlier checkpoint", "a smaller learning_rate from there on")
                yield _finding(Severity.ERROR, "weights-not-finite", location, text, *hints)
            elif array_spec.is_decayed and not array.any():
                text = f"has {array.numel()} {array_spec.name}, all 0: every filter learns the same"
                yield _finding(
                    Severity.WARNING, "weights-zero", location, text, "init=msra, and weights that end before it"
                )
            elif float(torch.linalg.vector_norm(array, torch.inf)) > LARGE and not array_spec.is_statistic:
                text = f"has {array_spec.name} up to {float(array.abs().max()):.3g}"
                yield _finding(Severity.WARNING, "weights-large", location, text, "an earlier checkpoint", "more decay")


def _finding(severity: Severity, name: str, location: Location, message: str, *hints: str) -> Finding:
    cause = Cause.RATES if severity is Severity.ERROR else Cause.DETAILS
    return Finding(name=name, message=message, severity=severity, cause=cause, location=location, hints=hints)
