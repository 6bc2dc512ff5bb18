"""A whole network as a graph of ONNX operators: those of its layers, and the decoding that the options ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from darkpy.errors import DarkpyError
from darkpy.layers.head import HeadSpec, OnnxDetections
from darkpy.network import Network
from darkpy.ops.onnx_builder import Graph, Value

INPUT_NAME = "x"


class Output(NamedTuple):
    """An output of the graph; words in its shape are dynamic dimensions."""

    name: str
    shape: tuple[int | str, ...]


OUTPUT_FORMS = ("heads", "boxes", "rows")


@dataclass(frozen=True, slots=True)
class OnnxOptions:
    """Outputs of the graph.

    form: "heads": those of `Network`, each as `layer16`. "boxes": of all heads together `boxes` (B, M, 4) and
        `scores` (B, M, K). "rows": of each head (B * M, 5 + K) with box, objectness and scores in a row, as OpenCV's
        importer of darknet files returned them.
    nms: with "boxes", IoU above which the lower-scored box of a class is suppressed; `detections` (N, 7) with image,
        class, score, box in a row replace the others. None keeps all.
    thresh: with nms, scores must be above it.
    precision: of the weights of convolutions, "fp32" or "fp16".
    Units: boxes in center form, fractions of the network's input.
    """

    form: str = "heads"
    nms: float | None = None
    thresh: float = 0.25
    precision: str = "fp32"


def build_graph(network: Network, options: OnnxOptions, graph: Graph | None = None) -> tuple[Graph, list[Output]]:
    """Build the operators that lead to the requested outputs, and no others.

    network: folded (`for_inference`). graph: an empty one, with the activations that the target has.
    Raises: DarkpyError naming a layer that ONNX cannot express, or when boxes are requested of a network without heads.
    """
    plan = network.plan
    if options.form != "heads" and not network.heads:
        raise DarkpyError(f"{plan.file} has no detection layer: it gives no boxes")
    ends = network.outputs
    if options.form != "heads":  # boxes are decoded from the heads' inputs; the heads' own operators are not needed
        ends = tuple(source for index in ends for source in plan.nodes[index].sources)
    needed: set[int] = set()
    pending = list(ends)
    while pending:
        index = pending.pop()
        if index >= 0 and index not in needed:
            needed.add(index)
            pending += plan.nodes[index].sources
    graph = graph or Graph()
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
    if options.form == "heads":
        return graph, _name_heads(graph, values, network.outputs)
    decoded = _decode_heads(network, graph, values)
    if options.form == "rows":
        return graph, [_row_output(network, graph, index, head) for index, head in decoded.items()]
    return graph, _box_outputs(network, graph, list(decoded.values()), options)


def _name_heads(graph: Graph, values: Mapping[int, Value], heads: Sequence[int]) -> list[Output]:
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
    return [Output(f"layer{index}", ("batch", *values[index].shape)) for index in heads]


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
    image_and_class_N2 = graph.add("Cast", graph.slice(selected_N3, {1: (0, 2, 1)}), to=1)  # 1 is float32
    graph.rename(graph.add("Concat", image_and_class_N2, score_N1, box_N4, axis=1), "detections")
    return [Output("detections", ("found", 7))]
