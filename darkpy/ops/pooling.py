"""Pooling windows of darknet: `padding` is the total of both sides, of which the smaller half is left and above."""

from __future__ import annotations

from dataclasses import dataclass

from darkpy.errors import ShapeError
from darkpy.shapes import Shape


@dataclass(frozen=True, slots=True)
class PoolingWindow:
    """Geometry of a pooling layer. Units: size, padding (total) and strides (down, across) in cells."""

    size: int
    padding: int
    strides: tuple[int, int]

    def output_sides(self, x: Shape) -> tuple[int, int]:
        """Compute the output's height and width, as C divides: a window that sticks out by less than a stride counts.

        Raises: ShapeError when the window exceeds the padded input by a stride or more.
        """
        down, across = self.strides
        if x.h + self.padding + down <= self.size or x.w + self.padding + across <= self.size:
            raise ShapeError(
                f"size={self.size} is larger than the input, {x} with padding={self.padding}",
                hint="remove padding=: its default, size - 1, fits every input",
            )
        h, w = x.h + self.padding - self.size, x.w + self.padding - self.size
        return max(0, h) // down + 1, max(0, w) // across + 1

    def borders(self, x: Shape) -> tuple[int, int, int]:
        """Compute the padding that the windows reach into: left and above, below, on the right.

        The last window may end before the total padding does (stride above 1), or beyond it: darknet pads only as far
        as a window reaches.
        """
        before = self.padding // 2
        # end of the last window of each axis, in cells of the input
        ends = (
            (side - 1) * stride + self.size - before
            for side, stride in zip(self.output_sides(x), self.strides, strict=True)
        )
        below, right = (max(0, end - length) for end, length in zip(ends, (x.h, x.w), strict=True))
        return before, below, right
