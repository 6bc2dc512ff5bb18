"""darknet's pooling windows: `padding` is the sum of both sides, the smaller half lies left and above."""

from __future__ import annotations

from dataclasses import dataclass

from darkpy.errors import ShapeError
from darkpy.shapes import Shape


@dataclass(frozen=True, slots=True)
class Window:
    """Units: size, padding (total) and strides (down, across) in cells."""

    size: int
    padding: int
    strides: tuple[int, int]

    def output_sides(self, x: Shape) -> tuple[int, int]:
        """Height and width after pooling. Raises: ShapeError when the window is larger than the padded input."""
        if min(x.h, x.w) + self.padding < self.size:
            raise ShapeError(
                f"size={self.size} is larger than the input, {x} with padding={self.padding}",
                hint="leave padding out: it is size - 1 then, and every input is large enough",
            )
        down, across = self.strides
        return (x.h + self.padding - self.size) // down + 1, (x.w + self.padding - self.size) // across + 1

    def borders(self, x: Shape) -> tuple[int, int, int]:
        """Cells that the windows reach beyond the input: left and above, below, on the right."""
        before = self.padding // 2
        ends = (
            (side - 1) * stride + self.size - before
            for side, stride in zip(self.output_sides(x), self.strides, strict=True)
        )
        below, right = (max(0, end - length) for end, length in zip(ends, (x.h, x.w), strict=True))
        return before, below, right
