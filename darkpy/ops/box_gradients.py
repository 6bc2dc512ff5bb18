"""How the overlap of two boxes grows when one of them moves: AlexeyAB's derivatives, which are not quite the true ones.

A box is (x, y, w, h) along the last dimension, x, y its center; edges are (left, top, right, bottom). Published cfgs
are tuned to these numbers, faults included.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from darkpy.ops.boxes import to_corners
from darkpy.ops.device import tensor_async


def overlap_gradient(pred: Tensor, truth: Tensor, kind: str) -> Tensor:
    """The derivatives of iou, giou, diou or ciou by the x, y, w, h of `pred`, whose sides of 0 count as 1.

    Shapes:  pred and truth (..., 4), alike.
    Source:  AlexeyAB/darknet src/box.c dx_box_iou, src/yolo_layer.c delta_yolo_box
    Differs: from the true derivatives, as darknet's do: by w and h they are twice as large; boxes apart in both
             directions intersect in the product of two negative numbers; the distance term has a wrong sign by x and
             y, the aspect term lacks 1 / (w*w + h*h); and boxes apart get nothing but giou's or diou's own term.
    """
    pred = torch.cat((pred[..., :2], torch.where(pred[..., 2:] == 0, 1.0, pred[..., 2:])), dim=-1)
    pred_edge, truth_edge = to_corners(pred), to_corners(truth)
    outwards = tensor_async((-1.0, -1.0, 1.0, 1.0), pred.device, pred.dtype)
    is_outer = outwards * (pred_edge - truth_edge) > 0
    is_inner = outwards * (pred_edge - truth_edge) < 0
    common = _extent(torch.where(is_outer, truth_edge, pred_edge))
    around = _extent(torch.where(is_inner, truth_edge, pred_edge))

    intersection = _area(common)
    union = _area(_extent(pred_edge)) + _area(_extent(truth_edge)) - intersection
    intersection_by_edge = torch.where(is_inner, outwards * _length(common), 0.0)
    union_by_edge = outwards * _length(_extent(pred_edge)) - intersection_by_edge
    plain = _quotient(intersection, union, intersection_by_edge, union_by_edge)
    plain = _by_box(torch.where(union > 0, plain, 0.0))
    if kind == "iou":
        return plain
    if kind == "giou":
        around_by_edge = torch.where(is_outer, outwards * _length(around), 0.0)
        own = _by_box(_quotient(union, _area(around), union_by_edge, around_by_edge))
    else:
        own = _distance_gradient(truth[..., :2] - pred[..., :2], around, is_outer.to(pred.dtype))
    if kind == "ciou":
        own = own + _aspect_gradient(pred[..., 2:], truth[..., 2:], intersection / union)
    return torch.where((common <= 0).any(-1, keepdim=True), own, plain + own)


def _extent(edge: Tensor) -> Tensor:
    """Width and height."""
    return edge[..., 2:] - edge[..., :2]


def _area(extent: Tensor) -> Tensor:
    return extent.prod(-1, keepdim=True)


def _length(extent: Tensor) -> Tensor:
    """The length of each edge, by which the area grows when the edge moves outwards."""
    return extent.flip(-1).repeat(*(1,) * (extent.dim() - 1), 2)


def _quotient(top: Tensor, bottom: Tensor, top_by: Tensor, bottom_by: Tensor) -> Tensor:
    """The derivative of top / bottom."""
    return (bottom * top_by - top * bottom_by) / bottom.square()


def _by_box(by_edge: Tensor) -> Tensor:
    """Derivatives by x, y, w, h from those by edge."""
    near, far = by_edge[..., :2], by_edge[..., 2:]
    return torch.cat((near + far, far - near), dim=-1)


def _distance_gradient(away: Tensor, around: Tensor, is_outer: Tensor) -> Tensor:
    """Of the centers' distance over the diagonal around both boxes, both squared."""
    distance = away.square().sum(-1, keepdim=True)
    diagonal = around.square().sum(-1, keepdim=True)
    near, far = is_outer[..., :2], is_outer[..., 2:]
    by_center = 2 * away * diagonal - 2 * around * (far - near) * distance
    by_size = around * (far + near) * distance
    return torch.cat((by_center, by_size), dim=-1) / diagonal.square()


def _aspect_gradient(size: Tensor, truth_size: Tensor, iou: Tensor) -> Tensor:
    """Of the term that ciou has for the ratios of the sides."""
    angle, truth_angle = (torch.atan2(extent[..., :1], extent[..., 1:]) for extent in (size, truth_size))
    turn = truth_angle - angle
    aspect = 4 / math.pi**2 * turn.square()
    pull = aspect / (1 - iou + aspect + 1e-6) * 8 / math.pi**2 * turn
    return torch.cat((torch.zeros_like(size), pull * size[..., 1:], -pull * size[..., :1]), dim=-1)
