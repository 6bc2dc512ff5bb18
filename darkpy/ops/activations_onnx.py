"""Activations as ONNX operators, by darknet's names; see `ops.activations` for their formulas."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch

from darkpy.ops.onnx_builder import Graph

Writer = Callable[[Graph, str], str]


def write_activation(graph: Graph, name: str, x: str) -> str:
    """Add the activation of that name to the graph; linear adds nothing."""
    if name in graph.native_activations:
        return graph.add(name.capitalize(), x)
    return ACTIVATION_WRITERS[name](graph, x)


def _leaky(slope: float) -> Writer:
    return lambda graph, x: graph.add("LeakyRelu", x, alpha=slope)


def _single(type: str) -> Writer:
    return lambda graph, x: graph.add(type, x)


def _clip(lowest: float, highest: float) -> Writer:
    return lambda graph, x: graph.add("Clip", x, torch.tensor(lowest), torch.tensor(highest))


def _times(graph: Graph, x: str, factor: float) -> str:
    return graph.add("Mul", x, torch.tensor(factor))


def _plus(graph: Graph, x: str, term: float) -> str:
    return graph.add("Add", x, torch.tensor(term))


def _plse(graph: Graph, x: str) -> str:
    middle = _clip(-4.0, 4.0)(graph, x)
    outside = _times(graph, graph.add("Sub", x, middle), 0.01)
    return graph.add("Add", _plus(graph, _times(graph, middle, 0.125), 0.5), outside)


def _lhtan(graph: Graph, x: str) -> str:
    middle = _clip(0.0, 1.0)(graph, x)
    return graph.add("Add", middle, _times(graph, graph.add("Sub", x, middle), 0.001))


def _stair(graph: Graph, x: str) -> str:
    step = graph.add("Floor", _times(graph, x, 0.5))
    past_step = _plus(graph, graph.add("Sub", x, _times(graph, step, 2.0)), -1.0)
    return graph.add("Add", step, graph.add("Relu", past_step))


def _mish(graph: Graph, x: str) -> str:
    """Add mish: tanh(softplus(x)) is u / (2 - u), with u = s (2 - s) and s the logistic of x."""
    two = torch.tensor(2.0)
    s = graph.add("Sigmoid", x)
    u = graph.add("Mul", s, graph.add("Sub", two, s))
    return graph.add("Mul", x, graph.add("Div", u, graph.add("Sub", two, u)))


def _gelu(graph: Graph, x: str) -> str:
    cube = graph.add("Mul", graph.add("Mul", x, x), x)
    inner = _times(graph, graph.add("Add", x, _times(graph, cube, 0.044715)), math.sqrt(2 / math.pi))
    return graph.add("Mul", _times(graph, x, 0.5), _plus(graph, graph.add("Tanh", inner), 1.0))


def _normalize_channels(graph: Graph, x: str) -> str:
    positive = graph.add("Relu", x)
    return graph.add("Div", positive, _plus(graph, _channel_sum(graph, positive), 1e-4))


def _normalize_channels_softmax(graph: Graph, x: str) -> str:
    largest = graph.add("Relu", graph.add("ReduceMax", x, axes=(1,), keepdims=1))
    exp = graph.add("Exp", graph.add("Sub", x, largest))
    floor = _times(graph, graph.add("Exp", graph.add("Neg", largest)), 1e-4)
    return graph.add("Div", exp, graph.add("Add", floor, _channel_sum(graph, exp)))


def _normalize_channels_softmax_maxval(graph: Graph, x: str) -> str:
    exp = graph.add("Exp", graph.add("Sub", x, graph.add("ReduceMax", x, axes=(1,), keepdims=1)))
    return graph.add("Div", exp, _plus(graph, _channel_sum(graph, exp), 1e-4))


def _channel_sum(graph: Graph, x: str) -> str:
    return graph.add("ReduceSum", x, torch.tensor([1]), keepdims=1)


ACTIVATION_WRITERS: Mapping[str, Writer] = MappingProxyType(
    {
        "linear": lambda graph, x: x,
        "logistic": _single("Sigmoid"),
        "loggy": lambda graph, x: graph.add("Tanh", _times(graph, x, 0.5)),
        "tanh": _single("Tanh"),
        "relu": _single("Relu"),
        "leaky": _leaky(0.1),
        "relie": _leaky(0.01),
        "ramp": lambda graph, x: graph.add("Add", graph.add("Relu", x), _times(graph, x, 0.1)),
        "elu": _single("Elu"),
        "selu": lambda graph, x: graph.add("Selu", x, alpha=1.6732, gamma=1.0507),
        "plse": _plse,
        "stair": _stair,
        "hardtan": _clip(-1.0, 1.0),
        "lhtan": _lhtan,
        "swish": lambda graph, x: graph.add("Mul", x, graph.add("Sigmoid", x)),
        "mish": _mish,
        # x * clip(x / 2 + 1, 0, 1)
        "hard_mish": lambda graph, x: graph.add(
            "Mul", x, _clip(0.0, 1.0)(graph, _plus(graph, _times(graph, x, 0.5), 1.0))
        ),
        "relu6": _clip(0.0, 6.0),
        "revleaky": _leaky(0.1),
        "gelu": _gelu,
        "normalize_channels": _normalize_channels,
        "normalize_channels_softmax": _normalize_channels_softmax,
        "normalize_channels_softmax_maxval": _normalize_channels_softmax_maxval,
    }
)
