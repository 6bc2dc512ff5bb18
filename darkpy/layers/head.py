"""What the detection heads share: turning their output into boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch

from darkpy.config.classmap import read_class_map
from darkpy.errors import DarkpyError
from darkpy.layers.loss import LossSpec
from darkpy.ops.detections import Detections
from darkpy.ops.onnx_builder import Graph, Value
from darkpy.ops.targets import TargetBoxes, read_target_boxes
from darkpy.shapes import Shape


class AnchorKeys(NamedTuple):
    """Which anchors a head has.

    indices: which anchors of the list it predicts with; num: how many there are. entries: channels of one of them.
    is_in_cells: whether widths and heights count cells of its map, and not pixels of the network's input.
    """

    indices: tuple[int, ...]
    num: int
    entries: int
    is_in_cells: bool


class OnnxDetections(NamedTuple):
    """Tensors of a graph: boxes (B, M, 4), objectness (B, M, 1) where candidates have one, scores (B, M, K).

    Units: boxes in center form, fractions of the network's input.
    """

    boxes: str
    objectness: str | None
    scores: str


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadSpec(LossSpec):
    """A section whose output is boxes; `decode` is get_detections of its darknet file."""

    corrects_letterbox: ClassVar[bool] = True  # whether its boxes are moved back from a letterboxed input

    @property
    def class_count(self) -> int:
        """Columns of the class scores."""
        raise NotImplementedError

    @property
    def input_activation(self) -> str:
        """What the layer before must have for the head's numbers to be what they are meant to be."""
        return "linear"

    def anchor_sizes(self, output: Shape, net_w: int, net_h: int) -> torch.Tensor:
        """The anchors that it draws boxes from, (A, 2): width and height in pixels of the network's input."""
        return torch.zeros(0, 2)

    @property
    def anchor_keys(self) -> AnchorKeys | None:
        """What its section says of its anchors, if boxes are predicted relative to some."""
        return None

    @property
    def nms(self) -> tuple[str, float]:
        """The kind of suppression and its beta; the network's last head decides."""
        return "default", 0.6

    def decode(
        self,
        output_BCHW: torch.Tensor,
        net_w: int,
        net_h: int,
        thresh: float,
        tree_thresh: float = 0.5,
        class_map: Sequence[int] = (),
    ) -> Detections:
        """The candidates of a whole batch.

        tree_thresh, class_map: of heads with a class tree: how sure a class must be for its children to be looked at,
            and the classes of the tree that are wanted, in the order of the columns (`map=` of a .data file).
        Units: net_w, net_h are pixels of the network's input; boxes are fractions of it, not clipped.
        Returns: the candidates in darknet's order; class scores not above `thresh` are 0. Where darknet drops
            candidates by their objectness, they are missing.
        """
        raise NotImplementedError

    def boxes_to_onnx(self, graph: Graph, source: Value, net_w: int, net_h: int) -> OnnxDetections:
        """Write down `decode` of what the head makes of its source, for all candidates in its order.

        Raises: DarkpyError when ONNX cannot say it.
        """
        raise DarkpyError("no ONNX operators say what its boxes are")


def read_head_targets(
    truth_BTE: torch.Tensor, classes: int, map_file: Path | None, class_entry: int = 4
) -> TargetBoxes:
    """The boxes of a truth, with the classes that the head's `map=` makes of theirs."""
    if map_file is None:
        return read_target_boxes(truth_BTE, classes, class_entry)
    map_K = torch.tensor(read_class_map(map_file, classes), device=truth_BTE.device)
    truths = read_target_boxes(truth_BTE, len(map_K), class_entry)
    return replace(truths, class_BT=torch.where(truths.class_BT < 0, -1, map_K[truths.class_BT.clamp(min=0)]))


def above(prob_MK: torch.Tensor, thresh: float) -> torch.Tensor:
    """Scores above `thresh`, 0 in place of the others."""
    return torch.where(prob_MK > thresh, prob_MK, 0.0)
