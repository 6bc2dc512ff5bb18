"""Networks with random weights that carry a signal through any number of layers, and how far outputs are apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

import darkpy
from darkpy.dialect import Dialect
from darkpy.network import Network


def filled(cfg: Path | str, dialect: Dialect | str | None = None) -> Network:
    """Every product gives numbers as large as an image's, so that no logistic saturates; for single images."""
    net = darkpy.load(cfg, dialect=dialect, time_steps=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for array in net.parameters():
            if array.dim() > 1:
                array.normal_(0, math.sqrt(2 / array[0].numel()), generator=generator)
        for name, statistic in net.named_buffers():
            if name.endswith("variance"):
                statistic.uniform_(0.5, 2, generator=generator)
        _level(net)
    return net


def _level(net: Network) -> None:
    """Walk through the layers once, dividing each one's weights by the size of what comes out."""
    values = {-1: images(net)}
    for node, layer in zip(net.plan.nodes, net.built, strict=True):
        sources = [values[source] for source in node.sources]
        array = getattr(layer, "scales", getattr(layer, "weights", None))
        if isinstance(array, torch.nn.Parameter):
            array.div_(layer(*sources).std().clamp(min=1e-6))
        values[node.index] = layer(*sources)
    net.reset_state()


def images(net: Network, batch: int = 1) -> torch.Tensor:
    return torch.rand((batch, *net.plan.input_shape), generator=torch.Generator().manual_seed(1))


def outputs(net: Network, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
    net.reset_state()
    with torch.inference_mode():
        found: list[torch.Tensor] = net(x_BCHW)
    return found


def distance(found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> float:
    """The largest difference on any output, as a fraction of that output's largest number."""
    assert [one.shape for one in found] == [one.shape for one in wanted]
    assert all(one.dtype == torch.float32 for one in found)
    pairs = zip(found, wanted, strict=True)
    return max(float((one - other).abs().max() / other.abs().max().clamp(min=1e-30)) for one, other in pairs)
