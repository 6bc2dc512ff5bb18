"""Gradients of IoU losses by the predicted box: AlexeyAB's formulas, which differ from the true derivatives.

A box is (x, y, w, h) along the last dimension, with x, y its center; edges are (left, top, right, bottom). Published
cfgs are tuned to these values, errors included, so they are reproduced exactly.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from darkpy.ops.boxes import to_corners
from darkpy.ops.device import tensor_async


def overlap_gradient(pred: Tensor, truth: Tensor, kind: str) -> Tensor:
    """Compute the derivatives of iou, giou, diou or ciou by the x, y, w, h of `pred`; sides of 0 count as 1.

    Shapes:  pred and truth (..., 4), alike.
    Source:  AlexeyAB/darknet src/box.c dx_box_iou, src/yolo_layer.c delta_yolo_box
    Differs: from the true derivatives, as darknet's do: those by w and h are twice as large; for boxes that are
             disjoint in both directions the intersection is the product of two negative lengths; the distance term
             has the wrong sign by x and y; the aspect term lacks 1 / (w*w + h*h); disjoint boxes only get the term
             that giou or diou adds.
    """
    pred = torch.cat((pred[..., :2], torch.where(pred[..., 2:] == 0, 1.0, pred[..., 2:])), dim=-1)
    pred_edge, truth_edge = to_corners(pred), to_corners(truth)
    # an edge moves outwards when left and top decrease, right and bottom increase
    outwards = tensor_async((-1.0, -1.0, 1.0, 1.0), pred.device, pred.dtype)
    is_outer = outwards * (pred_edge - truth_edge) > 0
    is_inner = outwards * (pred_edge - truth_edge) < 0
    # a prediction's edge bounds the intersection if it is the inner one, the enclosing box if it is the outer one
    common = _extent(torch.where(is_outer, truth_edge, pred_edge))
    enclosing = _extent(torch.where(is_inner, truth_edge, pred_edge))

    intersection = _area(common)  # not clamped at 0, as in darknet
    union = _area(_extent(pred_edge)) + _area(_extent(truth_edge)) - intersection
    # moving an edge outwards by 1 adds the length of the edge to an area; the quotient rule does the rest
    intersection_by_edge = torch.where(is_inner, outwards * _length(common), 0.0)
    union_by_edge = outwards * _length(_extent(pred_edge)) - intersection_by_edge
    iou_gradient = _quotient(intersection, union, intersection_by_edge, union_by_edge)
    iou_gradient = _by_box(torch.where(union > 0, iou_gradient, 0.0))
    if kind == "iou":
        return iou_gradient
    if kind == "giou":
        enclosing_by_edge = torch.where(is_outer, outwards * _length(enclosing), 0.0)
        penalty_gradient = _by_box(_quotient(union, _area(enclosing), union_by_edge, enclosing_by_edge))
    else:
        penalty_gradient = _distance_gradient(truth[..., :2] - pred[..., :2], enclosing, is_outer.to(pred.dtype))
    if kind == "ciou":
        penalty_gradient = penalty_gradient + _aspect_gradient(pred[..., 2:], truth[..., 2:], intersection / union)
    is_disjoint = (common <= 0).any(-1, keepdim=True)
    return torch.where(is_disjoint, penalty_gradient, iou_gradient + penalty_gradient)


def _extent(edge: Tensor) -> Tensor:
    """Compute width and height from edges."""
    return edge[..., 2:] - edge[..., :2]


def _area(extent: Tensor) -> Tensor:
    return extent.prod(-1, keepdim=True)


def _length(extent: Tensor) -> Tensor:
    """Return the length of each edge: left and right have the height, top and bottom the width."""
    return extent.flip(-1).repeat(*(1,) * (extent.dim() - 1), 2)


def _quotient(top: Tensor, bottom: Tensor, top_by: Tensor, bottom_by: Tensor) -> Tensor:
    """Apply the quotient rule to top / bottom."""
    return (bottom * top_by - top * bottom_by) / bottom.square()


def _by_box(by_edge: Tensor) -> Tensor:
    """Convert derivatives by edge to derivatives by x, y, w, h.

    The true ones by w and h would be half of this: an edge moves by half of what a side grows.
    """
    near, far = by_edge[..., :2], by_edge[..., 2:]
    return torch.cat((near + far, far - near), dim=-1)


def _distance_gradient(offset: Tensor, enclosing: Tensor, is_outer: Tensor) -> Tensor:
    """Compute the gradient of squared center distance / squared diagonal of the enclosing box.

    The derivative by center has the wrong sign (see `overlap_gradient`), which the caller must not correct.
    """
    distance = offset.square().sum(-1, keepdim=True)
    diagonal = enclosing.square().sum(-1, keepdim=True)
    near, far = is_outer[..., :2], is_outer[..., 2:]
    by_center = 2 * offset * diagonal - 2 * enclosing * (far - near) * distance
    by_size = enclosing * (far + near) * distance
    return torch.cat((by_center, by_size), dim=-1) / diagonal.square()


def _aspect_gradient(size: Tensor, truth_size: Tensor, iou: Tensor) -> Tensor:
    """Compute the gradient of ciou's aspect ratio term, alpha * v, with alpha held constant as in the paper."""
    angle, truth_angle = (torch.atan2(extent[..., :1], extent[..., 1:]) for extent in (size, truth_size))
    difference = truth_angle - angle
    v = 4 / math.pi**2 * difference.square()
    alpha = v / (1 - iou + v + 1e-6)  # 1e-6 as in darknet: equal boxes have 0 / 0 otherwise
    by_angle = alpha * 8 / math.pi**2 * difference
    return torch.cat((torch.zeros_like(size), by_angle * size[..., 1:], -by_angle * size[..., :1]), dim=-1)
