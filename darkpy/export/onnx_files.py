"""`.onnx`: a network as a graph that ONNX Runtime, OpenCV and others run, batch norm folded into the weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from darkpy.errors import DarkpyError
from darkpy.evaluation.detect import DetectOptions
from darkpy.export.onnx_graph import INPUT, OnnxOptions, Output, build_graph
from darkpy.export.state_dict import PREFIX, WeightsMetadata
from darkpy.layers.base import field_values
from darkpy.network import Network
from darkpy.ops.onnx_builder import OPSET, Graph, to_numpy

IR_VERSION = 8  # that of opset 17, so that old runtimes read it too


def pack_onnx(network: Network, about: WeightsMetadata, options: OnnxOptions) -> Iterator[bytes]:
    """The bytes of a file. The network is folded, and good for nothing but inference from then on.

    Raises: DarkpyError naming the layer that ONNX cannot say; or without the package onnx.
    """
    try:
        import onnx
    except ImportError:
        raise DarkpyError("writing ONNX needs the package onnx", hint="pip install darkpy[onnx]") from None
    _check_weights(network)
    graph, outputs = build_graph(network.for_inference(), options)
    model = _model(onnx, graph, (INPUT, ("batch", *network.plan.input_shape)), outputs)
    texts = about.as_texts() | {
        f"{PREFIX}anchors": json.dumps(_anchors(network)),
        f"{PREFIX}output": options.form,
        f"{PREFIX}image": "letterboxed" if DetectOptions().resolved(network).letterbox else "stretched",
    }
    onnx.helper.set_model_props(model, texts)
    yield model.SerializeToString()


def _check_weights(network: Network) -> None:
    """Raises: DarkpyError when a layer's weights were given up for speed; those of a folded norm are not needed."""
    for node, layer in zip(network.plan.nodes, network.built, strict=True):
        for array_spec in node.arrays:
            if array_spec.is_decayed and layer.array(array_spec) is None:
                raise DarkpyError(
                    f"{network.plan.place(node.index)}: its {array_spec.name} were given up for speed",
                    hint="write the file before darkpy.accelerate",
                )


def dropped_by_onnx(network: Network, options: OnnxOptions) -> list[str]:
    """What such a file does not carry over, in words; to be asked before the network is folded."""
    said = []
    if any(array_spec.is_norm for node in network.plan.nodes for array_spec in node.arrays):
        said.append("batch norm is folded into the weights: an ONNX file computes the same, and there is no way back")
    kind = network.heads[-1].nms[0] if network.heads else "default"
    if options.nms is not None and kind != "default":
        said.append(f"nms_kind={kind} is not carried over: ONNX suppresses by plain intersection over union")
    return said


def _model(onnx: Any, graph: Graph, x: tuple[str, Sequence[int | str]], outputs: Sequence[Output]) -> Any:
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node(one.type, one.inputs, one.outputs, name=one.outputs[0], **one.attributes)
        for one in graph.operators
    ]
    made = helper.make_graph(
        nodes,
        "darkpy",
        [helper.make_tensor_value_info(x[0], real, x[1])],
        [helper.make_tensor_value_info(name, real, shape) for name, shape in outputs],
        [onnx.numpy_helper.from_array(to_numpy(tensor), name) for name, tensor in graph.constants.items()],
    )
    return helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="darkpy",
    )


def _anchors(network: Network) -> dict[str, Any]:
    """For each head what one needs to know to read it: the cfg's own words."""
    wanted = {"anchors", "mask", "num", "classes", "scale_x_y", "new_coords"}
    return {
        f"layer{index}": {name: value for name, value in field_values(network.plan.nodes[index].spec) if name in wanted}
        for index in network.outputs
        if network.heads
    }
