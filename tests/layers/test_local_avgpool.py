"""[local_avgpool] beyond the goldens: borders, strides and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from darkpy.build import make_plan
from darkpy.errors import ConfigError
from darkpy.network import Network

NET = "[net]\nwidth=7\nheight=6\nchannels=2\n"


def pool(keys: str) -> Network:
    return Network(make_plan(f"{NET}[local_avgpool]\n{keys}", "alexeyab"))


def means(x_CHW: NDArray[Any], size: int, padding: int, down: int, across: int) -> NDArray[Any]:
    """Loop over windows, like darknet."""
    _, h, w = x_CHW.shape
    rows, columns = (h + padding - size) // down + 1, (w + padding - size) // across + 1
    result = np.zeros((x_CHW.shape[0], rows, columns))
    for i in range(rows):
        for j in range(columns):
            top, left = i * down - padding // 2, j * across - padding // 2
            window = x_CHW[:, max(0, top) : max(0, top + size), max(0, left) : max(0, left + size)]
            result[:, i, j] = window.mean((1, 2)) if window.size else 0
    return result


@pytest.mark.parametrize(
    ("keys", "arguments"),
    [
        ("size=2\nstride=2\n", (2, 1, 2, 2)),
        ("size=3\nstride=2\n", (3, 2, 2, 2)),
        ("size=3\nstride=1\n", (3, 2, 1, 1)),
        ("stride=4\n", (4, 3, 4, 4)),
        ("size=3\nstride=1\npadding=0\n", (3, 0, 1, 1)),
        ("size=2\nstride=1\nstride_x=3\nstride_y=2\n", (2, 1, 2, 3)),
        ("size=1\nstride=1\npadding=4\n", (1, 4, 1, 1)),
    ],
)
def test_a_mean_counts_the_cells_inside_only(keys: str, arguments: tuple[int, int, int, int]) -> None:
    x_BCHW = torch.rand(3, 2, 6, 7, generator=torch.Generator().manual_seed(1))
    network = pool(keys)
    (actual,) = network(x_BCHW)
    assert actual.shape == (3, *network.plan.nodes[0].shape)
    expected = np.stack([means(x_CHW, *arguments) for x_CHW in x_BCHW.double().numpy()])
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-6)


def test_every_output_passes_its_delta_on_in_equal_parts() -> None:
    x_BCHW = torch.rand(1, 2, 6, 7, requires_grad=True)
    pool("size=3\nstride=2\n")(x_BCHW)[0].sum().backward()
    assert x_BCHW.grad is not None
    torch.testing.assert_close(x_BCHW.grad.sum(), torch.tensor(2 * 3 * 4.0))
    torch.testing.assert_close(x_BCHW.grad[0, 0, 0, 0], torch.tensor(1 / 4))


def test_only_alexeyabs_dialect_has_it() -> None:
    with pytest.raises(ConfigError, match="use --dialect alexeyab"):
        make_plan(f"{NET}[local_avg]\n", "pjreddie")
