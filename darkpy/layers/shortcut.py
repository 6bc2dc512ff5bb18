"""[shortcut]: the sum of the layer before and others.

Legend: B images, C channels, H W rows and columns, N sources (the layer before first).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.dialect import Dialect
from darkpy.errors import SizeMismatchError
from darkpy.layers.base import INIT_ONE, ArraySpec, Layer, LayerSpec, absolute_index, activation_key, section
from darkpy.ops.activations import ACTIVATIONS_BY_NAME
from darkpy.ops.activations_onnx import write_activation
from darkpy.ops.onnx_builder import Attribute, Graph, Value
from darkpy.shapes import Shape

_AX = Dialect.ALEXEYAB
_PJ = Dialect.PJREDDIE
_WEIGHTS_TYPES = ("none", "per_feature", "per_layer", "per_channel")
_WEIGHTS_NORMALIZATIONS = ("none", "relu", "avg_relu", "softmax")
_WHOLE_SIDE = 2**31 - 1  # the end of a side, in ONNX
_MIN_RELU_WEIGHT = 0.001  # as on darknet's GPU and in its folded networks
_NORMALIZATION_EPS = 1e-4


@section("shortcut")
@dataclass(frozen=True, kw_only=True, slots=True)
class ShortcutSpec(LayerSpec):
    """pjreddie: alpha * before + beta * one layer of any size. AlexeyAB: a weighted sum of several of one size.

    If the channel counts differ, only the leading channels that both have are added.
    Source: pjreddie/darknet src/blas.c shortcut_cpu; AlexeyAB/darknet src/blas.c shortcut_multilayer_cpu,
        src/blas_kernels.cu shortcut_multilayer_kernel.
    Differs: the gradients are exact. pjreddie's code also scales by alpha where nothing is added; AlexeyAB's treats
        the normalized weights as independent, and clamps their gradients to +-1.
    """

    from_: tuple[int, ...] = key(name="from", list_dialect=_AX)
    activation: str = activation_key("linear")
    alpha: float = key(1.0, dialect=_PJ, usual=(-100, 100))
    beta: float = key(1.0, dialect=_PJ, usual=(-100, 100))
    weights_type: str = key("none", dialect=_AX, choices=_WEIGHTS_TYPES)
    weights_normalization: str = key("none", dialect=_AX, choices=_WEIGHTS_NORMALIZATIONS)

    def sources(self, index: int) -> tuple[int, ...]:
        return (index - 1, *(absolute_index(layer, index) for layer in self.from_))

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        before, *others = inputs
        for other in others:
            if self.dialect is _AX and (other.h, other.w) != (before.h, before.w):
                raise SizeMismatchError(
                    f"adds {other} to {before}: the alexeyab dialect adds layers of one width and height only",
                    hint="only pjreddie's darknet samples the larger one; a stride or [upsample] makes them equal",
                )
            if before.w // other.w != before.h // other.h or other.w // before.w != other.h // before.h:
                raise SizeMismatchError(f"adds {other} to {before}: their widths and heights have different ratios")
        return before

    def arrays(self, inputs: Sequence[Shape]) -> tuple[ArraySpec, ...]:
        if self.weights_type == "none":
            return ()
        channels = inputs[0].c if self.weights_type == "per_channel" else 1
        return (ArraySpec("weights", (len(inputs), channels), INIT_ONE),)

    def operations(self, inputs: Sequence[Shape]) -> int:
        per_value = 1 if self.weights_type == "none" else 2
        return inputs[0].outputs * (len(inputs) - 1) * per_value

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        arrays = self.arrays(inputs)
        return WeightedShortcut(self, arrays) if arrays else Shortcut(self, inputs)


class Shortcut(Layer):
    preserves_dtype = True

    def __init__(self, spec: ShortcutSpec, inputs: Sequence[Shape]) -> None:
        super().__init__()
        self.alpha, self.beta = spec.alpha, spec.beta
        self.activation = ACTIVATIONS_BY_NAME[spec.activation]
        is_unscaled = spec.alpha == spec.beta == 1
        self.is_plain_sum = is_unscaled and spec.activation == "linear" and len(set(inputs)) == 1

    def forward(self, before_BCHW: torch.Tensor, *others_BCHW: torch.Tensor) -> torch.Tensor:
        y_BCHW = before_BCHW
        for other_BCHW in others_BCHW:
            y_BCHW = _add(y_BCHW, other_BCHW, self.alpha, self.beta)
        return self.activation(y_BCHW, inplace=True)

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        y, *others = sources
        for other in others:
            y = Value(_add_to_onnx(graph, y, other, self.alpha, self.beta), y.shape)
        return write_activation(graph, self.activation.name, y.name)


class WeightedShortcut(Layer):
    weights: torch.Tensor

    def __init__(self, spec: ShortcutSpec, arrays: Sequence[ArraySpec]) -> None:
        super().__init__(arrays)
        self.normalization = spec.weights_normalization
        self.activation = ACTIVATIONS_BY_NAME[spec.activation]

    def forward(self, *sources_BCHW: torch.Tensor) -> torch.Tensor:
        weights_NC11 = self._normalized()[:, :, None, None]
        y_BCHW = sources_BCHW[0] * weights_NC11[0]
        for source_BCHW, weight_C11 in zip(sources_BCHW[1:], weights_NC11[1:], strict=True):
            shared = min(y_BCHW.shape[1], source_BCHW.shape[1])
            y_BCHW = _add(y_BCHW, source_BCHW[:, :shared] * weight_C11[:shared], 1, 1)
        return self.activation(y_BCHW, inplace=True)

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        before = sources[0].shape
        weights_NC11 = self._normalized().detach()[:, :, None, None].expand(-1, before.c, -1, -1)
        y = Value(graph.add("Mul", sources[0].name, weights_NC11[0]), before)
        for (name, shape), weight_C11 in zip(sources[1:], weights_NC11[1:], strict=True):
            shared = Shape(min(before.c, shape.c), *shape[1:])
            part = name if shared == shape else graph.slice(name, {1: (0, shared.c, 1)})
            weighted = graph.add("Mul", part, weight_C11[: shared.c])
            y = Value(_add_to_onnx(graph, y, Value(weighted, shared), 1, 1), before)
        return write_activation(graph, self.activation.name, y.name)

    def _normalized(self) -> torch.Tensor:
        """Return the effective weights; unless normalization is none, they sum to about 1 over the sources."""
        if self.normalization == "none":
            return self.weights
        if self.normalization == "softmax":
            positive_NC = torch.exp(self.weights - self.weights.amax(0, keepdim=True))
        else:
            positive_NC = self.weights.clamp(min=_MIN_RELU_WEIGHT)
        return positive_NC / (_NORMALIZATION_EPS + positive_NC.sum(0, keepdim=True))


def _add(y_BCHW: torch.Tensor, other_BCHW: torch.Tensor, alpha: float, beta: float) -> torch.Tensor:
    """Return alpha * y + beta * other where both have a cell, and y elsewhere.

    The larger map is sampled at every n-th row and column, n being the ratio of the widths.
    """
    if y_BCHW.shape == other_BCHW.shape:
        return y_BCHW + other_BCHW if alpha == beta == 1 else alpha * y_BCHW + beta * other_BCHW
    channels, h, w = (min(a, b) for a, b in zip(y_BCHW.shape[1:], other_BCHW.shape[1:], strict=True))
    stride = max(1, other_BCHW.shape[3] // y_BCHW.shape[3])
    sample = max(1, y_BCHW.shape[3] // other_BCHW.shape[3])
    added = other_BCHW[:, :channels, : h * stride : stride, : w * stride : stride]
    result = y_BCHW.clone()
    region = result[:, :channels, : h * sample : sample, : w * sample : sample]
    region.copy_(alpha * region + beta * added)
    return result


def _add_to_onnx(graph: Graph, y: Value, other: Value, alpha: float, beta: float) -> str:
    """Write `_add` as ONNX operators; cells of y without a partner get 0 added."""
    added = other.name
    channels, h, w = (min(a, b) for a, b in zip(y.shape, other.shape, strict=True))
    stride, sample = max(1, other.shape.w // y.shape.w), max(1, y.shape.w // other.shape.w)
    if other.shape != Shape(channels, h, w):
        added = _sample_to_onnx(graph, other, Shape(channels, h, w), stride)
    if beta != 1:
        added = graph.add("Mul", added, torch.tensor(beta))
    if alpha != 1 and y.shape == Shape(channels, h, w):
        return graph.add("Add", graph.add("Mul", y.name, torch.tensor(alpha)), added)
    if alpha != 1:
        region = _sample_to_onnx(graph, y, Shape(channels, h, w), sample)
        added = graph.add("Add", added, graph.add("Mul", region, torch.tensor(alpha - 1)))
    if sample > 1:
        zeros_between: dict[str, Attribute] = {
            "kernel_shape": (1, 1),
            "strides": (sample, sample),
            "output_padding": (sample - 1, sample - 1),
            "group": channels,
        }
        added = graph.add("ConvTranspose", added, torch.ones(channels, 1, 1, 1), **zeros_between)
    borders = tuple(whole - part for whole, part in zip(y.shape, (channels, h * sample, w * sample), strict=True))
    if any(borders):
        added = graph.pad(added, (0, 0, 0, 0, 0, *borders))
    return graph.add("Add", y.name, added)


def _sample_to_onnx(graph: Graph, source: Value, shape: Shape, stride: int) -> str:
    """Slice the first channels, and every n-th row and column; ranges of whole sides name no size."""
    ranges = {}
    steps = (1, stride, stride)
    for axis, (side, wanted, step) in enumerate(zip(source.shape, shape, steps, strict=True), start=1):
        end = wanted * step
        if end < side or step > 1:
            ranges[axis] = (0, end if end < side else _WHOLE_SIDE, step)
    return graph.slice(source.name, ranges) if ranges else source.name
