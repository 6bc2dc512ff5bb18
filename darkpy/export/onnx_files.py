"""`.onnx` files: a network as a graph for ONNX Runtime, OpenCV and others, batch norm folded into the weights."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from darkpy.errors import DarkpyError
from darkpy.evaluation.detect import DetectOptions
from darkpy.export.onnx_graph import INPUT_NAME, OUTPUT_FORMS, OnnxOptions, build_graph, check_any_size
from darkpy.export.onnx_precision import halve_graph
from darkpy.export.state_dict import METADATA_PREFIX, WeightsMetadata
from darkpy.files import write_atomic
from darkpy.layers.base import field_values
from darkpy.network import Network, require_network
from darkpy.ops.onnx_builder import ONNX_OPSET, to_numpy

IR_VERSION = 8  # that of opset 17, so that older runtimes read it, too
HEAD_KEYS = {"anchors", "mask", "num", "classes", "scale_x_y", "new_coords"}
"""Keys that are needed to decode a head's output, written into the file's metadata."""


def pack_onnx(network: Network, metadata: WeightsMetadata, options: OnnxOptions) -> Iterator[bytes]:
    """Yield the bytes of a file. The network is folded by this, and can only be used for inference afterwards.

    Raises: DarkpyError naming a layer that ONNX cannot express; or without the package onnx.
    """
    try:
        import onnx
    except ImportError:
        raise DarkpyError("writing ONNX needs the package onnx", hint='pip install "darkpy-yolo[onnx]"') from None
    network.for_inference()
    if options.dynamic_size:
        check_any_size(network, options)
    graph, outputs = build_graph(network, options)
    if options.precision == "fp16":
        halve_graph(graph, INPUT_NAME, [name for name, _ in outputs])
    sides = network.plan.input_shape
    input_shape = ("batch", sides.c, "height", "width") if options.dynamic_size else ("batch", *sides)
    helper: Any = onnx.helper  # its type hints exclude attributes passed by name
    float32 = onnx.TensorProto.FLOAT
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node(
                    operator.type, operator.inputs, operator.outputs, name=operator.outputs[0], **operator.attributes
                )
                for operator in graph.operators
            ],
            "darkpy",
            [helper.make_tensor_value_info(INPUT_NAME, float32, input_shape)],
            [helper.make_tensor_value_info(name, float32, shape) for name, shape in outputs],
            [onnx.numpy_helper.from_array(to_numpy(tensor), name) for name, tensor in graph.constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", ONNX_OPSET)],
        ir_version=IR_VERSION,
        producer_name="darkpy",
    )
    heads = {
        f"layer{index}": {
            name: value for name, value in field_values(network.plan.nodes[index].spec) if name in HEAD_KEYS
        }
        for index in network.outputs
        if network.heads
    }
    texts = metadata.as_texts() | {
        f"{METADATA_PREFIX}anchors": json.dumps(heads),
        f"{METADATA_PREFIX}output": options.form,
        f"{METADATA_PREFIX}size": f"{sides.w}x{sides.h}",
        f"{METADATA_PREFIX}image": "letterboxed" if DetectOptions().resolved(network).letterbox else "stretched",
    }
    helper.set_model_props(model, texts)
    yield model.SerializeToString()


def dropped_by_onnx(network: Network, options: OnnxOptions) -> list[str]:
    """List what such a file does not carry over, as messages; to be called before the network is folded."""
    messages = []
    if any(array_spec.is_norm for node in network.plan.nodes for array_spec in node.arrays):
        messages.append("batch norm is folded into the weights: outputs are the same, but it cannot be converted back")
    if options.form == "corners":
        messages.append("a box has its best class only: the others that darknet reports of it are lost")
    kind = network.heads[-1].nms[0] if network.heads else "default"
    if options.nms is not None and kind != "default":
        messages.append(f"nms_kind={kind} is not carried over: ONNX suppresses by plain intersection over union")
    return messages


def export_onnx(
    network: Network,
    path: str | os.PathLike[str],
    *,
    outputs: str = "heads",
    nms: float | None = None,
    thresh: float = 0.25,
    names: Sequence[str] = (),
    overwrite: bool = False,
    precision: str = "fp32",
    dynamic_size: bool = False,
) -> Path:
    """Write an ONNX file, as `darkpy convert` does, and return its path. The network itself stays as it is.

    outputs: "heads", the outputs of `Network`; "raw", what the heads read; "boxes", boxes and scores of all heads
        together; "rows", as OpenCV's importer of darknet files returned them; "corners", x1, y1, x2, y2, score, class.
    nms: with "boxes", IoU above which the lower-scored box of a class is suppressed, for scores above `thresh`.
    names: class names, for the file's metadata.
    precision: "fp32" or "fp16". dynamic_size: the file takes any height and width that fit the network.
    Raises: DarkpyError when a layer has no ONNX form, after `accelerate`, when the file exists and is not to be
        overwritten, or without the package onnx.
    """
    require_network(network, "export_onnx")
    if outputs not in OUTPUT_FORMS:
        raise DarkpyError(f"outputs={outputs!r} is unknown", hint=f"one of {', '.join(OUTPUT_FORMS)}")
    if nms is not None and outputs != "boxes":
        raise DarkpyError(f"nms needs boxes, and outputs={outputs!r} has none", hint='outputs="boxes"')
    if precision not in ("fp32", "fp16"):
        raise DarkpyError(f"precision={precision!r} is unknown", hint="fp32 or fp16; int8 needs darkpy convert")
    target, cfg = Path(path), Path(network.plan.file)
    if target.exists() and not overwrite:
        raise DarkpyError(f"{target}: already exists", hint="overwrite=True replaces it")
    text = cfg.read_bytes().decode("utf-8-sig", errors="replace") if cfg.is_file() else None
    metadata = WeightsMetadata(network.header, None, text, network.plan.dialect, tuple(names))
    options = OnnxOptions(outputs, nms, thresh, precision, dynamic_size)
    chunks = pack_onnx(copy.deepcopy(network), metadata, options)
    write_atomic(target, chunks)
    return target
