"""Candidates as tensors for a whole batch: what heads give and suppression thins out.

M candidates, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Detections:
    """The candidates of a batch of images, in the order in which the heads give them.

    Shapes:  image_M int64, the place in the batch; boxes_M4 float32; objectness_M; prob_MK, 0 = not this class.
    Units:   boxes in center form, fractions of the image, not clipped.
    """

    image_M: Tensor
    boxes_M4: Tensor
    objectness_M: Tensor
    prob_MK: Tensor

    @classmethod
    def cat(cls, parts: Sequence[Detections]) -> Detections:
        """All candidates of all parts (heads, for example), one part after the other."""
        return cls(
            torch.cat([part.image_M for part in parts]),
            torch.cat([part.boxes_M4 for part in parts]),
            torch.cat([part.objectness_M for part in parts]),
            torch.cat([part.prob_MK for part in parts]),
        )

    def __len__(self) -> int:
        return self.image_M.shape[0]

    def select(self, mask_M: Tensor) -> Detections:
        """The candidates that a mask or a list of places picks."""
        return Detections(self.image_M[mask_M], self.boxes_M4[mask_M], self.objectness_M[mask_M], self.prob_MK[mask_M])

    def of(self, image: int) -> Detections:
        """The candidates of one image."""
        return self.select(self.image_M == image)

    def to(self, device: torch.device | str) -> Detections:
        return Detections(
            self.image_M.to(device),
            self.boxes_M4.to(device),
            self.objectness_M.to(device),
            self.prob_MK.to(device),
        )
