"""The arrays of a layer: their names, shapes and starting values."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True, slots=True)
class Init:
    """How darknet fills an array of a new network: `mean` plus noise, normal (std `scale`) or uniform (+-`scale`).

    `filled` bounds how many leading numbers get noise, where darknet itself stops short.
    """

    mean: float = 0.0
    scale: float = 0.0
    is_normal: bool = False
    filled: int | None = None

    def fill_(self, tensor: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        tensor.fill_(self.mean)
        if self.scale:
            flat = tensor.view(-1)[: self.filled]
            if self.is_normal:
                flat.normal_(self.mean, self.scale, generator=generator)
            else:
                flat.uniform_(self.mean - self.scale, self.mean + self.scale, generator=generator)
        return tensor


INIT_ZERO = Init()
INIT_ONE = Init(mean=1.0)
INIT_SLOPE = Init(mean=0.25)  # of a PReLU left of 0, as its paper starts it


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One array of the weight file and of the module: a spec's slots stand in file order.

    name: the module's parameter or buffer, dotted where a layer is made of layers.
    is_statistic: a buffer (rolling mean or variance), not learned by gradient.
    is_norm: batch norm's scales and statistics, which `dontloadscales` skips.
    is_decayed: weight decay acts on it.
    is_flipped: the file holds it as [rest][first axis] (`flipped=1`).
    is_connected: a connected weight, stored transposed by darknet's oldest versions.
    is_foreign: no darknet has such an array, and so none can read a file with it.
    """

    name: str
    shape: tuple[int, ...]
    init: Init = INIT_ZERO
    is_statistic: bool = False
    is_norm: bool = False
    is_decayed: bool = False
    is_flipped: bool = False
    is_connected: bool = False
    is_extension: bool = False

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    def within(self, part: str) -> ArraySpec:
        """The same slot, seen from a layer that holds its owner as `part`; `dontloadscales` does not reach inside."""
        return replace(self, name=f"{part}.{self.name}", is_norm=False)
