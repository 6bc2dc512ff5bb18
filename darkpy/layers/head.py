"""What the detection heads share: turning their output into boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from darkpy.evaluation.detections import Detections
from darkpy.layers.base import LayerSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadSpec(LayerSpec):
    """A section whose output is boxes; `decode` is get_detections of its darknet file."""

    corrects_letterbox: ClassVar[bool] = True  # whether its boxes are moved back from a letterboxed input

    @property
    def class_count(self) -> int:
        """Columns of the class scores."""
        raise NotImplementedError

    @property
    def nms(self) -> tuple[str, float]:
        """The kind of suppression and its beta; the network's last head decides."""
        return "default", 0.6

    def decode(
        self, output_BCHW: torch.Tensor, net_w: int, net_h: int, thresh: float, tree_thresh: float = 0.5
    ) -> Detections:
        """The candidates of a whole batch.

        Units: net_w, net_h are pixels of the network's input; boxes are fractions of it, not clipped.
        Returns: candidates whose objectness is above `thresh`, in darknet's order; class scores at or below it are 0.
        """
        raise NotImplementedError
