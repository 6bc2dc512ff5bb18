"""Conversions of boxes, and IoU, GIoU, DIoU and CIoU.

A box is (x, y, w, h) along the last dimension, with x, y its center, in any unit that is the same for both boxes. `a`
and `b` broadcast: `iou(a_N4, b_N4)` compares pairs, `iou(a_N4[:, None], b_M4)` all N x M.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

DIOU_EXPONENT = 0.6
"""Exponent of the distance term in darknet's DIoU; the paper has 1."""


def to_corners(box: Tensor) -> Tensor:
    """Convert center form (x, y, w, h) to corners (left, top, right, bottom)."""
    center, size = box[..., :2], box[..., 2:]
    return torch.cat((center - size / 2, center + size / 2), dim=-1)


def to_center(corners: Tensor) -> Tensor:
    """Convert corners (left, top, right, bottom) to center form (x, y, w, h)."""
    near, far = corners[..., :2], corners[..., 2:]
    return torch.cat(((near + far) / 2, far - near), dim=-1)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Compute intersection over union.

    Source:  AlexeyAB/darknet src/box.c box_iou
    Differs: two boxes without area have IoU 0, as in AlexeyAB; pjreddie divides 0 by 0.
    """
    intersection, union = _areas(a, b)
    return _iou(intersection, union)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Compute IoU minus the fraction of the enclosing box that neither box covers.

    Source:  AlexeyAB/darknet src/box.c box_giou
    """
    intersection, union = _areas(a, b)
    width, height = _enclosing(a, b)
    enclosing = width * height
    overlap = _iou(intersection, union)
    return torch.where(enclosing == 0, overlap, overlap - (enclosing - union) / enclosing)


def diou(a: Tensor, b: Tensor, beta: float = DIOU_EXPONENT) -> Tensor:
    """Compute IoU - (center distance^2 / enclosing diagonal^2) ^ beta.

    Source:  AlexeyAB/darknet src/box.c box_diou (beta fixed), box_diounms (beta given)
    """
    overlap = iou(a, b)
    distance, diagonal = _squared_lengths(a, b)
    return torch.where(diagonal == 0, overlap, overlap - (distance / diagonal) ** beta)


def ciou(a: Tensor, b: Tensor) -> Tensor:
    """Compute IoU minus the distance term (exponent 1) and a term for the aspect ratios.

    Source:  AlexeyAB/darknet src/box.c box_ciou
    Differs: a box whose sides are both 0 has the angle 0; darknet divides 0 by 0.
    """
    overlap = iou(a, b)
    distance, diagonal = _squared_lengths(a, b)
    angle_a, angle_b = torch.atan2(a[..., 2], a[..., 3]), torch.atan2(b[..., 2], b[..., 3])
    aspect = 4 / math.pi**2 * (angle_b - angle_a) ** 2
    alpha = aspect / (1 - overlap + aspect + 1e-6)
    return torch.where(diagonal == 0, overlap, overlap - (distance / diagonal + alpha * aspect))


OVERLAP_MEASURES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "iou": iou,
    "giou": giou,
    "diou": diou,
    "ciou": ciou,
}


def _areas(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the areas of intersection and union."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = a.unbind(-1), b.unbind(-1)
    width = torch.minimum(ax + aw / 2, bx + bw / 2) - torch.maximum(ax - aw / 2, bx - bw / 2)
    height = torch.minimum(ay + ah / 2, by + bh / 2) - torch.maximum(ay - ah / 2, by - bh / 2)
    intersection = width.clamp(min=0) * height.clamp(min=0)
    return intersection, aw * ah + bw * bh - intersection


def _iou(intersection: Tensor, union: Tensor) -> Tensor:
    has_area = (intersection != 0) & (union != 0)
    return torch.where(has_area, intersection / union, torch.zeros_like(union))


def _enclosing(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Compute width and height of the smallest box around both."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = a.unbind(-1), b.unbind(-1)
    width = torch.maximum(ax + aw / 2, bx + bw / 2) - torch.minimum(ax - aw / 2, bx - bw / 2)
    height = torch.maximum(ay + ah / 2, by + bh / 2) - torch.minimum(ay - ah / 2, by - bh / 2)
    return width, height


def _squared_lengths(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the squared distance of the centers and the squared diagonal of the enclosing box."""
    width, height = _enclosing(a, b)
    distance = (a[..., 0] - b[..., 0]) ** 2 + (a[..., 1] - b[..., 1]) ** 2
    return distance, width * width + height * height
