"""Base class of the detection heads, which turn their output into boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from darkpy.config.classmap import read_class_map
from darkpy.errors import DarkpyError
from darkpy.layers.loss import LossSpec
from darkpy.ops.boxes import Detections
from darkpy.ops.matching import TargetBoxes, read_target_boxes
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.shapes import Shape


class AnchorKeys(NamedTuple):
    """Anchors of a head, as its cfg section gives them.

    indices: the anchors of the list that it predicts with. num: anchors in the list. entries: channels of an anchor.
    is_in_cells: True if widths and heights are in cells of the head's map, not pixels of the network's input.
    """

    indices: tuple[int, ...]
    num: int
    entries: int
    is_in_cells: bool


class OnnxDetections(NamedTuple):
    """Names of an ONNX graph's tensors: boxes (B, M, 4), objectness (B, M, 1) if the head has one, scores (B, M, K).

    Units: boxes in center form, fractions of the network's input.
    """

    boxes: str
    objectness: str | None
    scores: str


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadSpec(LossSpec):
    """A section whose output is boxes; `decode` is darknet's get_*_detections of it."""

    corrects_letterbox: ClassVar[bool] = True  # boxes are mapped back from a letterboxed input
    restarts_random: ClassVar[bool] = True

    @property
    def class_count(self) -> int:
        """Number of classes: columns of the class scores."""
        raise NotImplementedError

    @property
    def input_count(self) -> int:
        """Channels of the map that the head reads, or values of its vector."""
        raise NotImplementedError

    def describe_input(self) -> str:
        """Formula of `input_count`, with the keys it is made of."""
        raise NotImplementedError

    @property
    def input_activations(self) -> tuple[str, ...]:
        """Activations with which the layer before the head gives all values that it decodes, the usual one first."""
        return ("linear",)

    def anchor_sizes(self, output: Shape, net_w: int, net_h: int) -> Tensor:
        """Anchors of the head, (A, 2): width and height in pixels of the network's input."""
        return torch.zeros(0, 2)

    @property
    def anchor_keys(self) -> AnchorKeys | None:
        """Anchor keys of the section; None for a head without anchors."""
        return None

    @property
    def nms(self) -> tuple[str, float]:
        """Kind of non-maximum suppression and its beta; the network's last head decides."""
        return "default", 0.6

    def decode(
        self,
        output_BCHW: Tensor,
        net_w: int,
        net_h: int,
        thresh: float,
        tree_thresh: float = 0.5,
        class_map: Sequence[int] = (),
    ) -> Detections:
        """Decode the candidates of a whole batch.

        tree_thresh, class_map: for heads with a class tree: the probability above which the children of a class are
            considered, and the classes to report, in the order of the columns (`map=` of a .data file).
        Units: net_w, net_h are pixels of the network's input; boxes are fractions of it, not clipped.
        Returns: the candidates in darknet's order, without those that darknet drops by their objectness; class scores
            not above `thresh` are 0.
        """
        raise NotImplementedError

    def boxes_to_onnx(self, graph: Graph, source: Value, net_w: int, net_h: int) -> OnnxDetections:
        """Write `decode` as ONNX operators, for all candidates in its order; `source` is the head's input.

        Raises: DarkpyError when ONNX has no operators for it.
        """
        raise DarkpyError("its boxes cannot be computed with ONNX operators")


def read_head_targets(truth_BTE: Tensor, classes: int, map_file: Path | None, class_entry: int = 4) -> TargetBoxes:
    """Read the boxes of a truth, with their classes mapped by the head's `map=`."""
    if map_file is None:
        return read_target_boxes(truth_BTE, classes, class_entry)
    map_K = torch.tensor(read_class_map(map_file, classes), device=truth_BTE.device)
    truths = read_target_boxes(truth_BTE, len(map_K), class_entry)
    return replace(truths, class_BT=torch.where(truths.class_BT < 0, -1, map_K[truths.class_BT.clamp(min=0)]))


def scores_above(prob_MK: Tensor, thresh: float) -> Tensor:
    """Set scores that are not above `thresh` to 0; NaN stays, so that it can be counted."""
    return torch.where(prob_MK <= thresh, 0.0, prob_MK)
