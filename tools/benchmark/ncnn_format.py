"""A network as ncnn's param and bin files, for the comparison with it: layers of the usual detectors."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch

from darkpy.errors import DarkpyError
from darkpy.layers.convolutional import ConvolutionalSpec
from darkpy.layers.head import HeadSpec
from darkpy.layers.maxpool import MaxpoolSpec
from darkpy.layers.route import RouteSpec
from darkpy.layers.shortcut import ShortcutSpec
from darkpy.layers.upsample import UpsampleSpec
from darkpy.network import Network

INPUT_BLOB = "data"
_MAGIC_NUMBER = "7767517"
_ACTIVATIONS = {"linear": "", "relu": " 9=1", "leaky": " 9=2 -23310=1,0.1", "logistic": " 9=4", "mish": " 9=5"}
_LAYERS_BEHIND = {"swish": "Swish", "relu6": "Clip"}  # activations that are layers of their own


class NcnnWriter:
    """The lines of a param file and the arrays of a bin file. outputs: blobs of the heads' inputs, in cfg order."""

    def __init__(self, network: Network) -> None:
        self.lines: list[str] = []
        self.arrays: list[bytes] = []
        self._network = network.for_inference()
        self._blobs: dict[int, list[str]] = {}  # names for each reader of a layer
        self._blob_count = 0
        self._readers = Counter(source for node in network.plan.nodes for source in node.sources)
        shape = network.plan.input_shape
        self._add("Input", [], -1, f"0={shape.w} 1={shape.h} 2={shape.c}")
        self.outputs = []
        for node in network.plan.nodes:
            if isinstance(node.spec, HeadSpec):
                self.outputs.append(self._take(node.sources[0]))
            else:
                self._add_layer(node.index)
        if not self.outputs:
            self.outputs = [self._take(index) for index in network.outputs]

    def write(self, param: Path, weights: Path) -> None:
        head = f"{_MAGIC_NUMBER}\n{len(self.lines)} {self._blob_count}\n"
        param.write_text(head + "".join(f"{line}\n" for line in self.lines))
        weights.write_bytes(b"".join(self.arrays))

    def _add_layer(self, index: int) -> None:
        """Raises: DarkpyError for a layer without a form here."""
        node, layer = self._network.plan.nodes[index], self._network.built[index]
        sources, spec = [self._take(source) for source in node.sources], node.spec
        if isinstance(spec, ConvolutionalSpec):
            self._add_convolution(index, sources)
        elif isinstance(spec, MaxpoolSpec) and not spec.antialiasing and not spec.maxpool_depth:
            before, below, right = spec.window.borders(node.inputs[0])
            down, across = spec.strides
            pads = f"3={before} 13={before} 14={right} 15={below} 5=1"
            self._add("Pooling", sources, index, f"0=0 1={spec.window.size} 2={across} 12={down} {pads}")
        elif isinstance(spec, ShortcutSpec) and len(sources) == 2 and spec.activation == "linear":
            self._add("BinaryOp", sources, index, "0=0")
        elif isinstance(spec, UpsampleSpec) and spec.scale == 1:
            self._add("Interp", sources, index, f"0=1 1={spec.stride} 2={spec.stride}")
        elif isinstance(spec, RouteSpec) and spec.groups == 1:
            self._add("Concat" if len(sources) > 1 else "Noop", sources, index, "0=0")
        elif isinstance(spec, RouteSpec) and len(sources) == 1:
            first = spec.group_id * node.shape.c
            self._add("Crop", sources, index, f"-23309=1,{first} -23310=1,{first + node.shape.c} -23311=1,0")
        elif layer.is_identity:
            self._add("Noop", sources, index, "")
        else:
            raise DarkpyError(f"layer {index} [{spec.type}] has no ncnn form in this benchmark")

    def _add_convolution(self, index: int, sources: list[str]) -> None:
        layer, spec = self._network.built[index], self._network.plan.nodes[index].spec
        assert isinstance(spec, ConvolutionalSpec)
        weights, biases = layer.get_parameter("weights").detach(), layer.get_parameter("biases").detach()
        (down, across), groups = spec.conv_strides, spec.group_count
        type_ = "Convolution" if groups == 1 else "ConvolutionDepthWise"
        keys = f"0={spec.filters} 1={spec.size} 2={spec.effective_dilation} 3={across} 13={down}"
        keys += (
            f" 4={spec.border * spec.effective_dilation} 5=1 6={weights.numel()}{f' 7={groups}' if groups > 1 else ''}"
        )
        is_layer = spec.activation in _LAYERS_BEHIND
        if not is_layer and spec.activation not in _ACTIVATIONS:
            raise DarkpyError(f"activation {spec.activation} has no ncnn form in this benchmark")
        self.arrays += [bytes(4), _pack(weights), _pack(biases)]  # four zero bytes: float32
        keys += _ACTIVATIONS.get(spec.activation, "")
        self._add(type_, sources, index, keys, behind=_LAYERS_BEHIND.get(spec.activation))

    def _add(self, type_: str, sources: list[str], index: int, keys: str, *, behind: str | None = None) -> None:
        """Add a layer, the layer behind it, and copies of its blob if several layers read it."""
        name = INPUT_BLOB if index < 0 else str(index)
        blob = f"{name}_raw" if behind else name
        self._write_line(type_, f"{type_}_{name}", sources, [blob], keys)
        if behind:
            self._write_line(behind, f"{behind}_{name}", [blob], [name], "0=0 1=6" if behind == "Clip" else "")
        readers = self._readers[index]
        self._blobs[index] = [name] if readers < 2 else [f"{name}_{copy}" for copy in range(readers)]
        if readers > 1:
            self._write_line("Split", f"Split_{name}", [name], self._blobs[index], "")

    def _write_line(self, type_: str, name: str, sources: list[str], targets: list[str], keys: str) -> None:
        self._blob_count += len(targets)
        self.lines.append(" ".join([type_, name, str(len(sources)), str(len(targets)), *sources, *targets, keys]))

    def _take(self, index: int) -> str:
        blobs = self._blobs[index]
        return blobs.pop() if len(blobs) > 1 else blobs[0]


def _pack(array: torch.Tensor) -> bytes:
    return array.contiguous().numpy().tobytes()
