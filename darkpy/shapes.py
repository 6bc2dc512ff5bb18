"""Shape of an image, as specs, modules and messages use it."""

from __future__ import annotations

from typing import NamedTuple


class Shape(NamedTuple):
    """Shape of one image at some layer; a vector of n values is (n, 1, 1).

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
        """Values per image, darknet's `outputs`."""
        return self.c * self.h * self.w

    def __str__(self) -> str:
        return f"{self.w} x {self.h} x {self.c}"


class FlatShape(Shape):
    """Shape of an output that is a list of values without an image, for which pjreddie's program sets w = h = c = 0.

    Equal to the vector of as many values. Only layers that do not `need_image` can read it.
    """

    __slots__ = ()

    def __str__(self) -> str:
        return f"{self.outputs} values"
