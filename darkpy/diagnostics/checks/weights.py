"""What can be seen of weights before anything is computed with them."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from darkpy.diagnostics.checks.cfg import Cfg
from darkpy.diagnostics.checks.finding import Cause, Diagnosis, Level
from darkpy.layers.base import Layer
from darkpy.network import Network

LARGE = 1e4
"""Beyond this no weight of a network that works is: float32 products of some layers of such overflow."""


def check_weights(cfg: Cfg, network: Network) -> Iterator[Diagnosis]:
    """Arrays that hold what is no number, or nothing, or numbers beyond all use: layer by layer, in forward order."""
    for node, layer in zip(network.plan.nodes, network.layers, strict=True):
        assert isinstance(layer, Layer)
        for array_spec in node.arrays:
            array = layer.array(array_spec)
            if array is None or array.is_meta:
                continue
            place, array = cfg.line(node.index), array.detach()
            spoilt = int((~array.isfinite()).sum())
            if spoilt:
                text = f"{spoilt} of its {array.numel()} {array_spec.name} are no numbers: nor is anything behind it"
                tries = ("an earlier checkpoint", "a smaller learning_rate from there on")
                yield _told(Level.ERROR, "weights-not-finite", place, text, *tries)
            elif array_spec.is_decayed and not array.any():
                text = f"all its {array.numel()} {array_spec.name} are 0: every filter learns the same"
                yield _told(Level.WARNING, "weights-zero", place, text, "init=msra, and weights that end before it")
            elif float(torch.linalg.vector_norm(array, torch.inf)) > LARGE and not array_spec.is_statistic:
                text = f"its {array_spec.name} reach {float(array.abs().max()):.3g}"
                yield _told(Level.WARNING, "weights-large", place, text, "an earlier checkpoint", "more decay")


def _told(level: Level, kind: str, place: str, message: str, *tries: str) -> Diagnosis:
    cause = Cause.RATES if level is Level.ERROR else Cause.DETAILS
    return Diagnosis(cause=cause, level=level, kind=kind, place=place, message=message, tries=tries)
