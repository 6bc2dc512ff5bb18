"""Binarization of inputs and weights, for xnor and binary convolutions.

Legend: B images, C channels in, F filters, H W rows and columns, K size.
"""

from __future__ import annotations

import torch
from torch.nn import functional


def signs(x_BCHW: torch.Tensor) -> torch.Tensor:
    """Return +1 for x >= 0, else -1, with the gradient of hardtan (straight-through estimator)."""
    # x - x.detach() is 0 with gradient 1: it only routes the gradient
    soft_BCHW = functional.hardtanh(x_BCHW)
    return 2 * (x_BCHW >= 0).to(x_BCHW.dtype) - 1 + (soft_BCHW - soft_BCHW.detach())


def binarized(weights_FCKK: torch.Tensor) -> torch.Tensor:
    """Return each filter's signs times its mean absolute weight; the gradient goes to the real-valued weights."""
    mean_F111 = weights_FCKK.detach().abs().mean(dim=(1, 2, 3), keepdim=True)
    return torch.where(weights_FCKK > 0, mean_F111, -mean_F111) + (weights_FCKK - weights_FCKK.detach())
