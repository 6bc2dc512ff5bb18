"""Networks with a few numbers, and weight files made for them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from darkpy.build import make_plan
from darkpy.dialect import Dialect
from darkpy.errors import WeightsError
from darkpy.network import Network
from darkpy.weightfile import LoadReport

NET = "[net]\nwidth=4\nheight=4\nchannels=2\n"
CONV = "[convolutional]\nfilters=3\nsize=3\npad=1\nactivation=linear\n"
NORMED = CONV + "batch_normalize=1\n"
TWO = NORMED + "[maxpool]\n" + CONV  # 66 and 84 numbers
CONNECTED = "[connected]\noutput=5\nactivation=linear\n"

RECENT = struct.pack("<3iQ", 0, 2, 5, 64 * 500)
OLD = struct.pack("<3iI", 0, 1, 0, 64 * 500)
TRANSPOSED = struct.pack("<3iI", 2000, 1, 0, 7)


def network(layers: str, dialect: Dialect | None = None) -> Network:
    return Network(make_plan(NET + layers, dialect))


def numbers(count: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.arange(1, count + 1, dtype="<f4")


def written(folder: Path, count: int, header: bytes = RECENT) -> Path:
    """A weight file holding 1, 2, 3, ... so that every array says where it was found."""
    path = folder / "some.weights"
    path.write_bytes(header + numbers(count).tobytes())
    return path


def loaded(layers: str, path: Path, **options: int | None) -> tuple[Network, LoadReport]:
    net = network(layers)
    report = net.load_weights(path, allow_partial=True, **options)  # type: ignore[arg-type]
    net.initialize()
    return net, report


def arrays(net: Network, layer: int) -> dict[str, list[float]]:
    return {name: tensor.flatten().tolist() for name, tensor in net.layers[layer].state_dict().items()}


def weights(net: Network, layer: int, name: str = "weights") -> torch.nn.Parameter:
    return net.layers[layer].get_parameter(name)


def spread(*sizes: int) -> list[list[float]]:
    """1, 2, 3, ... cut into pieces of these sizes."""
    return [part.tolist() for part in np.split(numbers(sum(sizes)), np.cumsum(sizes)[:-1])]


def refusal(layers: str, path: Path, **options: int | bool | None) -> str:
    net = network(layers)
    net.initialize(torch.Generator().manual_seed(1))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    header = net.header
    with pytest.raises(WeightsError) as caught:
        net.load_weights(path, **options)  # type: ignore[arg-type]
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items()), "half loaded"
    assert net.header == header
    return str(caught.value)
