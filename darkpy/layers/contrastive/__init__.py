"""[contrastive]: a training loss that pulls embeddings of one object together and pushes those of others apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from darkpy.config.net import NetSpec
from darkpy.config.schema import MAX_INT, key
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, ShapeError
from darkpy.layers.anchors import FLT_MAX, AnchoredSpec
from darkpy.layers.base import Layer, LayerSpec, absolute_index, section
from darkpy.layers.contrastive.delta import contrastive_loss
from darkpy.layers.identity import Identity
from darkpy.layers.loss import Loss, LossSpec, TrainingState
from darkpy.shapes import Shape


@section("contrastive", dialect=Dialect.ALEXEYAB)
@dataclass(frozen=True, kw_only=True, slots=True)
class ContrastiveSpec(LossSpec):
    """Pass the input through, as darknet's GPU code does; its CPU code leaves zeros.

    Source: AlexeyAB/darknet src/softmax_layer.c forward_contrastive_layer_gpu, src/parser.c parse_contrastive.
    """

    yolo_layer: int = key()  # the [yolo] whose truth assigns embeddings to objects
    classes: int = key(1000, usual=(1, MAX_INT))  # read without effect: the yolo layer's are used
    temperature: float = key(1.0, minimum=1e-6, usual=(1e-3, 1000))
    cls_normalizer: float = key(1.0, usual=(0, 100))
    max_delta: float = key(FLT_MAX, usual=(1e-3, FLT_MAX))
    contrastive_neg_max: int = key(3, usual=(0, MAX_INT))

    head: AnchoredSpec | None = None  # the [yolo] itself, set by `resolve_shared`

    def shared_with(self, index: int) -> tuple[int, ...]:
        return (absolute_index(self.yolo_layer, index),)

    def check_shared(self, inputs: Sequence[Shape], shared: Sequence[tuple[LayerSpec, Sequence[Shape]]]) -> None:
        ((head, (head_input,)),) = shared
        if not isinstance(head, AnchoredSpec) or head.type != "yolo":
            raise DarkpyError(f"yolo_layer={self.yolo_layer} is [{head.type}], not [yolo]")
        anchors = len(head.anchor_indices)
        if inputs[0].c % anchors:
            raise ShapeError(
                f"{inputs[0].c} channels cannot be split into embeddings of {anchors} anchors",
                hint="set filters in the convolutional before it to a multiple of the anchors",
            )
        if (inputs[0].h, inputs[0].w) != (head_input.h, head_input.w):
            raise ShapeError(
                f"reads {inputs[0]}, but its yolo layer reads {head_input}: their grids must be the same",
                hint="take the embeddings from a layer of the yolo layer's size",
            )

    def resolve_shared(self, shared: Sequence[LayerSpec]) -> ContrastiveSpec:
        (head,) = shared
        assert isinstance(head, AnchoredSpec)
        return replace(self, head=head)

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return inputs[0]

    def build(self, inputs: Sequence[Shape], net: NetSpec) -> Layer:
        return Identity()

    @property
    def compares_images(self) -> bool:
        return True

    def truth_shape(self, output: Shape) -> tuple[int, ...]:
        assert self.head is not None
        return self.head.truth_shape(output)

    def row_sizes(self, output: Shape) -> tuple[int, ...]:
        assert self.head is not None
        return self.head.row_sizes(output)

    def loss(self, input_BCHW: Tensor, output_BCHW: Tensor, truth: Tensor, state: TrainingState) -> Loss:
        assert self.head is not None
        return contrastive_loss(self, self.head, input_BCHW, truth, state.net)

    def log_line(self, index: int, loss: Loss) -> str:
        count, good = int(loss.report["count"]), int(loss.report["good"])
        accuracy = 100 * good // count if count else -1
        return (
            f" Contrast accuracy = {accuracy:f} %, all = {count}, good = {good}, same = {count}, diff = {count} \n"
            f" contrastive loss = {float(loss.cost):f} "
        )
