"""Sizes: the one vocabulary that specs, modules and messages share."""

from __future__ import annotations

from typing import NamedTuple


class Shape(NamedTuple):
    """What one image looks like at some place of the network; a plain vector of n numbers is (n, 1, 1).

    Tensors are (batch, c, h, w) everywhere, vectors included, so that `tensor.shape[1:] == shape` always holds.
    """

    c: int
    h: int
    w: int

    @classmethod
    def vector(cls, n: int) -> Shape:
        return cls(n, 1, 1)

    @property
    def outputs(self) -> int:
        """Numbers per image, darknet's `outputs`."""
        return self.c * self.h * self.w

    def __str__(self) -> str:
        return f"{self.w} x {self.h} x {self.c}"
