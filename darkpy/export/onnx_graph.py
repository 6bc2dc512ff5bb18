"""A whole network as a graph of ONNX operators: those of its layers, and the decoding that the options ask for."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from darkpy.build import resize_plan
from darkpy.errors import DarkpyError
from darkpy.export.onnx_precision import FLOAT32_CODE, Quantization, quantize_graph
from darkpy.layers.head import HeadSpec, OnnxDetections
from darkpy.layers.loss import LossSpec
from darkpy.network import Network
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape

INPUT_NAME = "x"
BOX_FORMS = ("boxes", "rows", "corners")


class Output(NamedTuple):
    """An output of the graph; words in its shape are dynamic dimensions."""

    name: str
    shape: tuple[int | str, ...]


OUTPUT_FORMS = ("heads", "raw", "boxes", "rows", "corners")


@dataclass(frozen=True, slots=True)
class OnnxOptions:
    """Outputs of the graph.

    form: "heads": those of `Network`, each as `layer16`. "raw": what the heads read, named after the layer that
        computes it, `layer15`. "boxes": of all heads together `boxes` (B, M, 4) and
        `scores` (B, M, K). "rows": of each head (B * M, 5 + K) with box, objectness and scores in a row, as OpenCV's
        importer of darknet files returned them. "corners": of all heads together `output` (B, M, 6) with x1, y1, x2,
        y2 in pixels of the input, the best class's score and its number, as DeepStream's parsers read them.
    nms: with "boxes", IoU above which the lower-scored box of a class is suppressed; `detections` (N, 7) with image,
        class, score, box in a row replace the others. None keeps all.
    thresh: with nms, scores must be above it.
    precision: "fp32"; "fp16": of the weights and, in ONNX, of all values between input and outputs; "int8": of the
        convolutions, by `quantization`.
    dynamic_size: height and width of the input are those of each call.
    Units: boxes in center form, fractions of the network's input.
    """

    form: str = "heads"
    nms: float | None = None
    thresh: float = 0.25
    precision: str = "fp32"
    dynamic_size: bool = False
    quantization: Quantization | None = None


def build_graph(network: Network, options: OnnxOptions, graph: Graph | None = None) -> tuple[Graph, list[Output]]:
    """Build the operators that lead to the requested outputs, and no others.

    network: folded (`for_inference`). graph: an empty one, with the activations that the target has.
    Raises: DarkpyError naming a layer that ONNX cannot express, or when boxes are requested of a network without heads.
    """
    plan = network.plan
    if options.form in BOX_FORMS and not network.heads:
        raise DarkpyError(f"{plan.file} has no detection layer: it gives no boxes")
    _check_weights(network)
    ends = network.outputs
    if options.form != "heads":  # boxes are decoded from the heads' inputs; the heads' own operators are not needed
        ends = raw_outputs(network)
    needed: set[int] = set()
    pending = list(ends)
    while pending:
        index = pending.pop()
        if index >= 0 and index not in needed:
            needed.add(index)
            pending += plan.nodes[index].sources
    graph = graph or Graph(dynamic_size=options.dynamic_size)
    x = INPUT_NAME if network.normalize is None else network.normalize.to_onnx(graph, INPUT_NAME)
    values = {-1: Value(x, plan.input_shape)}
    for node, layer in zip(plan.nodes, network.built, strict=True):
        if node.index not in needed:
            continue
        graph.scope = f"layer{node.index}"
        try:
            name = layer.to_onnx(graph, *(values[source] for source in node.sources))
        except DarkpyError as error:
            raise DarkpyError(f"{plan.place(node.index)}: {error.message}", hint=error.hint) from error
        values[node.index] = Value(name, node.shape)
    if options.quantization is not None:
        quantize_graph(graph, values, options.quantization)
    if options.form not in BOX_FORMS:
        return graph, _name_layers(graph, values, tuple(dict.fromkeys(ends)))
    decoded = _decode_heads(network, graph, values)
    if options.form == "rows":
        return graph, [_row_output(network, graph, index, head) for index, head in decoded.items()]
    return graph, _box_outputs(network, graph, list(decoded.values()), options)


def raw_outputs(network: Network) -> tuple[int, ...]:
    """Return the layers whose values the network's heads read; a layer without a loss is its own."""
    nodes = [network.plan.nodes[index] for index in network.outputs]
    return tuple(node.sources[0] if isinstance(node.spec, LossSpec) else node.index for node in nodes)


def check_any_size(network: Network, options: OnnxOptions) -> None:
    """Raises: DarkpyError naming a layer whose operators at another input size would be others."""
    if options.form in BOX_FORMS:
        raise DarkpyError("boxes depend on the input's size", hint="--output heads or raw with --dynamic-size")
    plan, other = network.plan, copy.copy(network)
    other.plan = resize_plan(plan, 2 * plan.net.width, 2 * plan.net.height)
    (graph, _), (other_graph, _) = build_graph(network, options), build_graph(other, options)
    for operator, twin in zip(graph.operators, other_graph.operators, strict=True):
        values = [(graph.constants.get(name), other_graph.constants.get(name)) for name in operator.inputs]
        is_same = all(b is None if a is None else b is not None and torch.equal(a, b) for a, b in values)
        if operator != twin or not is_same:
            scope = operator.outputs[0].partition("/")[0].removeprefix("layer")
            place = plan.place(int(scope)) if scope.isdecimal() else plan.file
            raise DarkpyError(
                f"{place}: its {operator.type} depends on the input's size",
                hint="leave --dynamic-size out, and write a file for each --size",
            )


def _check_weights(network: Network) -> None:
    """Raises: DarkpyError if a backend has taken weights over."""
    for node, layer in zip(network.plan.nodes, network.built, strict=True):
        for array_spec in node.arrays:
            if array_spec.is_decayed and layer.array(array_spec) is None:
                raise DarkpyError(
                    f"{network.plan.place(node.index)}: its {array_spec.name} were discarded for speed",
                    hint="write the file before darkpy.accelerate",
                )


def _name_layers(graph: Graph, values: Mapping[int, Value], heads: Sequence[int]) -> list[Output]:
    """Name the outputs `layer7`.

    A tensor of a graph has one name. So an output that is also the graph's input, a constant or another output gets an
    Identity operator, whose result can have its own name.
    """
    names: dict[str, str] = {}
    computed = {name for operator in graph.operators for name in operator.outputs}
    for index in heads:
        old, new = values[index].name, f"layer{index}"
        if old in computed and old not in names:
            names[old] = new
            graph.rename(old, new)
        else:
            graph.rename(graph.add("Identity", names.get(old, old)), new)
    return [Output(f"layer{index}", ("batch", *_sides(graph, index, values[index].shape))) for index in heads]


def _sides(graph: Graph, index: int, shape: Shape) -> tuple[int | str, ...]:
    return (shape.c, f"rows{index}", f"columns{index}") if graph.dynamic_size else tuple(shape)


def _decode_heads(network: Network, graph: Graph, values: Mapping[int, Value]) -> dict[int, OnnxDetections]:
    """Boxes, objectness and scores of each head."""
    net = network.plan.input_shape
    decoded: dict[int, OnnxDetections] = {}
    for index in network.outputs:
        node = network.plan.nodes[index]
        assert isinstance(node.spec, HeadSpec)
        graph.scope = f"layer{index}"
        try:
            decoded[index] = node.spec.boxes_to_onnx(graph, values[node.sources[0]], net.w, net.h)
        except DarkpyError as error:
            raise DarkpyError(
                f"{network.plan.place(index)}: {error.message}", hint="--output heads writes the layer's own output"
            ) from error
    return decoded


def _row_output(network: Network, graph: Graph, index: int, head: OnnxDetections) -> Output:
    graph.scope = f"layer{index}"
    if head.objectness is None:
        raise DarkpyError(f"{network.plan.place(index)}: its boxes have no objectness to put into rows")
    entries = 5 + network.heads[network.outputs.index(index)].class_count
    rows = graph.add("Concat", head.boxes, head.objectness, head.scores, axis=2)
    name = f"layer{index}"
    graph.rename(graph.reshape(rows, -1, entries), name)
    return Output(name, ("rows", entries))


def _box_outputs(network: Network, graph: Graph, heads: Sequence[OnnxDetections], options: OnnxOptions) -> list[Output]:
    """`boxes` and `scores` of all heads together, or `detections` after suppression."""
    classes = {head.class_count for head in network.heads}
    if len(classes) > 1:
        raise DarkpyError(
            f"{network.plan.file}: its heads have {sorted(classes)} classes, one array of scores cannot hold them",
            hint="--output rows keeps each head's own",
        )
    graph.scope = "found"
    boxes, scores = heads[0].boxes, heads[0].scores
    if len(heads) > 1:
        boxes = graph.add("Concat", *(head.boxes for head in heads), axis=1)
        scores = graph.add("Concat", *(head.scores for head in heads), axis=1)
    if options.form == "corners":
        return [_corner_output(graph, boxes, scores, network.plan.input_shape)]
    if options.nms is None:
        graph.rename(boxes, "boxes")
        graph.rename(scores, "scores")
        return [Output("boxes", ("batch", "candidates", 4)), Output("scores", ("batch", "candidates", "classes"))]
    scores_BKM = graph.add("Transpose", scores, perm=(0, 2, 1))
    # rows of image, class, candidate; the largest int32 for "no limit of boxes per class"
    selected_N3 = graph.add(
        "NonMaxSuppression",
        boxes,
        scores_BKM,
        torch.tensor([2**31 - 1]),
        torch.tensor([options.nms]),
        torch.tensor([options.thresh]),
        center_point_box=1,
    )
    # GatherND reads boxes[image, candidate] and scores[image, class, candidate] for each row
    box_N4 = graph.add("GatherND", boxes, graph.add("Gather", selected_N3, torch.tensor([0, 2]), axis=1))
    score_N1 = graph.reshape(graph.add("GatherND", scores_BKM, selected_N3), -1, 1)
    image_and_class_N2 = graph.add("Cast", graph.slice(selected_N3, {1: (0, 2, 1)}), to=FLOAT32_CODE)
    graph.rename(graph.add("Concat", image_and_class_N2, score_N1, box_N4, axis=1), "detections")
    return [Output("detections", ("found", 7))]


def _corner_output(graph: Graph, boxes: str, scores: str, shape: Shape) -> Output:
    net_2 = torch.tensor((shape.w, shape.h), dtype=torch.float32)
    center, size = (graph.add("Mul", part, net_2) for part in graph.split(boxes, (2, 2), axis=2))
    half_size = graph.add("Mul", size, torch.tensor(0.5))
    corners = (graph.add(type, center, half_size) for type in ("Sub", "Add"))
    score = graph.add("ReduceMax", scores, axes=(2,), keepdims=1)
    class_number = graph.add("Cast", graph.add("ArgMax", scores, axis=2, keepdims=1), to=FLOAT32_CODE)
    graph.rename(graph.add("Concat", *corners, score, class_number, axis=2), "output")
    return Output("output", ("batch", "candidates", 6))
