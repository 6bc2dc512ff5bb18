"""Graphs of ONNX operators in lower precision: float16, and int8 as QuantizeLinear and DequantizeLinear (QDQ).

Legend: F filters, C channels, K window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from darkpy.errors import DarkpyError
from darkpy.ops.onnx_builder import Graph, Operator, Value

FLOAT32_CODE, FLOAT16_CODE = 1, 10
MAX_FLOAT16, MIN_FLOAT16 = 65504.0, 2.0**-24
FLOAT32_INPUTS = {"Resize": (2,)}
"""Inputs of operators that stay float32."""
MAX_INT8 = 127
TINY_SCALE = 1e-8


class ByteScale(NamedTuple):
    """A byte q from 0 to 255 means (q - zero_point) * scale."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class Quantization:
    """Scales of the values that are quantized, from calibration.

    outputs: of layers, -1 for the network's input. products: of convolutions before their activation.
    """

    outputs: Mapping[int, ByteScale]
    products: Mapping[int, ByteScale]


def halve_graph(graph: Graph, source: str, outputs: Sequence[str]) -> None:
    """Compute in float16 between the float32 input and outputs. Raises: DarkpyError for suppression of boxes."""
    kept = {
        operator.inputs[position]
        for operator in graph.operators
        for position in FLOAT32_INPUTS.get(operator.type, ())
        if position < len(operator.inputs)
    }
    for operator in graph.operators:
        if operator.type in ("NonMaxSuppression", "Cast"):
            raise DarkpyError(f"{operator.type} needs float32", hint="--precision fp32 has it")
    for name, value in graph.constants.items():
        if value.dtype == torch.float32 and name not in kept:
            _check_range(name, value)
            rounded = value.clamp(-MAX_FLOAT16, MAX_FLOAT16)  # the lowest float32, as border of a pool
            if value.numel() == 1 and 0 < float(value.abs()) < MIN_FLOAT16:  # the least divisor, for one
                rounded = torch.full_like(value, MIN_FLOAT16).copysign(value)
            graph.constants[name] = rounded.half()
    halved = f"{source}/half"
    inner = {name: f"{name}/half" for name in (source, *outputs)}
    operators = [
        replace(
            operator,
            inputs=tuple(inner.get(name, name) for name in operator.inputs),
            outputs=tuple(inner.get(name, name) for name in operator.outputs),
        )
        for operator in graph.operators
    ]
    first = Operator("Cast", (source,), (halved,), {"to": FLOAT16_CODE})
    last = [Operator("Cast", (inner[name],), (name,), {"to": FLOAT32_CODE}) for name in outputs]
    graph.operators = [first, *operators, *last]


def _check_range(name: str, value: torch.Tensor) -> None:
    """Raises: DarkpyError for weights that lower precision cannot hold."""
    if value.numel() > 1 and not float(value.abs().max()) <= MAX_FLOAT16:
        message = f"{name.partition('/')[0]}: has weights that are NaN or above {MAX_FLOAT16:g}"
        raise DarkpyError(message, hint="--precision fp32 stores them")


def quantize_graph(graph: Graph, values: Mapping[int, Value], quantization: Quantization) -> None:
    """Quantize and dequantize the values that have scales, and the weights of convolutions that read such values.

    A runtime computes an operator between dequantized inputs and a quantized output in int8.
    """
    scales = {values[index].name: scale for index, scale in quantization.outputs.items() if index in values}
    for operator in graph.operators:
        layer, _, kind = operator.outputs[0].partition("/")
        index = int(layer.removeprefix("layer")) if layer.removeprefix("layer").isdecimal() else -1
        if operator.type == "Conv" and kind == "Conv" and index in quantization.products:
            scales.setdefault(operator.outputs[0], quantization.products[index])
    operators: list[Operator] = []
    dequantized: dict[str, str] = {}

    def add_pair(name: str) -> None:
        scale = _constant(graph, f"{name}/scale", torch.tensor(scales[name].scale))
        zero_point = _constant(graph, f"{name}/zero_point", torch.tensor(scales[name].zero_point, dtype=torch.uint8))
        quantized, dequantized[name] = f"{name}/quantized", f"{name}/dequantized"
        operators.append(Operator("QuantizeLinear", (name, scale, zero_point), (quantized,), {}))
        operators.append(Operator("DequantizeLinear", (quantized, scale, zero_point), (dequantized[name],), {}))

    for name in scales:
        if not any(name in operator.outputs for operator in graph.operators):  # the network's input
            add_pair(name)
    for operator in graph.operators:
        source = operator.inputs[0]
        # a convolution that only heads read has no scale, and keeps its weights
        if operator.type == "Conv" and source in dequantized and operator.outputs[0] in scales:
            operator = _quantize_conv(graph, operators, operator, scales[source].scale)
        inputs = tuple(dequantized.get(name, name) for name in operator.inputs)
        operators.append(replace(operator, inputs=inputs))
        for name in operator.outputs:
            if name in scales:
                add_pair(name)
    graph.operators = operators


def _constant(graph: Graph, name: str, value: torch.Tensor) -> str:
    graph.constants[name] = value
    return name


def _quantize_conv(graph: Graph, operators: list[Operator], conv: Operator, input_scale: float) -> Operator:
    """Store weights in int8 with a scale for each filter, biases in int32; both dequantized by operators."""
    source, weights_name, *bias_names = conv.inputs
    _check_range(conv.outputs[0], graph.constants[weights_name])
    weights_FCKK = graph.constants.pop(weights_name).float()
    scale_F = (weights_FCKK.abs().amax((1, 2, 3)) / MAX_INT8).clamp(min=TINY_SCALE)
    stored = {"weights": ((weights_FCKK / scale_F[:, None, None, None]).round().to(torch.int8), scale_F)}
    for name in bias_names:
        bounds = torch.iinfo(torch.int32)
        rounded_F = (graph.constants.pop(name).double() / (scale_F * input_scale)).round()
        stored["biases"] = rounded_F.clamp(bounds.min, bounds.max).to(torch.int32), scale_F * input_scale
    inputs = [source]
    for array, (value, scales_F) in stored.items():
        inputs.append(f"{conv.outputs[0]}/{array}")
        zero_point_F = torch.zeros(len(scales_F), dtype=value.dtype)
        parts = (("quantized", value), ("scale", scales_F), ("zero_point", zero_point_F))
        names = tuple(_constant(graph, f"{inputs[-1]}/{part}", tensor) for part, tensor in parts)
        operators.append(Operator("DequantizeLinear", names, (inputs[-1],), {"axis": 0}))
    return replace(conv, inputs=tuple(inputs))
