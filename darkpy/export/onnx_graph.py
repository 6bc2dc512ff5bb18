"""A whole network as a graph of ONNX operators: its layers' own, one after the other, and what is wanted of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from darkpy.errors import DarkpyError
from darkpy.layers.head import HeadSpec, OnnxDetections
from darkpy.network import Network
from darkpy.ops.onnx_builder import Graph, Value

INPUT = "x"
FORMS = ("heads", "boxes", "rows")


class Output(NamedTuple):
    """A result of the graph; words in its shape are sides that vary."""

    name: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class OnnxOptions:
    """What the graph gives.

    form: "heads": what `Network` returns, each as `layer16`. "boxes": of all heads together `boxes` (B, M, 4) and
        `scores` (B, M, K). "rows": of each head (B * M, 5 + K) with box, objectness and scores in a row, as OpenCV's
        reader of darknet's files gave them.
    nms: with "boxes", intersection over union above which the lower box of a class goes; `detections` (N, 7) with
        image, class, score, box in a row take the place of the others. None keeps all.
    thresh: with nms, what scores must be above.
    Units: boxes in center form, fractions of the network's input.
    """

    form: str = "heads"
    nms: float | None = None
    thresh: float = 0.25


def build_graph(network: Network, options: OnnxOptions) -> tuple[Graph, list[Output]]:
    """The operators that lead to the wanted outputs, and no others.

    network: folded (`for_inference`).
    Raises: DarkpyError naming the layer that ONNX cannot say, or when boxes are wanted of a network without heads.
    """
    plan = network.plan
    if options.form != "heads" and not network.heads:
        raise DarkpyError(f"{plan.file} has no detection layer: it gives no boxes")
    wanted = network.outputs
    if options.form != "heads":
        wanted = tuple(source for index in wanted for source in plan.nodes[index].sources)
    needed = _needed(network, wanted)
    graph = Graph()
    values = {-1: Value(_read(network, graph), plan.input_shape)}
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
        return graph, _finish(graph, values, network.outputs)
    said = _said(network, graph, values)
    if options.form == "rows":
        return graph, [_row(network, graph, index, one) for index, one in said.items()]
    graph.scope = "found"
    boxes, scores = (_joined(graph, names) for names in ([one.boxes for one in said.values()], _scores(network, said)))
    return graph, _together(graph, boxes, scores, options)


def _read(network: Network, graph: Graph) -> str:
    """The input as the first layers read it."""
    normalize = network.normalize
    return INPUT if normalize is None else normalize.to_onnx(graph, INPUT)


def _needed(network: Network, wanted: Sequence[int]) -> set[int]:
    """The layers that lead to the wanted ones, these included."""
    needed: set[int] = set()
    waiting = list(wanted)
    while waiting:
        index = waiting.pop()
        if index >= 0 and index not in needed:
            needed.add(index)
            waiting += network.plan.nodes[index].sources
    return needed


def _finish(graph: Graph, values: Mapping[int, Value], wanted: Sequence[int]) -> list[Output]:
    """Name the outputs; one that is the input, a constant or an earlier output needs an operator to have its own."""
    names: dict[str, str] = {}
    made = {name for one in graph.operators for name in one.outputs}
    for index in wanted:
        old, new = values[index].name, f"layer{index}"
        if old in made and old not in names:
            names[old] = new
            graph.rename(old, new)
        else:
            graph.rename(graph.add("Identity", names.get(old, old)), new)
    return [Output(f"layer{index}", ("batch", *values[index].shape)) for index in wanted]


def _said(network: Network, graph: Graph, values: Mapping[int, Value]) -> dict[int, OnnxDetections]:
    """What each head says: boxes, objectness, scores."""
    net, said = network.plan.input_shape, {}
    for index in network.outputs:
        node = network.plan.nodes[index]
        assert isinstance(node.spec, HeadSpec)
        graph.scope = f"layer{index}"
        try:
            said[index] = node.spec.boxes_to_onnx(graph, values[node.sources[0]], net.w, net.h)
        except DarkpyError as error:
            raise DarkpyError(
                f"{network.plan.place(index)}: {error.message}",
                hint="--output heads writes what the layer itself gives",
            ) from error
    return said


def _row(network: Network, graph: Graph, index: int, said: OnnxDetections) -> Output:
    graph.scope = f"layer{index}"
    if said.objectness is None:
        raise DarkpyError(f"{network.plan.place(index)}: its boxes have no objectness to put into rows")
    entries = 5 + network.heads[network.outputs.index(index)].class_count
    rows = graph.add("Concat", said.boxes, said.objectness, said.scores, axis=2)
    name = f"layer{index}"
    graph.rename(graph.reshape(rows, -1, entries), name)
    return Output(name, ("rows", entries))


def _scores(network: Network, said: dict[int, OnnxDetections]) -> list[str]:
    classes = {head.class_count for head in network.heads}
    if len(classes) > 1:
        raise DarkpyError(
            f"{network.plan.file}: its heads have {sorted(classes)} classes, one list of scores cannot hold them",
            hint="--output rows keeps each head's own",
        )
    return [one.scores for one in said.values()]


def _joined(graph: Graph, parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=1)


def _together(graph: Graph, boxes: str, scores: str, options: OnnxOptions) -> list[Output]:
    if options.nms is None:
        graph.rename(boxes, "boxes")
        graph.rename(scores, "scores")
        return [Output("boxes", ("batch", "candidates", 4)), Output("scores", ("batch", "candidates", "classes"))]
    scores_BKM = graph.add("Transpose", scores, perm=(0, 2, 1))
    selected_N3 = graph.add(
        "NonMaxSuppression",
        boxes,
        scores_BKM,
        torch.tensor([2**31 - 1]),
        torch.tensor([options.nms]),
        torch.tensor([options.thresh]),
        center_point_box=1,
    )
    box_N4 = graph.add("GatherND", boxes, graph.add("Gather", selected_N3, torch.tensor([0, 2]), axis=1))
    score_N1 = graph.reshape(graph.add("GatherND", scores_BKM, selected_N3), -1, 1)
    whose_N2 = graph.add("Cast", graph.slice(selected_N3, {1: (0, 2, 1)}), to=1)
    graph.rename(graph.add("Concat", whose_N2, score_N1, box_N4, axis=1), "detections")
    return [Output("detections", ("found", 7))]
