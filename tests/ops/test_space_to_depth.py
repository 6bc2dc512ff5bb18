"""Space to depth, and back."""

from __future__ import annotations

import pytest
import torch

from darkpy.errors import ShapeError
from darkpy.ops.space_to_depth import depth_to_space, require_blocks, require_parts, space_to_depth
from darkpy.shapes import Shape


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_one_undoes_the_other(stride: int) -> None:
    x_BCHW = torch.rand(2, 5, 2 * stride, 3 * stride)
    deep = space_to_depth(x_BCHW, stride)
    assert deep.shape == (2, 5 * stride**2, 2, 3)
    assert torch.equal(depth_to_space(deep, stride), x_BCHW)


def test_channels_of_a_blocks_first_cell_come_first() -> None:
    x_BCHW = torch.rand(1, 3, 4, 4)
    assert torch.equal(space_to_depth(x_BCHW, 2)[:, :3], x_BCHW[:, :, ::2, ::2])


def test_what_does_not_divide_is_refused() -> None:
    require_parts(Shape(16, 1, 1), 2, power=4)
    require_blocks(Shape(1, 4, 6), 2)
    with pytest.raises(ShapeError, match=r"8 channels, which are not a multiple of stride\^4 = 16"):
        require_parts(Shape(8, 1, 1), 2, power=4)
    for shape in (Shape(1, 5, 6), Shape(1, 4, 7)):
        with pytest.raises(ShapeError, match="not multiples of stride"):
            require_blocks(shape, 2)
