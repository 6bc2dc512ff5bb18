"""Boxes: center form and corners, and how much two boxes overlap.

A box is four numbers along the last dimension, (x, y, w, h) with x, y its center. The unit is the caller's, the same
for both boxes. `a` and `b` broadcast: `iou(a_N4, b_N4)` goes pair by pair, `iou(a_N4[:, None], b_M4)` gives all N x M.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

DIOU_EXPONENT = 0.6
"""The power of the distance term in darknet's DIoU; the paper has 1."""


def to_corners(box: Tensor) -> Tensor:
    """Center form (x, y, w, h) to (left, top, right, bottom)."""
    center, size = box[..., :2], box[..., 2:]
    return torch.cat((center - size / 2, center + size / 2), dim=-1)


def to_center(corners: Tensor) -> Tensor:
    """Corners (left, top, right, bottom) to center form (x, y, w, h)."""
    near, far = corners[..., :2], corners[..., 2:]
    return torch.cat(((near + far) / 2, far - near), dim=-1)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union.

    Source:  AlexeyAB/darknet src/box.c box_iou
    Differs: pjreddie divides 0 by 0 for two boxes without area; this is 0, as in AlexeyAB.
    """
    intersection, union = _areas(a, b)
    return _iou(intersection, union)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """IoU minus the share of the enclosing box that neither box covers.

    Source:  AlexeyAB/darknet src/box.c box_giou
    """
    intersection, union = _areas(a, b)
    width, height = _enclosing(a, b)
    enclosing = width * height
    plain = _iou(intersection, union)
    return torch.where(enclosing == 0, plain, plain - (enclosing - union) / enclosing)


def diou(a: Tensor, b: Tensor, beta: float = DIOU_EXPONENT) -> Tensor:
    """IoU minus the center distance over the enclosing diagonal, both squared, to the power of beta.

    Source:  AlexeyAB/darknet src/box.c box_diou (beta fixed), box_diounms (beta given)
    """
    plain = iou(a, b)
    distance, diagonal = _squared_lengths(a, b)
    return torch.where(diagonal == 0, plain, plain - (distance / diagonal) ** beta)


def ciou(a: Tensor, b: Tensor) -> Tensor:
    """IoU minus the distance term (to the power of 1) and a term for the aspect ratios.

    Source:  AlexeyAB/darknet src/box.c box_ciou
    Differs: a box whose sides are both 0 has the angle 0; darknet divides 0 by 0.
    """
    plain = iou(a, b)
    distance, diagonal = _squared_lengths(a, b)
    angle_a, angle_b = torch.atan2(a[..., 2], a[..., 3]), torch.atan2(b[..., 2], b[..., 3])
    aspect = 4 / math.pi**2 * (angle_b - angle_a) ** 2
    alpha = aspect / (1 - plain + aspect + 1e-6)
    return torch.where(diagonal == 0, plain, plain - (distance / diagonal + alpha * aspect))


MEASURES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"iou": iou, "giou": giou, "diou": diou, "ciou": ciou}


def _areas(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection and union."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = a.unbind(-1), b.unbind(-1)
    width = torch.minimum(ax + aw / 2, bx + bw / 2) - torch.maximum(ax - aw / 2, bx - bw / 2)
    height = torch.minimum(ay + ah / 2, by + bh / 2) - torch.maximum(ay - ah / 2, by - bh / 2)
    intersection = width.clamp(min=0) * height.clamp(min=0)
    return intersection, aw * ah + bw * bh - intersection


def _iou(intersection: Tensor, union: Tensor) -> Tensor:
    has_area = (intersection != 0) & (union != 0)
    return torch.where(has_area, intersection / union, torch.zeros_like(union))


def _enclosing(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Width and height of the smallest box around both."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = a.unbind(-1), b.unbind(-1)
    width = torch.maximum(ax + aw / 2, bx + bw / 2) - torch.minimum(ax - aw / 2, bx - bw / 2)
    height = torch.maximum(ay + ah / 2, by + bh / 2) - torch.minimum(ay - ah / 2, by - bh / 2)
    return width, height


def _squared_lengths(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distance of the centers and squared diagonal of the enclosing box."""
    width, height = _enclosing(a, b)
    distance = (a[..., 0] - b[..., 0]) ** 2 + (a[..., 1] - b[..., 1]) ** 2
    return distance, width * width + height * height
