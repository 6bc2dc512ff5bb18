"""A darknet network in plain torch.nn modules, the baseline of darkpy's training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from darkpy.build import Plan
from darkpy.errors import DarkpyError

LEAKY_SLOPE = 0.1
TORCH_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "leaky": lambda: nn.LeakyReLU(LEAKY_SLOPE, inplace=True),
    "relu": lambda: nn.ReLU(inplace=True),
}


class PlainNet(nn.Module):
    """Runs torch.nn modules one after the other; returns the inputs of the heads.

    Raises: DarkpyError for a layer type without a module here.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.sources = [node.sources for node in plan.nodes]
        self.layers = nn.ModuleList([_module(node) for node in plan.nodes])
        self.heads = {node.sources[0] for node in plan.nodes if node.type == "yolo"}

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        outputs = {-1: x_BCHW}
        for index, (layer, sources) in enumerate(zip(self.layers, self.sources, strict=True)):
            outputs[index] = layer(*(outputs[source] for source in sources))
        return [outputs[index] for index in sorted(self.heads)]


class _Join(nn.Module):
    def forward(self, *sources_BCHW: Tensor) -> Tensor:
        return torch.cat(sources_BCHW, 1) if len(sources_BCHW) > 1 else sources_BCHW[0]


class _Group(nn.Module):
    """One of the equal parts into which AlexeyAB's [route] splits the channels."""

    def __init__(self, groups: int, group: int) -> None:
        super().__init__()
        self.groups, self.group = groups, group

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW.chunk(self.groups, 1)[self.group]


class _Add(nn.Module):
    def forward(self, before_BCHW: Tensor, other_BCHW: Tensor) -> Tensor:
        return before_BCHW + other_BCHW


class _Pool(nn.Module):
    def __init__(self, size: int, stride: int) -> None:
        super().__init__()
        self.size, self.stride = size, stride

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if self.size > self.stride:  # keeps the width
            x_BCHW = functional.pad(x_BCHW, (0, self.size - 1, 0, self.size - 1), value=-torch.inf)
        return functional.max_pool2d(x_BCHW, self.size, self.stride)


def _module(node: Any) -> nn.Module:
    spec = node.spec
    if node.type == "convolutional":
        return _convolution(spec, node.inputs[0].c)
    if node.type == "maxpool":
        return _Pool(spec.window.size, spec.strides[0])
    if node.type == "upsample":
        return nn.Upsample(scale_factor=spec.stride)
    if node.type == "shortcut":
        return _Add()
    if node.type == "route":
        return _Group(spec.groups, spec.group_id) if spec.groups > 1 else _Join()
    if node.type == "yolo":
        return nn.Identity()
    raise DarkpyError(f"[{node.type}] is not among the plain torch modules of the benchmark")


def _convolution(spec: Any, channels: int) -> nn.Module:
    has_norm = spec.is_normalized
    parts: list[nn.Module] = [
        nn.Conv2d(channels, spec.filters, spec.size, spec.strides, spec.border, groups=spec.groups, bias=not has_norm)
    ]
    if has_norm:
        parts.append(nn.BatchNorm2d(spec.filters, momentum=0.01))
    if spec.activation != "linear":
        if spec.activation not in TORCH_ACTIVATIONS:
            raise DarkpyError(f"activation={spec.activation} is not among the plain torch modules of the benchmark")
        parts.append(TORCH_ACTIVATIONS[spec.activation]())
    return nn.Sequential(*parts)
