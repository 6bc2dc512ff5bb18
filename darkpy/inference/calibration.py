"""Post-training quantization: the range of each layer's values on images sets its quantization parameters.

Convolutions, and layers that only move values, run in int8. The rest, such as the heads and the convolutions that only
they read, stays in floating point.

Legend: B images, C H W channels, rows, columns, N histogram bins.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple

import torch

from darkpy.build import Node, Plan
from darkpy.errors import DarkpyError
from darkpy.export.onnx_precision import ByteScale, Quantization
from darkpy.inference.executor import is_elided
from darkpy.inference.int8_ops import QuantParams, commutes_with_maximum, quantized_activation
from darkpy.inference.lowering import Function, Lowering, lower
from darkpy.inference.lowering_int8 import (
    int8_activation,
    lower_int8,
    pools_maxima,
    pre_activation,
    separate_activation,
    supports_int8,
)
from darkpy.layers.base import Layer
from darkpy.layers.loss import LossSpec
from darkpy.network import Network

HISTOGRAM_BINS = 2048
"""Histogram bins for the values of one layer on one batch, between the smallest and the largest."""


class Histograms:
    """Histograms of the values of each layer's output, and of the inputs of activations."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, bool], list[tuple[torch.Tensor, torch.Tensor]]] = {}

    def add(self, index: int, x: torch.Tensor, *, before_activation: bool = False) -> None:
        """Count the values of one batch. Raises: DarkpyError if one is NaN or infinite."""
        low, high = (float(end) for end in torch.aminmax(x))
        if not math.isfinite(high - low):
            raise DarkpyError(
                f"int8: layer {index} has values that are NaN or infinite",
                hint="its weights may be damaged, or belong to another cfg",
            )
        half_bin = (high - low) / HISTOGRAM_BINS / 2
        value_N = torch.linspace(low + half_bin, high - half_bin, HISTOGRAM_BINS)
        count_N = torch.histc(x.float(), HISTOGRAM_BINS, low, high)
        self._seen.setdefault((index, before_activation), []).append((value_N, count_N))

    def output_params(self, index: int) -> QuantParams:
        """Return the quantization parameters of a layer's output."""
        return QuantParams.from_histogram(*self._merged(index, before_activation=False))

    def raw_params(self, index: int, activation: Callable[[torch.Tensor], torch.Tensor]) -> QuantParams:
        """Return the quantization parameters of an activation's input."""
        return QuantParams.from_histogram(*self._merged(index, before_activation=True), activation)

    def _merged(self, index: int, *, before_activation: bool) -> tuple[torch.Tensor, torch.Tensor]:
        values, counts = zip(*self._seen[index, before_activation], strict=True)
        return torch.cat(values), torch.cat(counts)


def quantize_network(plan: Plan, layers: Sequence[Layer], images: Iterable[torch.Tensor]) -> dict[int, Function]:
    """Calibrate on images, then quantize the layers.

    Raises: DarkpyError without images, and if this build of torch has no int8 convolution.
    """
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.filterwarnings("ignore", ".*quantize", UserWarning)  # quantized tensors are deprecated
        return quantize_layers(plan, layers, calibrate(plan, layers, images))


def calibrate(plan: Plan, layers: Sequence[Layer], images: Iterable[torch.Tensor]) -> Histograms:
    """Run images, x_BCHW, through the folded layers. Raises: DarkpyError without images, and for NaN."""
    histograms = Histograms()
    count = 0
    for x_BCHW in images:
        count += len(x_BCHW)
        values = {-1: x_BCHW.contiguous(memory_format=torch.channels_last)}
        histograms.add(-1, x_BCHW)
        for node, layer in zip(plan.nodes, layers, strict=True):
            sources = [values[source] for source in node.sources]
            if int8_activation(layer) is not None:
                histograms.add(node.index, pre_activation(layer, *sources), before_activation=True)
            values[node.index] = layer(*sources)
            histograms.add(node.index, values[node.index])
    if not count:
        raise DarkpyError("int8 needs images to calibrate on", hint="give some with --calibrate")
    return histograms


def quantize_layers(plan: Plan, layers: Sequence[Layer], histograms: Histograms) -> dict[int, Function]:
    """Return the function of each layer that is not elided: int8 where possible, else float32 or bfloat16."""
    has_int8_readers = _with_int8_readers(plan, layers)
    quantized: dict[int, QuantParams] = {}  # of the layers whose output is quantized
    functions: dict[int, Function] = {}
    activations: dict[int, tuple[Function, QuantParams]] = {}  # and their outputs, by the layer after which they run
    for node, layer in zip(plan.nodes, layers, strict=True):
        if is_elided(node, layer):
            if node.sources[0] in quantized:
                quantized[node.index] = quantized[node.sources[0]]
            continue
        activation = int8_activation(layer)
        # a convolution quantizes a float32 input itself; other layers run in the type of their input
        has_int8_input = activation is not None or all(source in quantized for source in node.sources)
        if supports_int8(layer) and has_int8_input and node.index in has_int8_readers:
            sources = [quantized.get(source) or histograms.output_params(source) for source in node.sources]
            output = histograms.output_params(node.index)
            if (separate := separate_activation(layer)) is not None:
                pool = _only_pool(plan, layers, node) if commutes_with_maximum(separate) else None
                index = pool if pool in has_int8_readers else node.index
                activations[index] = quantized_activation(separate, output), output
                output = histograms.raw_params(node.index, separate)
            functions[node.index], quantized[node.index] = lower_int8(layer, sources, output)
            if node.index in activations:
                activate, quantized[node.index] = activations[node.index]
                functions[node.index] = _chained(functions[node.index], activate)
        else:
            # a convolution that only heads read: the error of bfloat16 is smaller than that of its quantized input
            dtype = torch.bfloat16 if supports_int8(layer) else torch.float32
            function = lower(layer, node.inputs, Lowering(dtype=dtype))
            functions[node.index] = _dequantized(function, accepts_bfloat16=layer.preserves_dtype)
    return functions


def _with_int8_readers(plan: Plan, layers: Sequence[Layer]) -> set[int]:
    """Return the layers with a reader that can run in int8, directly or behind elided layers."""
    indices: set[int] = set()
    for node, layer in reversed(list(zip(plan.nodes, layers, strict=True))):
        if node.index in indices if is_elided(node, layer) else supports_int8(layer):
            indices.update(node.sources)
    return indices


def _only_pool(plan: Plan, layers: Sequence[Layer], node: Node) -> int | None:
    """Return the maximum pooling that is the only reader of a layer: activated behind it, there are fewer values."""
    readers = [reader.index for reader in plan.nodes if node.index in reader.sources]
    return readers[0] if len(readers) == 1 and pools_maxima(layers[readers[0]]) else None


def _chained(first: Function, second: Function) -> Function:
    return lambda *sources: second(first(*sources))


def _dequantized(function: Function, *, accepts_bfloat16: bool) -> Function:
    """Return the function with its sources dequantized, and converted to float32 unless it accepts bfloat16."""

    def run(*sources: torch.Tensor) -> torch.Tensor:
        dequantized = (x.dequantize() if x.is_quantized else x for x in sources)
        return function(*(dequantized if accepts_bfloat16 else (x.float() for x in dequantized)))

    return run


def calibrate_for_export(network: Network, images: Iterable[torch.Tensor]) -> Quantization:
    """Scales for an exported network, of all convolutions but those that only heads read. Folds the network.

    Raises: DarkpyError without images.
    """
    plan, layers = network.plan, network.for_inference().built
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.filterwarnings("ignore", ".*quantize", UserWarning)  # quantized tensors are deprecated
        return _export_scales(plan, layers, calibrate(plan, layers, images))


def _export_scales(plan: Plan, layers: Sequence[Layer], histograms: Histograms) -> Quantization:
    read_by_layers = {source for node in plan.nodes if not isinstance(node.spec, LossSpec) for source in node.sources}
    outputs: dict[int, ByteScale] = {}
    products: dict[int, ByteScale] = {}
    read_in_int8 = _with_int8_readers(plan, layers)
    for index in sorted(read_by_layers):
        activation = None if index < 0 else int8_activation(layers[index])
        if activation is not None:
            products[index] = ByteScale(*astuple(histograms.raw_params(index, activation)))
        if activation is not None or index in read_in_int8:
            outputs[index] = ByteScale(*astuple(histograms.output_params(index)))
    return Quantization(outputs, products)
