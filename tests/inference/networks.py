"""Networks with random weights that keep the signal's magnitude through any number of layers, and comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

import darkpy
from darkpy.dialect import Dialect
from darkpy.inference.speed_measurement import level_weights
from darkpy.network import Network


def filled(cfg: Path | str, dialect: Dialect | str | None = None) -> Network:
    """Return a network whose weighted layers keep the magnitude of a single image, so that no logistic saturates."""
    net = darkpy.load(cfg, dialect=dialect, time_steps=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for array in net.parameters():
            if array.dim() > 1:
                array.normal_(0, math.sqrt(2 / array[0].numel()), generator=generator)
        for name, statistic in net.named_buffers():
            if name.endswith("variance"):
                statistic.uniform_(0.5, 2, generator=generator)
    level_weights(net)
    return net


def images(net: Network, batch: int = 1) -> torch.Tensor:
    return torch.rand((batch, *net.plan.input_shape), generator=torch.Generator().manual_seed(1))


def outputs(net: Network, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
    net.reset_state()
    with torch.inference_mode():
        actual: list[torch.Tensor] = net(x_BCHW)
    return actual


def distance(actual: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> float:
    """Return the largest difference of any output, as a fraction of that output's largest magnitude."""
    assert [output.shape for output in actual] == [output.shape for output in expected]
    assert all(output.dtype == torch.float32 for output in actual)
    pairs = zip(actual, expected, strict=True)
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-30)) for a, b in pairs)
