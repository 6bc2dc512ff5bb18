"""Operators of a graph as ncnn's layers: type, parameters by number, and arrays.

ncnn's blobs have no batch axis: axis 1 of an ONNX tensor is axis 0 here.
Source: github.com/Tencent/ncnn docs/developer-guide/operators.md; src/layer/*.cpp.

Legend: F filters, C channels, K window, H W rows and columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from darkpy.errors import DarkpyError
from darkpy.ops.onnx_builder import Attribute, Operator

NATIVE_ACTIVATIONS = frozenset({"mish", "swish", "gelu"})
"""Activations that are one layer of ncnn."""
Parameter = int | float | tuple[int, ...] | tuple[float, ...]


@dataclass(slots=True)
class NcnnLayer:
    """One line of the param file, and the arrays that belong to it.

    weights: stored in float32 or float16, with a mark. arrays: always float32.
    """

    type: str
    sources: list[str]
    targets: list[str]
    parameters: dict[int, Parameter] = field(default_factory=dict)
    weights: Tensor | None = None
    arrays: tuple[Tensor, ...] = ()


class Blob(NamedTuple):
    """A tensor of the graph: a blob, or a constant of shapes (`value`), which needs none."""

    shape: tuple[int, ...]
    value: Tensor | None = None


class NcnnBuilder:
    """Layers in execution order. blobs: by name, shapes without the batch axis."""

    def __init__(self, constants: Mapping[str, Tensor]) -> None:
        self.layers: list[NcnnLayer] = []
        self.blobs: dict[str, Blob] = {name: Blob(tuple(value.shape), value) for name, value in constants.items()}
        self.fusable: dict[str, NcnnLayer] = {}  # blob -> the layer that may apply an activation to it
        self._count = 0

    def add(self, layer: NcnnLayer, *shapes: tuple[int, ...]) -> None:
        """Add a layer. shapes: of its targets."""
        self.layers.append(layer)
        for name, shape in zip(layer.targets, shapes, strict=True):
            self.blobs[name] = Blob(shape)

    def write(self, operator: Operator, reads: Mapping[str, int]) -> None:
        """Add the layers of an operator. reads: readers of each tensor. Raises: DarkpyError if ncnn has none."""
        if operator.type not in _LAYER_WRITERS:
            raise DarkpyError(f"ncnn has no layer that computes ONNX's {operator.type}")
        inputs = [name for name in operator.inputs if name]
        if operator.type in _SHAPE_OPERATORS and (
            operator.type == "Shape" or all(self.blobs[name].value is not None for name in inputs)
        ):
            (target,) = operator.outputs
            value = _SHAPE_OPERATORS[operator.type](operator, [self.blobs[name] for name in inputs])
            self.blobs[target] = Blob(tuple(value.shape), value)
            return
        source = inputs[0]
        if operator.type in _FUSED_ACTIVATIONS and source in self.fusable and reads[source] == 1:
            layer = self.fusable[source]
            number, parameters = _FUSED_ACTIVATIONS[operator.type](operator, self.scalars(operator))
            layer.parameters |= {9: number} | ({-23310: parameters} if parameters else {})
            last = next(layer for layer in self.layers if source in layer.targets)
            last.targets = list(operator.outputs)
            self.blobs[operator.outputs[0]] = self.blobs.pop(source)
            return
        _LAYER_WRITERS[operator.type](self, operator)

    def scalars(self, operator: Operator) -> tuple[float, ...]:
        """Values of the constants among the operator's inputs that hold a single one."""
        values = (self.blobs[name].value for name in operator.inputs if name)
        return tuple(float(value) for value in values if value is not None and value.numel() == 1)

    def constant(self, name: str) -> Tensor:
        """Value of a constant. Raises: DarkpyError if it is computed."""
        value = self.blobs[name].value
        if value is None:
            raise DarkpyError("its weights are computed by other layers, which ncnn cannot")
        return value

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a blob; of a constant without its batch axis."""
        return self.blobs[name].shape

    def blob(self, name: str, rank: int) -> str:
        """Name of a tensor as a blob; a constant becomes one of that rank, by a layer of its own."""
        value = self.blobs[name].value
        if value is None:
            return name
        sides = tuple(value.shape)[-rank:]
        if value.numel() != math.prod(sides):
            raise DarkpyError(f"it has a constant of shape {tuple(value.shape)}, and ncnn has no batches")
        sides = (1,) * (rank - len(sides)) + sides
        target = self.new_name(name)
        self.add(NcnnLayer("MemoryData", [], [target], _sides(sides), arrays=(value.float(),)), sides)
        return target

    def new_name(self, name: str) -> str:
        """Name of a blob between the layers of one operator."""
        self._count += 1
        return f"{name}/{self._count}"


def _sides(shape: Sequence[int]) -> dict[int, Parameter]:
    """Parameters of a shape, of Input, MemoryData and Reshape. Raises: DarkpyError for more than four axes."""
    if len(shape) > 4:
        raise DarkpyError(f"it has a tensor of shape {tuple(shape)}, and ncnn's have at most four axes")
    keys = {1: (0,), 2: (1, 0), 3: (2, 1, 0), 4: (2, 11, 1, 0)}[len(shape)]
    return dict(zip(keys, shape, strict=True))


def input_layer(name: str, shape: tuple[int, ...]) -> NcnnLayer:
    return NcnnLayer("Input", [], [name], _sides(shape))


def _attributes(operator: Operator, name: str, default: Sequence[int]) -> tuple[int, ...]:
    value = operator.attributes.get(name, default)
    assert not isinstance(value, (int, float, str))
    return tuple(value)


def _number(operator: Operator, name: str, default: float) -> float:
    value: Attribute = operator.attributes.get(name, default)
    assert isinstance(value, (int, float))
    return value


def _conv(builder: NcnnBuilder, operator: Operator) -> None:
    source, weights_name, *bias = operator.inputs
    weights, (_, h, w) = builder.constant(weights_name), builder.shape(source)
    filters, _, rows, columns = weights.shape
    biases = builder.constant(bias[0]) if bias else torch.zeros(filters)
    (down, across), (bottom_gap, right_gap) = (
        _attributes(operator, "strides", (1, 1)),
        _attributes(operator, "dilations", (1, 1)),
    )
    top, left, bottom, right = _attributes(operator, "pads", (0, 0, 0, 0))
    group, (target,) = round(_number(operator, "group", 1)), operator.outputs
    if (rows, columns) == (h, w) and group == 1 and not any((top, left, bottom, right)):
        vector = builder.new_name(target)
        layer = NcnnLayer(
            "InnerProduct", [source], [vector], {0: filters, 1: 1, 2: weights.numel()}, weights, (biases,)
        )
        builder.add(layer, (filters,))
        builder.add(NcnnLayer("Reshape", [vector], [target], _sides((filters, 1, 1))), (filters, 1, 1))
        builder.fusable[target] = layer
        return
    parameters: dict[int, Parameter] = {0: filters, 1: columns, 11: rows, 2: right_gap, 12: bottom_gap}
    parameters |= {3: across, 13: down, 4: left, 15: right, 14: top, 16: bottom, 5: 1, 6: weights.numel()}
    if group > 1:
        parameters[7] = group
    layer = NcnnLayer(
        "Convolution" if group == 1 else "ConvolutionDepthWise", [source], [target], parameters, weights, (biases,)
    )
    out_h = (h + top + bottom - bottom_gap * (rows - 1) - 1) // down + 1
    out_w = (w + left + right - right_gap * (columns - 1) - 1) // across + 1
    builder.add(layer, (filters, out_h, out_w))
    builder.fusable[target] = layer


def _deconv(builder: NcnnBuilder, operator: Operator) -> None:
    source, weights_name, *bias = operator.inputs
    weights_CFKK, (channels, h, w) = builder.constant(weights_name), builder.shape(source)
    group = round(_number(operator, "group", 1))
    _, part, rows, columns = weights_CFKK.shape
    filters, (target,) = part * group, operator.outputs
    weights = weights_CFKK.reshape(group, channels // group, part, rows, columns).transpose(1, 2)
    (down, across), (top, left, bottom, right) = (
        _attributes(operator, "strides", (1, 1)),
        _attributes(operator, "pads", (0, 0, 0, 0)),
    )
    more_h, more_w = _attributes(operator, "output_padding", (0, 0))
    parameters: dict[int, Parameter] = {0: filters, 1: columns, 11: rows, 3: across, 13: down}
    parameters |= {4: left, 15: right, 14: top, 16: bottom, 18: more_w, 19: more_h, 5: 1, 6: weights.numel()}
    if group > 1:
        parameters[7] = group
    biases = builder.constant(bias[0]) if bias else torch.zeros(filters)
    layer = NcnnLayer(
        "Deconvolution" if group == 1 else "DeconvolutionDepthWise", [source], [target], parameters, weights, (biases,)
    )
    out_h = (h - 1) * down + rows - top - bottom + more_h
    out_w = (w - 1) * across + columns - left - right + more_w
    builder.add(layer, (filters, out_h, out_w))
    builder.fusable[target] = layer


def _pool(builder: NcnnBuilder, operator: Operator) -> None:
    (source, *_), (target,) = operator.inputs, operator.outputs
    channels, h, w = builder.shape(source)
    rows, columns = _attributes(operator, "kernel_shape", (1, 1))
    down, across = _attributes(operator, "strides", (1, 1))
    top, left, bottom, right = _attributes(operator, "pads", (0, 0, 0, 0))
    parameters: dict[int, Parameter] = {0: int(operator.type == "AveragePool"), 1: columns, 11: rows, 2: across}
    parameters |= {12: down, 3: left, 14: right, 13: top, 15: bottom, 5: 1}  # 5: no window beyond these borders
    out_h, out_w = (h + top + bottom - rows) // down + 1, (w + left + right - columns) // across + 1
    builder.add(NcnnLayer("Pooling", [source], [target], parameters), (channels, out_h, out_w))


def _global_pool(builder: NcnnBuilder, operator: Operator) -> None:
    (source,), (target,) = operator.inputs, operator.outputs
    channels, vector = builder.shape(source)[0], builder.new_name(target)
    builder.add(NcnnLayer("Pooling", [source], [vector], {0: 1, 4: 1}), (channels,))
    builder.add(NcnnLayer("Reshape", [vector], [target], _sides((channels, 1, 1))), (channels, 1, 1))


_BINARY_OPERATIONS = {"Add": 0, "Sub": 1, "Mul": 2, "Div": 3, "Max": 4, "Min": 5, "Pow": 6}
_SWAPPED_OPERATIONS = {"Sub": 7, "Div": 8, "Pow": 9}  # scalar first


def _binary(builder: NcnnBuilder, operator: Operator) -> None:
    (a, b), (target,) = operator.inputs, operator.outputs
    number = _BINARY_OPERATIONS[operator.type]
    for source, other, code in ((a, b, number), (b, a, _SWAPPED_OPERATIONS.get(operator.type, number))):
        value = builder.blobs[other].value
        if value is not None and value.numel() == 1 and builder.blobs[source].value is None:
            layer = NcnnLayer("BinaryOp", [source], [target], {0: code, 1: 1, 2: float(value)})
            builder.add(layer, builder.shape(source))
            return
    rank = max(len(builder.shape(name)) for name in (a, b) if builder.blobs[name].value is None)
    sources = [builder.blob(name, rank) for name in (a, b)]
    shape = tuple(max(sides) for sides in zip(*map(builder.shape, sources), strict=True))
    builder.add(NcnnLayer("BinaryOp", sources, [target], {0: number}), shape)


def _elementwise(type: str, parameters: Callable[[NcnnBuilder, Operator], dict[int, Parameter]]) -> Writer:
    def write(builder: NcnnBuilder, operator: Operator) -> None:
        source = builder.blob(operator.inputs[0], 3)
        layer = NcnnLayer(type, [source], list(operator.outputs), parameters(builder, operator))
        builder.add(layer, builder.shape(source))

    return write


def _plain(type: str, **parameters: Parameter) -> Writer:
    """Layer with fixed parameters: `p7=1` is the parameter 7."""
    numbered = {int(name.removeprefix("p")): value for name, value in parameters.items()}
    return _elementwise(type, lambda builder, operator: dict(numbered))


def _clip_bounds(builder: NcnnBuilder, operator: Operator) -> dict[int, Parameter]:
    low, high = builder.scalars(operator)
    return {0: low, 1: high}


def _prelu(builder: NcnnBuilder, operator: Operator) -> None:
    source, slopes = operator.inputs
    slopes_C = builder.constant(slopes).flatten()
    layer = NcnnLayer("PReLU", [source], list(operator.outputs), {0: len(slopes_C)}, arrays=(slopes_C,))
    builder.add(layer, builder.shape(source))


def _batch_norm(builder: NcnnBuilder, operator: Operator) -> None:
    source, *names = operator.inputs
    scales, biases, mean, variance = map(builder.constant, names)
    parameters: dict[int, Parameter] = {0: len(scales), 1: float(_number(operator, "epsilon", 1e-5))}
    arrays = (scales, mean, variance, biases)
    layer = NcnnLayer("BatchNorm", [source], list(operator.outputs), parameters, arrays=arrays)
    builder.add(layer, builder.shape(source))


def _instance_norm(builder: NcnnBuilder, operator: Operator) -> None:
    """Norm of (groups, values): as an image of one row for each group; its scales are 1 and its biases 0."""
    source, (target,) = operator.inputs[0], operator.outputs
    groups, values = builder.shape(source)
    rows, normalized = builder.new_name(target), builder.new_name(target)
    parameters: dict[int, Parameter] = {0: groups, 1: float(_number(operator, "epsilon", 1e-5)), 2: 0}
    builder.add(NcnnLayer("Reshape", [source], [rows], _sides((groups, 1, values))), (groups, 1, values))
    builder.add(NcnnLayer("InstanceNorm", [rows], [normalized], parameters), (groups, 1, values))
    builder.add(NcnnLayer("Reshape", [normalized], [target], _sides((groups, values))), (groups, values))


def _concat(builder: NcnnBuilder, operator: Operator) -> None:
    axis = _axis(operator)
    rank = max(len(builder.shape(name)) for name in operator.inputs if builder.blobs[name].value is None)
    sources = [builder.blob(name, rank) for name in operator.inputs]
    shapes = [builder.shape(name) for name in sources]
    shape = (*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])
    builder.add(NcnnLayer("Concat", sources, list(operator.outputs), {0: axis}), shape)


def _axis(operator: Operator) -> int:
    return round(_number(operator, "axis", 1)) - 1


def _split(builder: NcnnBuilder, operator: Operator) -> None:
    source, sizes = operator.inputs[0], tuple(builder.constant(operator.inputs[1]).tolist())
    axis, shape = _axis(operator), builder.shape(source)
    layer = NcnnLayer("Slice", [source], list(operator.outputs), {-23300: sizes, 1: axis})
    builder.add(layer, *((*shape[:axis], size, *shape[axis + 1 :]) for size in sizes))


def _slice(builder: NcnnBuilder, operator: Operator) -> None:
    source, *ranges = operator.inputs
    (target,) = operator.outputs
    starts, ends, axes, steps = (builder.constant(name).tolist() for name in ranges)
    shape = list(builder.shape(source))
    step_by_axis = {axis: step for axis, step in zip(axes, steps, strict=True) if step != 1}
    if not step_by_axis.keys() <= {2, 3} or len(shape) != 3:
        raise DarkpyError("it takes every n-th channel, and ncnn has no layer for that")
    spans = {}
    for start, end, axis in zip(starts, ends, axes, strict=True):
        spans[axis - 1] = (start, min(end, shape[axis - 1]))
        shape[axis - 1] = spans[axis - 1][1] - start
    cropped = builder.new_name(target) if step_by_axis else target
    parameters: dict[int, Parameter] = {
        -23309: tuple(start for start, _ in spans.values()),
        -23310: tuple(end for _, end in spans.values()),
        -23311: tuple(spans),
    }
    builder.add(NcnnLayer("Crop", [source], [cropped], parameters), tuple(shape))
    if step_by_axis:  # the largest of one cell, at every n-th
        down, across = step_by_axis.get(2, 1), step_by_axis.get(3, 1)
        channels, h, w = shape
        layer = NcnnLayer("Pooling", [cropped], [target], {0: 0, 1: 1, 2: across, 12: down, 5: 1})
        builder.add(layer, (channels, -(-h // down), -(-w // across)))


def _reshape(builder: NcnnBuilder, operator: Operator) -> None:
    source, sizes = operator.inputs
    shape = builder.shape(source)
    batch, *sides = builder.constant(sizes).tolist()
    if batch == -1 and len(sides) == 1:  # rows of all images; of the only one here
        sides = [-1, *sides]
    sides = [shape[axis] if side == 0 else side for axis, side in enumerate(sides)]
    if -1 in sides:
        known = math.prod(side for side in sides if side != -1)
        sides[sides.index(-1)] = math.prod(shape) // known
    layer = NcnnLayer("Reshape", [source], list(operator.outputs), _sides(sides))
    builder.add(layer, tuple(sides))


def permutations_of(axes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield orders of axes in the order in which ncnn's Permute numbers them; innermost axis first."""
    if len(axes) < 2:
        yield axes
    for last in reversed(axes) if len(axes) > 1 else ():
        for order in permutations_of(tuple(axis for axis in axes if axis != last)):
            yield (*order, last)


def _transpose(builder: NcnnBuilder, operator: Operator) -> None:
    (source,), shape = operator.inputs, builder.shape(operator.inputs[0])
    batch, *permutation = _attributes(operator, "perm", ())
    if batch != 0 or len(shape) > 4:
        raise DarkpyError(f"it permutes {len(permutation)} axes, and ncnn has no batches and at most four axes")
    sources = [axis - 1 for axis in permutation]
    innermost_first = tuple(len(shape) - 1 - axis for axis in reversed(sources))
    number = list(permutations_of(tuple(range(len(shape))))).index(innermost_first)
    layer = NcnnLayer("Permute", [source], list(operator.outputs), {0: number})
    builder.add(layer, tuple(shape[axis] for axis in sources))


def _pad(builder: NcnnBuilder, operator: Operator) -> None:
    source, borders, *value = operator.inputs
    shape = builder.shape(source)
    sizes = builder.constant(borders).tolist()
    rank = len(shape)
    before, after = sizes[1 : rank + 1], sizes[rank + 2 :]
    keys = {1: ((2, 3),), 2: ((0, 1), (2, 3)), 3: ((7, 8), (0, 1), (2, 3))}.get(rank)
    if keys is None:
        raise DarkpyError(f"it pads a tensor of {rank} axes, and ncnn's Padding takes three")
    parameters: dict[int, Parameter] = {}
    for (first, last), low, high in zip(keys, before, after, strict=True):
        parameters |= {first: low, last: high}
    parameters |= {4: 0, 5: builder.scalars(operator)[0] if value else 0.0}
    padded = tuple(side + low + high for side, low, high in zip(shape, before, after, strict=True))
    builder.add(NcnnLayer("Padding", [source], list(operator.outputs), parameters), padded)


def _resize(builder: NcnnBuilder, operator: Operator) -> None:
    source, scales = operator.inputs[0], builder.constant(operator.inputs[2]).tolist()
    channels, h, w = builder.shape(source)
    down, across = scales[2:]
    layer = NcnnLayer("Interp", [source], list(operator.outputs), {0: 1, 1: float(down), 2: float(across)})
    builder.add(layer, (channels, int(h * down), int(w * across)))


def _softmax(builder: NcnnBuilder, operator: Operator) -> None:
    layer = NcnnLayer("Softmax", list(operator.inputs), list(operator.outputs), {0: _axis(operator), 1: 1})
    builder.add(layer, builder.shape(operator.inputs[0]))


_REDUCTION_CODES = {"ReduceSum": 0, "ReduceMean": 3, "ReduceMax": 4, "ReduceL2": 8}


def _reduce(builder: NcnnBuilder, operator: Operator) -> None:
    source, *axes_names = operator.inputs
    axes = builder.constant(axes_names[0]).tolist() if axes_names else _attributes(operator, "axes", ())
    keeps_axes, shape = bool(_number(operator, "keepdims", 1)), builder.shape(source)
    removed = [axis - 1 for axis in axes]
    parameters: dict[int, Parameter] = {0: _REDUCTION_CODES[operator.type], 1: 0, -23303: tuple(removed)}
    parameters |= {4: int(keeps_axes), 5: 1}
    sides = [1 if axis in removed else side for axis, side in enumerate(shape) if keeps_axes or axis not in removed]
    builder.add(NcnnLayer("Reduction", [source], list(operator.outputs), parameters), tuple(sides))


def _space_to_depth(builder: NcnnBuilder, operator: Operator) -> None:
    (source,), block = operator.inputs, round(_number(operator, "blocksize", 1))
    channels, h, w = builder.shape(source)
    layer = NcnnLayer("Reorg", [source], list(operator.outputs), {0: block, 1: 1})
    builder.add(layer, (channels * block**2, h // block, w // block))


def _depth_to_space(builder: NcnnBuilder, operator: Operator) -> None:
    (source,), block = operator.inputs, round(_number(operator, "blocksize", 1))
    channels, h, w = builder.shape(source)
    layer = NcnnLayer("PixelShuffle", [source], list(operator.outputs), {0: block, 1: 1})
    builder.add(layer, (channels // block**2, h * block, w * block))


def _shape_of(operator: Operator, inputs: Sequence[Blob]) -> Tensor:
    sides = torch.tensor((1, *inputs[0].shape))
    first, last = round(_number(operator, "start", 0)), round(_number(operator, "end", len(sides)))
    return sides[first:last]


_SHAPE_OPERATORS: Mapping[str, Callable[[Operator, Sequence[Blob]], Tensor]] = MappingProxyType(
    {
        "Shape": _shape_of,
        "Concat": lambda operator, inputs: torch.cat([blob.value for blob in inputs if blob.value is not None]),
        "Expand": lambda operator, inputs: inputs[0].value if inputs[0].value is not None else torch.empty(0),
    }
)
"""Operators on constants and shapes, which are computed here: every shape is known, and there is one image."""
Writer = Callable[[NcnnBuilder, Operator], None]
_LAYER_WRITERS: Mapping[str, Writer] = MappingProxyType(
    {
        "Conv": _conv,
        "ConvTranspose": _deconv,
        **dict.fromkeys(("MaxPool", "AveragePool"), _pool),
        "GlobalAveragePool": _global_pool,
        **dict.fromkeys(_BINARY_OPERATIONS, _binary),
        **dict.fromkeys(_REDUCTION_CODES, _reduce),
        "Relu": _plain("ReLU"),
        "LeakyRelu": _elementwise("ReLU", lambda builder, operator: {0: float(_number(operator, "alpha", 0.01))}),
        "Elu": _elementwise("ELU", lambda builder, operator: {0: float(_number(operator, "alpha", 1.0))}),
        "Selu": _elementwise(
            "SELU", lambda builder, operator: {0: _number(operator, "alpha", 0), 1: _number(operator, "gamma", 0)}
        ),
        "Clip": _elementwise("Clip", _clip_bounds),
        "Sigmoid": _plain("Sigmoid"),
        "Tanh": _plain("TanH"),
        "Mish": _plain("Mish"),
        "Swish": _plain("Swish"),
        "Gelu": _plain("GELU", p0=1),
        "Neg": _plain("UnaryOp", p0=1),
        "Floor": _plain("UnaryOp", p0=2),
        "Exp": _plain("UnaryOp", p0=7),
        "Identity": _plain("Noop"),
        "PRelu": _prelu,
        "BatchNormalization": _batch_norm,
        "InstanceNormalization": _instance_norm,
        "Concat": _concat,
        "Split": _split,
        "Slice": _slice,
        "Reshape": _reshape,
        "Transpose": _transpose,
        "Pad": _pad,
        "Resize": _resize,
        "Softmax": _softmax,
        "SpaceToDepth": _space_to_depth,
        "DepthToSpace": _depth_to_space,
        **dict.fromkeys(("Shape", "Expand"), _plain("Noop")),
    }
)
_FUSED_ACTIVATIONS: Mapping[str, Callable[[Operator, tuple[float, ...]], tuple[int, tuple[float, ...]]]] = (
    MappingProxyType(
        {
            "Relu": lambda operator, scalars: (1, ()),
            "LeakyRelu": lambda operator, scalars: (2, (float(_number(operator, "alpha", 0.01)),)),
            "Clip": lambda operator, scalars: (3, scalars),
            "Sigmoid": lambda operator, scalars: (4, ()),
            "Mish": lambda operator, scalars: (5, ()),
        }
    )
)
"""Activations that a convolution applies to its own output: their number and parameters."""
