"""[reorg] beyond the goldens, against darknet's index arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from darkpy.build import make_plan
from darkpy.errors import ConfigError
from darkpy.network import Network


def reorg(c: int, h: int, w: int, keys: str, dialect: str = "pjreddie") -> Network:
    return Network(make_plan(f"[net]\nwidth={w}\nheight={h}\nchannels={c}\n[reorg]\n{keys}", dialect))


def moved(x: NDArray[Any], stride: int, *, is_reverse: bool) -> NDArray[Any]:
    """One image: `small` indexes c x h x w, `large` c / stride^2 x h * stride x w * stride."""
    c, h, w = x.shape
    flat, result = x.reshape(-1), np.empty(x.size, x.dtype)
    channels = c // stride**2
    for k in range(c):
        block, channel = divmod(k, channels)
        for j in range(h):
            for i in range(w):
                row, column = j * stride + block // stride, i * stride + block % stride
                small, large = i + w * (j + h * k), column + w * stride * (row + h * stride * channel)
                if is_reverse:
                    result[large] = flat[small]
                else:
                    result[small] = flat[large]
    return result


@pytest.mark.parametrize("is_reverse", [False, True])
@pytest.mark.parametrize(("c", "h", "w", "stride"), [(4, 2, 4, 2), (8, 4, 2, 2), (18, 3, 6, 3), (3, 4, 5, 1)])
def test_cells_go_where_darknets_indices_say(c: int, h: int, w: int, stride: int, is_reverse: bool) -> None:
    network = reorg(c, h, w, f"stride={stride}\nreverse={is_reverse:d}\n")
    x_BCHW = torch.arange(2 * c * h * w, dtype=torch.float32).reshape(2, c, h, w)
    (actual,) = network(x_BCHW)
    declared = (c // stride**2, h * stride, w * stride) if is_reverse else (c * stride**2, h // stride, w // stride)
    assert network.plan.nodes[0].shape == declared
    expected = np.stack([moved(x_CHW, stride, is_reverse=is_reverse) for x_CHW in x_BCHW.numpy()])
    np.testing.assert_array_equal(actual.numpy(), expected.reshape(2, *declared))


def test_memory_layout_does_not_matter() -> None:
    network = reorg(8, 4, 6, "stride=2\n")
    x_BCHW = torch.rand(2, 8, 4, 6)
    assert torch.equal(network(x_BCHW)[0], network(x_BCHW.to(memory_format=torch.channels_last))[0])


def test_flatten_puts_channels_last_and_reverse_first_again() -> None:
    x_BCHW = torch.rand(2, 3, 4, 5)
    (last,) = reorg(3, 4, 5, "flatten=1\n")(x_BCHW)
    assert last.shape == x_BCHW.shape
    np.testing.assert_array_equal(last.numpy().reshape(2, 4, 5, 3), x_BCHW.numpy().transpose(0, 2, 3, 1))
    assert torch.equal(reorg(3, 4, 5, "flatten=1\nreverse=1\n")(last)[0], x_BCHW)


def test_extra_appends_zeros_to_the_flat_input() -> None:
    x_BCHW = torch.rand(2, 1, 19, 19)
    (actual,) = reorg(1, 19, 19, "extra=1\n")(x_BCHW)
    assert actual.shape == (2, 362, 1, 1)
    assert torch.equal(actual.flatten(1)[:, :361], x_BCHW.flatten(1)) and not actual[:, 361].any()


@pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning")
def test_alexeyabs_dialect_does_not_read_extra() -> None:
    plan = make_plan("[net]\nwidth=19\nheight=19\nchannels=1\n[reorg]\nextra=1\n", "alexeyab")
    assert plan.nodes[0].shape == (1, 19, 19)
    assert "extra" in plan.warnings[0].message


@pytest.mark.parametrize(
    ("c", "h", "keys", "message"),
    [
        (6, 4, "stride=2\n", r"6 channels, which are not a multiple of stride\^2 = 4"),
        (6, 4, "stride=2\nreverse=1\n", r"6 channels, which are not a multiple of stride\^2 = 4"),
        (4, 5, "stride=2\n", "not multiples of stride=2"),
        (4, 4, "flatten=1\nextra=3\n", "extra=3 adds to it"),
        (4, 4, "stride=0\n", "stride=0 is below 1"),
    ],
)
def test_sizes_that_darknet_reads_past_are_refused(c: int, h: int, keys: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        reorg(c, h, 4, keys)
