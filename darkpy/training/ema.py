"""Exponential moving average of the weights over the second half of a training: `[net] ema_alpha`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from darkpy.network import Network

EMA_LAST_UPDATES = 1000
"""Updates before max_batches at which the averages replace the weights."""


class WeightEma:
    """Moving averages of all learned arrays; rolling statistics are not averaged.

    Source:  AlexeyAB/darknet src/network.c ema_update, ema_apply, train_network_waitkey
    Differs: all layers are averaged, darknet's only where they are convolutional.
    """

    def __init__(self, network: Network) -> None:
        self.net = network.plan.net
        self.learned: dict[str, nn.Parameter] = dict(network.named_parameters())
        self.arrays: dict[str, torch.Tensor] = {}
        """By parameter name; empty before the first and after the last update that counts."""

    @torch.no_grad()
    def follow(self, batch_num: int) -> None:
        """Include the weights after update `batch_num`."""
        net = self.net
        if not net.ema_alpha or batch_num < net.max_batches // 2:
            return
        if batch_num < net.max_batches - EMA_LAST_UPDATES:
            if not self.arrays:
                self.arrays = {name: param.detach().clone() for name, param in self.learned.items()}
            weights = [param.detach() for param in self.learned.values()]
            torch._foreach_lerp_(list(self.arrays.values()), weights, 1 - net.ema_alpha)
        elif batch_num == net.max_batches - EMA_LAST_UPDATES:
            for name, average in self.arrays.items():
                self.learned[name].copy_(average)
            self.arrays = {}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averages into the network for the time of a `with` block."""
        weights = {name: self.learned[name].data for name in self.arrays}
        for name, average in self.arrays.items():
            self.learned[name].data = average
        try:
            yield
        finally:
            for name, weight in weights.items():
                self.learned[name].data = weight
