"""ncnn's `.param` (layers) and `.bin` (weights), written from the plan without ncnn, and run by its Python package.

Legend: B images, C H W channels, rows, columns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from darkpy.errors import DarkpyError
from darkpy.export.ncnn_layers import NATIVE_ACTIVATIONS, NcnnBuilder, NcnnLayer, Parameter, input_layer
from darkpy.export.onnx_graph import INPUT_NAME, OnnxOptions, build_graph
from darkpy.network import Network
from darkpy.ops.onnx_builder import Graph

PARAM_MAGIC_NUMBER = "7767517"
FLOAT16_MARK, FLOAT32_MARK = 0x01306B47, 0
MAX_FLOAT16 = 65504.0


@dataclass(frozen=True, slots=True)
class NcnnFiles:
    """A network for ncnn. param: text. arrays: what the bin file holds. outputs: names of the blobs to extract."""

    param: str
    arrays: tuple[bytes, ...]
    outputs: tuple[str, ...]


def pack_ncnn(network: Network, options: OnnxOptions) -> NcnnFiles:
    """Write a network as ncnn's layers. The network is folded by this, and can only be used for inference afterwards.

    Raises: DarkpyError naming a layer that ncnn does not have.
    """
    if options.nms is not None:
        raise DarkpyError("ncnn has no suppression of boxes by class", hint="leave --nms out")
    graph, outputs = build_graph(network.for_inference(), options, Graph(NATIVE_ACTIVATIONS))
    names = tuple(name for name, _ in outputs)
    reads = Counter(name for operator in graph.operators for name in operator.inputs)
    reads.update(names)
    builder = NcnnBuilder(graph.constants)
    builder.add(input_layer(INPUT_NAME, network.plan.input_shape), network.plan.input_shape)
    for operator in graph.operators:
        try:
            builder.write(operator, reads)
        except DarkpyError as error:
            place = _place(network, operator.outputs[0])
            raise DarkpyError(f"{place}: {error.message}", hint="write an .onnx file for ONNX Runtime") from error
    for name in names:
        if builder.blobs[name].value is not None:  # a constant, such as the output of [implicit]
            stored = builder.blob(name, 3)
            next(layer for layer in builder.layers if stored in layer.targets).targets = [name]
    layers = _with_copies(builder.layers, names)
    blob_count = sum(len(layer.targets) for layer in layers)
    lines = [PARAM_MAGIC_NUMBER, f"{len(layers)} {blob_count}", *(_line(layer) for layer in layers)]
    arrays = tuple(array for layer in layers for array in _arrays(layer, half=options.precision == "fp16"))
    return NcnnFiles("\n".join(lines) + "\n", arrays, names)


def _place(network: Network, name: str) -> str:
    layer = re.match(r"layer(\d+)", name)
    return network.plan.file if layer is None else network.plan.place(int(layer[1]))


def _with_copies(layers: Sequence[NcnnLayer], outputs: Sequence[str]) -> list[NcnnLayer]:
    """Add a Split behind each blob that is read several times: ncnn hands a blob to one reader."""
    reads = Counter(name for layer in layers for name in layer.sources)
    reads.update(outputs)
    copies: dict[str, list[str]] = {}
    result: list[NcnnLayer] = []
    for layer in layers:
        layer.sources = [copies[name].pop() if name in copies else name for name in layer.sources]
        result.append(layer)
        for position, name in enumerate(layer.targets):
            if reads[name] > 1:
                whole = name
                if name in outputs:  # one copy has its name
                    layer.targets[position] = whole = f"{name}/all"
                copies[name] = [f"{name}/copy{number}" for number in range(reads[name] - (name in outputs))]
                result.append(NcnnLayer("Split", [whole], [*([name] if name in outputs else []), *copies[name]]))
    return result


def _line(layer: NcnnLayer) -> str:
    words = [layer.type, layer.targets[0], str(len(layer.sources)), str(len(layer.targets))]
    parameters = [f"{key}={_text(value)}" for key, value in layer.parameters.items()]
    return " ".join((*words, *layer.sources, *layer.targets, *parameters))


def _text(value: Parameter) -> str:
    if isinstance(value, tuple):
        return ",".join((str(len(value)), *map(_text, value)))
    return repr(float(np.float32(value))) if isinstance(value, float) else str(value)


def _arrays(layer: NcnnLayer, *, half: bool) -> Iterator[bytes]:
    if layer.weights is not None:
        weights = layer.weights.detach().cpu()
        if half:
            if float(weights.abs().max()) > MAX_FLOAT16:
                raise DarkpyError(
                    f"{layer.targets[0]}: has weights above {MAX_FLOAT16:g}", hint="--precision fp32 stores them"
                )
            packed = weights.half().contiguous().numpy().tobytes()
            yield np.uint32(FLOAT16_MARK).tobytes() + packed + bytes(-len(packed) % 4)
        else:
            yield np.uint32(FLOAT32_MARK).tobytes() + weights.float().contiguous().numpy().tobytes()
    for array in layer.arrays:
        yield array.detach().cpu().float().contiguous().numpy().tobytes()


class NcnnRunner:
    """A network in ncnn, in float32 and with as many threads as torch; images are run one by one.

    Raises: DarkpyError without the package ncnn, or when it refuses the files.
    """

    def __init__(self, param: str, model: bytes, outputs: Sequence[str], *, name: str = "the network") -> None:
        try:
            import ncnn
        except ImportError:
            raise DarkpyError(
                "running a network in ncnn needs the package ncnn", hint='pip install "darkpy-yolo[ncnn]"'
            ) from None
        self._ncnn: Any = ncnn
        self._outputs = tuple(outputs)
        net = self._net = ncnn.Net()
        net.opt.num_threads = torch.get_num_threads()
        for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_packed", "bf16_storage"):
            setattr(net.opt, f"use_{option}", False)
        if net.load_param_mem(param) != 0:
            raise DarkpyError(f"{name}: ncnn cannot read its layers")
        net.load_model_mem(model)

    def __call__(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Outputs of each image in the order of `outputs`, with a batch axis in front."""
        images = [self._run(image_CHW) for image_CHW in x_BCHW.cpu().float().contiguous().numpy()]
        return [torch.from_numpy(np.stack(output)) for output in zip(*images, strict=True)]

    def _run(self, image_CHW: np.ndarray[Any, np.dtype[np.float32]]) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
        extractor = self._net.create_extractor()
        # a copy in ncnn's own memory: a first layer that works in place expects its alignment, and overwrites it
        if extractor.input(INPUT_NAME, self._ncnn.Mat(image_CHW).clone()) != 0:
            raise DarkpyError(f"it has no input {INPUT_NAME}", hint="darkpy convert writes such files")
        outputs = []
        for name in self._outputs:
            status, blob = extractor.extract(name)
            if status != 0:
                raise DarkpyError(f"ncnn cannot compute {name}")
            outputs.append(np.array(blob))
        return outputs


def run_ncnn(param: Path, x_BCHW: torch.Tensor) -> dict[str, torch.Tensor]:
    """Run a `.param` file and the `.bin` file beside it. Returns: outputs by name. Raises: DarkpyError."""
    text, model = param.read_text(), param.with_suffix(".bin").read_bytes()
    layers = [line.split() for line in text.splitlines()[2:]]
    read = {name for words in layers for name in words[4 : 4 + int(words[2])]}
    written = [name for words in layers for name in words[4 + int(words[2]) : 4 + int(words[2]) + int(words[3])]]
    outputs = [name for name in written if name not in read and "/" not in name]
    return dict(zip(outputs, NcnnRunner(text, model, outputs, name=str(param))(x_BCHW), strict=True))
