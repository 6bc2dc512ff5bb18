"""Delta and cost of [detection].

Legend: B images, S = side * side cells, A boxes of a cell, K classes, E = 1 + K + 4 elements of a cell's truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from darkpy.layers.loss import Loss
from darkpy.ops.boxes import iou

if TYPE_CHECKING:
    from darkpy.layers.detection import DetectionSpec

_RANDOM_IMAGES = 64000  # until so many have been seen, `random` draws the responsible box
_SMALL_BOX_AREA = 0.1  # of the image; `forced` makes the second box responsible for smaller ones


@dataclass(frozen=True, slots=True)
class VectorParts:
    """The vector of [detection], split into class scores, objectness and boxes."""

    class_BSK: Tensor
    objectness_BSA: Tensor
    box_BSA4: Tensor

    @staticmethod
    def split(spec: DetectionSpec, vector: Tensor) -> VectorParts:
        flat_BC, cells = vector.flatten(1), spec.side**2
        sizes = [cells * spec.classes, cells * spec.num, cells * spec.num * 4]
        class_BC, objectness_BC, box_BC = torch.split(flat_BC, sizes, dim=1)
        return VectorParts(
            class_BC.reshape(len(flat_BC), cells, spec.classes),
            objectness_BC.reshape(len(flat_BC), cells, spec.num),
            box_BC.reshape(len(flat_BC), cells, spec.num, 4),
        )

    def join(self) -> Tensor:
        return torch.cat([part.flatten(1) for part in (self.class_BSK, self.objectness_BSA, self.box_BSA4)], dim=1)


def detection_loss(spec: DetectionSpec, input_BCHW: Tensor, output_BCHW: Tensor, truth_BSE: Tensor, seen: int) -> Loss:
    """Delta and cost of a minibatch.

    Source: pjreddie/darknet and AlexeyAB/darknet src/detection_layer.c forward_detection_layer.
    Differs: if no box overlaps the truth, the nearest is responsible at any distance; darknet takes that of the cell
        before if all are further than 20 images away. `forced` uses the second box only if there is one. A cell
        whose truth is not a valid box counts as empty.
    """
    pred = VectorParts.split(spec, output_BCHW)
    target_BSK, box_BS4 = truth_BSE[..., 1:-4], truth_BSE[..., -4:]
    is_listed_BS = truth_BSE[..., 0] >= 1
    is_full_BS = is_listed_BS & truth_BSE.isfinite().all(2) & (box_BS4[..., 2:] > 0).all(2)
    is_full_BS1 = is_full_BS[..., None]
    box_BS4 = torch.where(is_full_BS1, box_BS4, 0.0)

    xy_BSA2, wh_BSA2 = torch.split(pred.box_BSA4, 2, dim=3)
    frac_BSA4 = torch.cat((xy_BSA2 / spec.side, wh_BSA2.square() if spec.sqrt else wh_BSA2), dim=3)
    truth_BS14 = torch.cat((box_BS4[..., :2] / spec.side, box_BS4[..., 2:]), dim=2)[:, :, None]
    iou_BSA, distance_BSA = iou(frac_BSA4, truth_BS14), (frac_BSA4 - truth_BS14).square().sum(3)
    best_BS1 = _responsible(spec, iou_BSA, distance_BSA, box_BS4, seen)[..., None]
    is_best_BSA = torch.zeros_like(iou_BSA, dtype=torch.bool).scatter(2, best_BS1, True) & is_full_BS1

    object_delta_BSA = spec.object_scale * ((iou_BSA if spec.rescore else 1.0) - pred.objectness_BSA)
    size_BS2 = box_BS4[..., 2:].sqrt() if spec.sqrt else box_BS4[..., 2:]
    target_BS14 = torch.cat((box_BS4[..., :2], size_BS2), dim=2)[:, :, None]
    delta_BC = VectorParts(
        torch.where(is_full_BS1, spec.class_scale * (target_BSK - pred.class_BSK), 0.0),
        torch.where(is_best_BSA, object_delta_BSA, -spec.noobject_scale * pred.objectness_BSA),
        torch.where(is_best_BSA[..., None], spec.coord_scale * (target_BS14 - pred.box_BSA4), 0.0),
    ).join()
    report = {
        "iou": torch.where(is_best_BSA, iou_BSA, 0.0).sum(),
        "class": torch.where(is_full_BS1 & (target_BSK != 0), pred.class_BSK, 0.0).sum(),
        "any_class": torch.where(is_full_BS1, pred.class_BSK, 0.0).sum(),
        "objectness": torch.where(is_best_BSA, pred.objectness_BSA, 0.0).sum(),
        "any_objectness": pred.objectness_BSA.sum(),
        "count": is_full_BS.sum(),
        "places": delta_BC.new_full((), iou_BSA.numel()),
        "rejected": (is_listed_BS & ~is_full_BS).sum(),
    }
    return Loss(delta_BC.view(output_BCHW.shape), delta_BC.view(input_BCHW.shape), delta_BC.square().sum(), report)


def _responsible(spec: DetectionSpec, iou_BSA: Tensor, distance_BSA: Tensor, box_BS4: Tensor, seen: int) -> Tensor:
    """Index of the box of each cell that learns its truth: the one that overlaps it most, else the nearest."""
    if spec.random and seen < _RANDOM_IMAGES:
        return torch.randint(spec.num, iou_BSA.shape[:2], device=iou_BSA.device)
    if spec.forced:
        return (box_BS4[..., 2:].prod(2) < _SMALL_BOX_AREA).long().clamp(max=spec.num - 1)
    return torch.where((iou_BSA > 0).any(2), iou_BSA.argmax(2), distance_BSA.argmin(2))
