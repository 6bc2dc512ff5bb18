"""The arrays of a layer: their names, shapes and starting values."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True, slots=True)
class Init:
    """Initial values of an array: `mean` plus noise, normal (std `scale`) or uniform (+-`scale`).

    filled: number of leading elements that get noise, where darknet does not fill the whole array.
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
INIT_SLOPE = Init(mean=0.25)  # of a PReLU left of 0 (He et al. 2015)


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One array of a layer, in the weight file and in the module; `LayerSpec.arrays` lists them in file order.

    name: of the module's parameter or buffer, dotted if a layer is made of layers.
    is_statistic: a buffer (rolling mean or variance), not learned by gradient.
    is_norm: batch norm's scales and statistics, which `dontloadscales` skips.
    is_decayed: weight decay applies to it.
    is_flipped: the file holds it as [rest][first axis] (`flipped=1`).
    is_connected: a connected weight, stored transposed by darknet's oldest versions.
    is_extension: no darknet has this array, so none can read a file that holds it.
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
        """The same array, named from the layer that contains its owner as `part`; no `dontloadscales` inside."""
        return replace(self, name=f"{part}.{self.name}", is_norm=False)
