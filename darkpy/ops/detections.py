"""Detections of a whole batch as tensors: output of the heads, input of non-maximum suppression.

Legend: M candidates, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Detections:
    """Candidate boxes of a batch of images, in the order of the heads.

    Shapes:  image_M int64, the index in the batch; boxes_M4 float32; objectness_M; prob_MK, 0 = not this class.
    Units:   boxes in center form, fractions of the image, not clipped.
    """

    image_M: Tensor
    boxes_M4: Tensor
    objectness_M: Tensor
    prob_MK: Tensor

    @classmethod
    def cat(cls, parts: Sequence[Detections]) -> Detections:
        """Concatenate the candidates of several parts, such as heads."""
        return cls(
            torch.cat([part.image_M for part in parts]),
            torch.cat([part.boxes_M4 for part in parts]),
            torch.cat([part.objectness_M for part in parts]),
            torch.cat([part.prob_MK for part in parts]),
        )

    def __len__(self) -> int:
        return self.image_M.shape[0]

    def select(self, mask_M: Tensor) -> Detections:
        """Select candidates by a mask or by indices."""
        return Detections(self.image_M[mask_M], self.boxes_M4[mask_M], self.objectness_M[mask_M], self.prob_MK[mask_M])

    def of(self, image: int) -> Detections:
        """Select the candidates of one image."""
        return self.select(self.image_M == image)

    def to(self, device: torch.device | str) -> Detections:
        return Detections(
            self.image_M.to(device), self.boxes_M4.to(device), self.objectness_M.to(device), self.prob_MK.to(device)
        )
