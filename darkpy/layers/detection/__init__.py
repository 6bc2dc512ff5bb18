"""[detection]: boxes of YOLOv1, from one vector for the whole image.

Legend: B images, C elements of the vector, S = side * side cells, A boxes of a cell, K classes, M candidates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.dialect import Dialect
from darkpy.errors import ShapeError
from darkpy.finding import Finding
from darkpy.layers.base import Layer, section
from darkpy.layers.detection.delta import VectorParts, detection_loss
from darkpy.layers.head import HeadSpec, OnnxDetections, scores_above
from darkpy.layers.loss import Loss, TrainingState, mean_text
from darkpy.ops.boxes import Detections
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape


@section("detection")
@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionSpec(HeadSpec):
    """The vector holds the classes of each cell, then the objectness of each box, then the boxes (x, y, w, h).

    Source: pjreddie/darknet and AlexeyAB/darknet src/detection_layer.c, src/parser.c parse_detection.
    Differs: softmax=1 also applies at inference, as in darknet's CPU code; its GPU code skips it there. Boxes are
        always fractions of the image; in darknet they are so for `yolo test` alone.
    """

    needs_image: ClassVar[bool] = False
    corrects_letterbox: ClassVar[bool] = False

    coords: int = key(1, minimum=1)
    classes: int = key(1, minimum=0, usual=(0, 100000))
    num: int = key(1, minimum=1, usual=(1, 1000))
    side: int = key(7, minimum=1, usual=(1, 1000))
    softmax: bool = key(False)
    sqrt: bool = key(False)  # w and h are square roots
    max: int = key(90, alexeyab=200, minimum=1, usual=(1, 100000))

    rescore: bool = key(False)
    forced: bool = key(False)
    coord_scale: float = key(1.0, usual=(0, 1000))
    object_scale: float = key(1.0, usual=(0, 1000))
    noobject_scale: float = key(1.0, usual=(0, 1000))
    class_scale: float = key(1.0, usual=(0, 1000))
    jitter: float = key(0.2, usual=(0, 1))
    resize: float = key(1.0, dialect=Dialect.ALEXEYAB, usual=(0.1, 10))
    random: float = key(0.0, usual=(0, 10))
    reorg: bool = key(False)  # read by both dialects, without effect

    @property
    def class_count(self) -> int:
        return self.classes

    @property
    def input_count(self) -> int:
        return self.side**2 * ((1 + self.coords) * self.num + self.classes)

    def describe_input(self) -> str:
        return f"side={self.side}² x ((1 + coords={self.coords}) x num={self.num} + classes={self.classes})"

    @property
    def input_activations(self) -> tuple[str, ...]:
        return "linear", "logistic"  # all its values are fractions

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        (x,) = inputs
        if self.coords != 4:
            raise ShapeError(f"coords={self.coords}, but a box has 4", hint="set coords=4 (darknet's default is 1)")
        if x.outputs != self.input_count:
            raise ShapeError(
                f"reads {x.outputs} values, but {self.describe_input()} are {self.input_count}",
                hint=f"[connected] with output={self.input_count} right before it",
            )
        return Shape.vector(self.input_count)

    def lint(self, inputs: Sequence[Shape]) -> Iterator[Finding]:
        if not self.classes:
            message = "has classes=0: its boxes have no class, so that none is ever detected"
            yield Finding(name="no-classes", message=message, key="classes", hints=("classes=1",))

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return _Detection(self)

    def truth_shape(self, output: Shape) -> tuple[int, ...]:
        """Rows are cells: objectness (0 or 1), classes, and the box with x and y relative to the cell."""
        return (self.side**2, 1 + self.classes + self.coords)

    def loss(self, input_BCHW: Tensor, output_BCHW: Tensor, truth: Tensor, state: TrainingState) -> Loss:
        return detection_loss(self, input_BCHW, output_BCHW, truth, state.seen)

    def log_line(self, index: int, loss: Loss) -> str:
        report = loss.report
        iou, class_score, objectness = (
            mean_text(report[name], report["count"]) for name in ("iou", "class", "objectness")
        )
        return (
            f"Detection Avg IOU: {iou}, Pos Cat: {class_score}, "
            f"All Cat: {mean_text(report['any_class'], report['count'] * self.classes)}, Pos Obj: {objectness}, "
            f"Any Obj: {mean_text(report['any_objectness'], report['places'])}, count: {int(report['count'])}"
        )

    def decode(
        self,
        output_BCHW: Tensor,
        net_w: int,
        net_h: int,
        thresh: float,
        tree_thresh: float = 0.5,
        class_map: Sequence[int] = (),
    ) -> Detections:
        """All boxes of all cells, cell by cell; like darknet, without a threshold on objectness."""
        vector = VectorParts.split(self, output_BCHW.float())
        batch, cells, device = len(output_BCHW), self.side**2, output_BCHW.device
        xy_BSA2, wh_BSA2 = torch.split(vector.box_BSA4, 2, dim=3)
        cell_S = torch.arange(cells, device=device)
        corner_S12 = torch.stack((cell_S % self.side, cell_S // self.side), dim=1)[:, None]
        size_BSA2 = wh_BSA2.square() if self.sqrt else wh_BSA2
        prob_BSAK = vector.objectness_BSA[..., None] * vector.class_BSK[:, :, None]
        return Detections(
            torch.arange(batch, device=device).repeat_interleave(cells * self.num),
            torch.cat(((xy_BSA2 + corner_S12) / self.side, size_BSA2), dim=3).reshape(-1, 4),
            vector.objectness_BSA.reshape(-1),
            scores_above(prob_BSAK.flatten(0, 2), thresh),
        )

    def boxes_to_onnx(self, graph: Graph, source: Value, net_w: int, net_h: int) -> OnnxDetections:
        cells, boxes = self.side**2, self.side**2 * self.num
        vector = graph.reshape(source.name, 0, -1)
        class_BC, objectness_BC, box_BC = graph.split(vector, (cells * self.classes, boxes, boxes * 4), axis=1)
        class_BS1K = graph.reshape(class_BC, 0, cells, 1, self.classes)
        if self.softmax:
            class_BS1K = graph.add("Softmax", class_BS1K, axis=3)
        objectness_BSA1 = graph.reshape(objectness_BC, 0, cells, self.num, 1)
        scores = graph.reshape(graph.add("Mul", objectness_BSA1, class_BS1K), 0, boxes, self.classes)
        xy, wh = graph.split(graph.reshape(box_BC, 0, boxes, 4), (2, 2), axis=2)
        cell_M = torch.arange(cells).repeat_interleave(self.num)
        corner_1M2 = torch.stack((cell_M % self.side, cell_M // self.side), dim=1)[None]
        center = graph.add("Mul", graph.add("Add", xy, corner_1M2.float()), torch.tensor(1 / self.side))
        size = graph.add("Mul", wh, wh) if self.sqrt else wh
        objectness = graph.reshape(objectness_BC, 0, boxes, 1)
        return OnnxDetections(graph.add("Concat", center, size, axis=2), objectness, scores)


class _Detection(Layer):
    def __init__(self, spec: DetectionSpec) -> None:
        super().__init__()
        self.cells, self.classes, self.softmax = spec.side**2, spec.classes, spec.softmax

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BC = x_BCHW.flatten(1)
        if self.softmax:
            classes = self.cells * self.classes
            class_BSK = x_BC[:, :classes].reshape(len(x_BC), self.cells, self.classes).softmax(2)
            x_BC = torch.cat((class_BSK.flatten(1), x_BC[:, classes:]), dim=1)
        return x_BC[:, :, None, None]

    def to_onnx(self, graph: Graph, *sources: Value) -> str:
        ((x, shape),) = sources
        if not self.softmax:
            return x if shape == Shape.vector(shape.outputs) else graph.reshape(x, 0, -1, 1, 1)
        classes = self.cells * self.classes
        class_BC, rest_BC = graph.split(graph.reshape(x, 0, -1), (classes, shape.outputs - classes), axis=1)
        class_BSK = graph.add("Softmax", graph.reshape(class_BC, 0, self.cells, self.classes), axis=2)
        both_BC = graph.add("Concat", graph.reshape(class_BSK, 0, -1), rest_BC, axis=1)
        return graph.reshape(both_BC, 0, -1, 1, 1)
