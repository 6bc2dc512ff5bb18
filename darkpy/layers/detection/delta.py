"""What a [detection] learns from a minibatch.

Legend: B images, S = side * side cells, A boxes of a cell, K classes, E = 1 + K + 4 numbers of a cell's truth.
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

_RANDOM_IMAGES = 64000  # while fewer have been seen, `random` draws the box that is responsible
_SMALL = 0.1  # the share of the image below which `forced` wants the second box


@dataclass(frozen=True, slots=True)
class Parts:
    """The vector of [detection], taken apart: class scores, objectness, boxes."""

    class_BSK: Tensor
    objectness_BSA: Tensor
    box_BSA4: Tensor

    @staticmethod
    def split(spec: DetectionSpec, vector: Tensor) -> Parts:
        flat_BC, cells = vector.flatten(1), spec.side**2
        sizes = [cells * spec.classes, cells * spec.num, cells * spec.num * 4]
        class_BC, objectness_BC, box_BC = torch.split(flat_BC, sizes, dim=1)
        return Parts(
            class_BC.reshape(-1, cells, spec.classes),
            objectness_BC.reshape(-1, cells, spec.num),
            box_BC.reshape(-1, cells, spec.num, 4),
        )

    def join(self) -> Tensor:
        return torch.cat([part.flatten(1) for part in (self.class_BSK, self.objectness_BSA, self.box_BSA4)], dim=1)


def detection_loss(spec: DetectionSpec, input_BCHW: Tensor, output_BCHW: Tensor, truth_BSE: Tensor, seen: int) -> Loss:
    """Delta and cost of a minibatch.

    Source: pjreddie/darknet and AlexeyAB/darknet src/detection_layer.c forward_detection_layer.
    Differs: where no box overlaps the truth, the nearest is responsible however far it is; darknet takes the last of
        the cell before if all are further than 20 images. `forced` wants a second box only where there is one.
        A cell whose truth is no box counts as empty.
    """
    said = Parts.split(spec, output_BCHW)
    wanted_BSK, box_BS4 = truth_BSE[..., 1:-4], truth_BSE[..., -4:]
    is_listed_BS = truth_BSE[..., 0] >= 1
    is_full_BS = is_listed_BS & truth_BSE.isfinite().all(2) & (box_BS4[..., 2:] > 0).all(2)
    is_full_BS1 = is_full_BS[..., None]
    box_BS4 = torch.where(is_full_BS1, box_BS4, 0.0)

    iou_BSA, distance_BSA = _compare(spec, said, box_BS4)
    best_BS1 = _responsible(spec, iou_BSA, distance_BSA, box_BS4, seen)[..., None]
    is_best_BSA = torch.zeros_like(iou_BSA, dtype=torch.bool).scatter(2, best_BS1, True) & is_full_BS1

    own_BSA = spec.object_scale * ((iou_BSA if spec.rescore else 1.0) - said.objectness_BSA)
    size_BS2 = box_BS4[..., 2:].sqrt() if spec.sqrt else box_BS4[..., 2:]
    target_BS14 = torch.cat((box_BS4[..., :2], size_BS2), dim=2)[:, :, None]
    delta_BC = Parts(
        torch.where(is_full_BS1, spec.class_scale * (wanted_BSK - said.class_BSK), 0.0),
        torch.where(is_best_BSA, own_BSA, -spec.noobject_scale * said.objectness_BSA),
        torch.where(is_best_BSA[..., None], spec.coord_scale * (target_BS14 - said.box_BSA4), 0.0),
    ).join()
    report = {
        "iou": torch.where(is_best_BSA, iou_BSA, 0.0).sum(),
        "class": torch.where(is_full_BS1 & (wanted_BSK != 0), said.class_BSK, 0.0).sum(),
        "any_class": torch.where(is_full_BS1, said.class_BSK, 0.0).sum(),
        "objectness": torch.where(is_best_BSA, said.objectness_BSA, 0.0).sum(),
        "any_objectness": said.objectness_BSA.sum(),
        "count": is_full_BS.sum(),
        "places": delta_BC.new_full((), iou_BSA.numel()),
        "rejected": (is_listed_BS & ~is_full_BS).sum(),
    }
    return Loss(delta_BC.view(output_BCHW.shape), delta_BC.view(input_BCHW.shape), delta_BC.square().sum(), report)


def _compare(spec: DetectionSpec, said: Parts, box_BS4: Tensor) -> tuple[Tensor, Tensor]:
    """How much each box overlaps its cell's truth, and how far it is from it, in fractions of the image."""
    xy_BSA2, wh_BSA2 = torch.split(said.box_BSA4, 2, dim=3)
    frac_BSA4 = torch.cat((xy_BSA2 / spec.side, wh_BSA2.square() if spec.sqrt else wh_BSA2), dim=3)
    truth_BS14 = torch.cat((box_BS4[..., :2] / spec.side, box_BS4[..., 2:]), dim=2)[:, :, None]
    return iou(frac_BSA4, truth_BS14), (frac_BSA4 - truth_BS14).square().sum(3)


def _responsible(spec: DetectionSpec, iou_BSA: Tensor, distance_BSA: Tensor, box_BS4: Tensor, seen: int) -> Tensor:
    """The box of each cell that learns its truth: that which overlaps it most, or else the nearest."""
    if spec.random and seen < _RANDOM_IMAGES:
        return torch.randint(spec.num, iou_BSA.shape[:2], device=iou_BSA.device)
    if spec.forced:
        return (box_BS4[..., 2:].prod(2) < _SMALL).long().clamp(max=spec.num - 1)
    return torch.where((iou_BSA > 0).any(2), iou_BSA.argmax(2), distance_BSA.argmin(2))
