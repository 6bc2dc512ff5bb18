"""[contrastive]: in training, embeddings of one object are drawn together, those of different ones apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from darkpy.config.net import NetSpec
from darkpy.config.schema import key
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, ShapeError
from darkpy.layers.anchors import FLT_MAX, AnchoredSpec
from darkpy.layers.base import Identity, Layer, LayerSpec, absolute, section
from darkpy.layers.loss import LossSpec
from darkpy.shapes import Shape


@section("contrastive", only=Dialect.ALEXEYAB)
@dataclass(frozen=True, kw_only=True, slots=True)
class ContrastiveSpec(LossSpec):
    """Hands its input on, as darknet's GPU code does; its CPU code leaves zeros.

    Source: AlexeyAB/darknet src/softmax_layer.c forward_contrastive_layer_gpu, src/parser.c parse_contrastive.
    """

    yolo_layer: int = key()  # the [yolo] whose labels say which embeddings belong together
    classes: int = key(1000)  # read, but those of the yolo layer count
    temperature: float = key(1.0)
    cls_normalizer: float = key(1.0)
    max_delta: float = key(FLT_MAX)
    contrastive_neg_max: int = key(3)

    def refers(self, index: int) -> tuple[int, ...]:
        return (absolute(self.yolo_layer, index),)

    def check_referred(self, inputs: Sequence[Shape], referred: Sequence[tuple[LayerSpec, Sequence[Shape]]]) -> None:
        ((head, _),) = referred
        if not isinstance(head, AnchoredSpec) or head.type != "yolo":
            raise DarkpyError(f"yolo_layer={self.yolo_layer} is no yolo layer but [{head.type}]")
        anchors = len(head.anchor_indices)
        if inputs[0].c % anchors:
            raise ShapeError(
                f"{inputs[0].c} channels cannot be split into embeddings of {anchors} anchors",
                hint="set filters in the convolutional before it to a multiple of the anchors",
            )

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return inputs[0]

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return Identity()
