"""A network on 8-bit numbers: what each layer's numbers are like is seen on images, and each gets its scale.

Convolutions, and what only moves numbers about, compute on codes. What needs more, such as the heads and the
convolutions that only they read, stays in float32.

Legend: B images, C H W channels, rows, columns, N histograms.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence

import torch

from darkpy.build import Plan
from darkpy.errors import DarkpyError
from darkpy.inference.executor import Function, is_left_out
from darkpy.layers.base import Layer
from darkpy.ops.codes import Scale

BINS = 2048
"""Of a layer's numbers on a batch, between the smallest and the largest."""


class Histograms:
    """How often each number was seen in each layer: in its output, and before the activation of a product."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, bool], list[tuple[torch.Tensor, torch.Tensor]]] = {}

    def add(self, index: int, x: torch.Tensor, *, is_raw: bool = False) -> None:
        low, high = (float(end) for end in torch.aminmax(x))
        half = (high - low) / BINS / 2
        value_N = torch.linspace(low + half, high - half, BINS)
        self._seen.setdefault((index, is_raw), []).append((value_N, torch.histc(x.float(), BINS, low, high)))

    def scale(self, index: int) -> Scale:
        """Of a layer's output."""
        return Scale.of(*self._all(index, is_raw=False))

    def raw_scale(self, index: int, activation: Callable[[torch.Tensor], torch.Tensor]) -> Scale:
        """Of what the activation reads."""
        return Scale.of(*self._all(index, is_raw=True), activation)

    def _all(self, index: int, *, is_raw: bool) -> tuple[torch.Tensor, torch.Tensor]:
        values, weights = zip(*self._seen[index, is_raw], strict=True)
        return torch.cat(values), torch.cat(weights)


def watch(plan: Plan, layers: Sequence[Layer], images: Iterable[torch.Tensor]) -> Histograms:
    """Run images, x_BCHW, through the folded layers. Raises: DarkpyError when there are none."""
    histograms = Histograms()
    count = 0
    for x_BCHW in images:
        count += len(x_BCHW)
        values = {-1: x_BCHW.contiguous(memory_format=torch.channels_last)}
        histograms.add(-1, x_BCHW)
        for node, layer in zip(plan.nodes, layers, strict=True):
            sources = [values[source] for source in node.sources]
            if layer.takes_codes and node.arrays:
                histograms.add(node.index, layer.before_activation(*sources), is_raw=True)
            values[node.index] = layer(*sources)
            histograms.add(node.index, values[node.index])
    if not count:
        raise DarkpyError("int8 needs images to see how large a layer's numbers become", hint="--calibrate names some")
    return histograms


def encode(plan: Plan, layers: Sequence[Layer], histograms: Histograms) -> dict[int, Function]:
    """The function of each layer that is not left out: on codes where that can be, else in float32."""
    wants_codes = _read_as_codes(plan, layers)
    codes: dict[int, Scale] = {}  # of the layers whose output is codes
    functions: dict[int, Function] = {}
    for node, layer in zip(plan.nodes, layers, strict=True):
        if is_left_out(node, layer):
            if node.sources[0] in codes:
                codes[node.index] = codes[node.sources[0]]
            continue
        # a product makes codes of float32 by itself, others do what they do on what they get
        has_codes = bool(node.arrays) or all(source in codes for source in node.sources)
        if layer.takes_codes and has_codes and node.index in wants_codes:
            scales = [codes.get(source) or histograms.scale(source) for source in node.sources]
            output = histograms.scale(node.index)
            raw = histograms.raw_scale(node.index, layer.activated) if node.arrays else output
            functions[node.index], codes[node.index] = layer.on_codes(scales, raw, output)
        else:
            # a product that only heads read loses less in bfloat16 than the codes that it reads have lost
            dtype = torch.bfloat16 if layer.takes_codes else torch.float32
            functions[node.index] = _decoded(layer.quicken(node.inputs, dtype), is_exact=layer.keeps_type)
    return functions


def encoded(plan: Plan, layers: Sequence[Layer], images: Iterable[torch.Tensor]) -> dict[int, Function]:
    """`watch` and `encode`. Raises: DarkpyError without images, and where torch computes nothing on codes."""
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.filterwarnings("ignore", ".*quantize", UserWarning)  # torch says that a later version drops them
        return encode(plan, layers, watch(plan, layers, images))


def _read_as_codes(plan: Plan, layers: Sequence[Layer]) -> set[int]:
    """The layers with a reader that computes on codes, seen through those that nothing happens in."""
    wanted: set[int] = set()
    for node, layer in reversed(list(zip(plan.nodes, layers, strict=True))):
        if node.index in wanted if is_left_out(node, layer) else layer.takes_codes:
            wanted.update(node.sources)
    return wanted


def _decoded(function: Function, *, is_exact: bool) -> Function:
    """The same reading codes too, and bfloat16 only where that is exact."""

    def decoded(*sources: torch.Tensor) -> torch.Tensor:
        decoded_sources = (x.dequantize() if x.is_quantized else x for x in sources)
        return function(*(decoded_sources if is_exact else (x.float() for x in decoded_sources)))

    return decoded
