"""Initializers of weights by name, for the cfg key `init` (in [net] for all layers, in a section for its layer).

Without the key, weights are initialized as darknet does, which differs from torch's defaults.
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


def _for_each_position(fill: Initializer) -> Initializer:
    """Apply an initializer to each position's matrix of [local], so that fan in and fan out are those of one matrix."""

    def fill_all(tensor: Tensor, generator: torch.Generator | None = None) -> Tensor:
        for matrix in tensor if tensor.dim() == 3 else (tensor,):
            fill(matrix, generator=generator)
        return tensor

    return fill_all


_INITIALIZERS_2D: Mapping[str, Initializer] = {
    # He: variance 2 / fan_in keeps the variance of activations constant over the layers of a ReLU network
    "msra": partial(init.kaiming_normal_, nonlinearity="relu"),
    "he": partial(init.kaiming_normal_, nonlinearity="relu"),
    "kaiming": partial(init.kaiming_normal_, nonlinearity="relu"),
    "msra_leaky": partial(init.kaiming_normal_, a=0.1, nonlinearity="leaky_relu"),
    "msra_fanout": partial(init.kaiming_normal_, mode="fan_out", nonlinearity="relu"),
    "msra_uniform": partial(init.kaiming_uniform_, nonlinearity="relu"),
    # Glorot: variance 2 / (fan_in + fan_out), for tanh and logistic; caffe's has 1 / fan_in
    "xavier": init.xavier_uniform_,
    "xavier_normal": init.xavier_normal_,
    "xavier_caffe": partial(init.kaiming_uniform_, nonlinearity="linear"),
    "normal": partial(init.normal_, std=0.01),
    "uniform": partial(init.uniform_, a=-0.05, b=0.05),
    # the defaults of darknet's convolutions: normal with variance 2 / fan_in; uniform in +-1 / sqrt(fan_in)
    "darknet_pj": partial(init.kaiming_normal_, nonlinearity="relu"),
    "darknet_ax": partial(init.kaiming_uniform_, a=math.sqrt(2)),
    "zero": lambda tensor, generator=None: init.zeros_(tensor),
}
INITIALIZERS_BY_NAME: Mapping[str, Initializer] = MappingProxyType(
    {name: _for_each_position(fill) for name, fill in _INITIALIZERS_2D.items()}
)
"""Functions that fill a tensor in place and take `generator`.

Shapes: (filters, channels, size, size), (outputs, inputs), or (positions, filters, inputs of a position).
"""
