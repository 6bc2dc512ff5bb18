"""[reorg3d] beyond the goldens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from darkpy.build import make_plan
from darkpy.errors import ConfigError
from darkpy.network import Network


def reorg3d(c: int, h: int, w: int, keys: str) -> Network:
    return Network(make_plan(f"[net]\nwidth={w}\nheight={h}\nchannels={c}\n[reorg3d]\n{keys}", "alexeyab"))


def test_a_block_becomes_channels_its_first_cell_of_all_channels_first() -> None:
    x_BCHW = torch.rand(2, 3, 4, 6)
    (actual,) = reorg3d(3, 4, 6, "stride=2\n")(x_BCHW)
    assert actual.shape == (2, 12, 2, 3)
    for block in range(4):
        for channel in range(3):
            expected = x_BCHW[:, channel, block // 2 :: 2, block % 2 :: 2]
            assert torch.equal(actual[:, block * 3 + channel], expected)


def test_reverse_reads_the_input_as_a_larger_image_first() -> None:
    c, h, w, stride = 32, 2, 3, 2
    x_CHW = torch.arange(c * h * w, dtype=torch.float32).reshape(c, h, w)
    (actual,) = reorg3d(c, h, w, "stride=2\nreverse=1\n")(x_CHW[None])
    assert actual.shape == (1, 8, 4, 6)
    v = x_CHW.numpy().reshape(8, 4, 6)
    flat = np.empty(c * h * w, np.float32)
    for k in range(8):
        block, channel = divmod(k, 2)
        for j in range(4):
            for i in range(6):
                row, column = j * stride + block // stride, i * stride + block % stride
                flat[column + 12 * (row + 8 * channel)] = v[k, j, i]
    np.testing.assert_array_equal(actual.numpy().reshape(-1), flat)


@pytest.mark.parametrize(
    ("c", "h", "keys", "message"),
    [(3, 5, "stride=2\n", "not multiples of stride=2"), (8, 4, "stride=2\nreverse=1\n", r"stride\^4 = 16")],
)
def test_sizes_that_crash_darknet_are_refused(c: int, h: int, keys: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        reorg3d(c, h, 4, keys)
