"""Starting values of weights by name, for the cfg key `init` (in [net] for all layers, in a section for that one).

Without the key weights start as the fork starts them, which is neither of torch's defaults.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import init

Initializer = Callable[..., Tensor]


def _for_each_place(fill: Initializer) -> Initializer:
    """[local] has a matrix of weights for each place: what reads and is read is counted in one of them."""

    def fill_all(tensor: Tensor, generator: torch.Generator | None = None) -> Tensor:
        for matrix in tensor if tensor.dim() == 3 else (tensor,):
            fill(matrix, generator=generator)
        return tensor

    return fill_all


_FILLS: Mapping[str, Initializer] = {
    # He: the variance 2 / fan_in keeps a ReLU network's activations alike from layer to layer
    "msra": partial(init.kaiming_normal_, nonlinearity="relu"),
    "he": partial(init.kaiming_normal_, nonlinearity="relu"),
    "kaiming": partial(init.kaiming_normal_, nonlinearity="relu"),
    "msra_leaky": partial(init.kaiming_normal_, a=0.1, nonlinearity="leaky_relu"),
    "msra_fanout": partial(init.kaiming_normal_, mode="fan_out", nonlinearity="relu"),
    "msra_uniform": partial(init.kaiming_uniform_, nonlinearity="relu"),
    # Glorot: for tanh and logistic
    "xavier": init.xavier_uniform_,
    "xavier_normal": init.xavier_normal_,
    "xavier_caffe": partial(init.kaiming_uniform_, nonlinearity="linear"),
    "normal": partial(init.normal_, std=0.01),
    "uniform": partial(init.uniform_, a=-0.05, b=0.05),
    # the forks' own of convolutions
    "darknet_pj": partial(init.kaiming_normal_, nonlinearity="relu"),
    "darknet_ax": partial(init.kaiming_uniform_, a=math.sqrt(2)),
    "zero": lambda tensor, generator=None: init.zeros_(tensor),
}
INITIALIZERS: Mapping[str, Initializer] = MappingProxyType(
    {name: _for_each_place(fill) for name, fill in _FILLS.items()}
)
"""Each fills a tensor in place and takes `generator`.

Shapes: (filters, channels, size, size), (outputs, inputs), or (places, filters, inputs of a place).
"""
