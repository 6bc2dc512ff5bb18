"""Delta and cost of [region].

The delta is written in darknet's order: every prediction (objectness, the prior of the first images), then the
truths, which overwrite it, then images that have a class label only.

Legend: B images, T rows of a truth, H W the grid, A anchors, E entries (x, y, w, h, more coords, objectness,
classes), S the first of them, up to objectness, K the classes, M = B * H * W * A predictions, cell by cell, N boxes
of the truth, P images with a class label only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from darkpy.layers.anchors import chosen_anchors
from darkpy.layers.head import read_head_targets
from darkpy.layers.loss import Loss
from darkpy.layers.region.class_delta import ClassTargets, write_class_delta
from darkpy.layers.region.classes import checked_tree, class_tree
from darkpy.ops.boxes import cells, iou
from darkpy.ops.device import tensor_async, to_device
from darkpy.ops.matching import TargetBoxes, is_listed, last_writer

if TYPE_CHECKING:
    from darkpy.layers.region import RegionSpec

_PRIOR_IMAGES = 12800  # until so many have been seen, boxes are pulled to their anchors
_PRIOR_SCALE = 0.01  # of that pull
_CLASS_ONLY_XY = 100000  # x and y beyond it mark an image with a class label and no box
_RECALL_IOU = 0.5


@dataclass(frozen=True, slots=True)
class _Predictions:
    """The head's predictions, x and y relative to the cell in both dialects; `grid` is B, H, W, A."""

    grid: tuple[int, int, int, int]
    anchors_A2: Tensor
    entry_MS: Tensor
    frac_M4: Tensor
    prob_BHWAK: Tensor

    @property
    def columns_rows_2(self) -> Tensor:
        return tensor_async((self.grid[2], self.grid[1]), self.anchors_A2.device, self.anchors_A2.dtype)

    def of_image(self, value_B: Tensor) -> Tensor:
        """Repeat a value of each image for all its predictions."""
        return value_B.repeat_interleave(len(self.entry_MS) // len(value_B))


def region_loss(spec: RegionSpec, output_BCHW: Tensor, truth_BTE: Tensor, seen: int) -> Loss:
    """Delta and cost of a minibatch.

    Source: pjreddie/darknet and AlexeyAB/darknet src/region_layer.c forward_region_layer, backward_region_layer_gpu.
    """
    pred = _read_output(spec, output_BCHW)
    raw_delta_MS = torch.zeros_like(pred.entry_MS)  # the delta before the slope of the logistic
    lone_class_B = _class_only_labels(spec, truth_BTE)
    boxes_BTE = torch.where((lone_class_B >= 0)[:, None, None], 0.0, truth_BTE)
    truths = to_device(read_head_targets(boxes_BTE, spec.classes, spec.map, spec.coords), output_BCHW.device)
    is_lone_M = pred.of_image((lone_class_B >= 0).to(output_BCHW.device, non_blocking=True))

    near_targets = _write_all_predictions(spec, pred, truths, seen, raw_delta_MS)
    # an image with a class only teaches nothing about boxes, and in AlexeyAB's dialect nothing about objectness
    cleared = spec.coords if spec.keeps_class_only_objectness else spec.coords + 1
    raw_delta_MS[:, :cleared].masked_fill_(is_lone_M[:, None], 0.0)
    truth_BTE = truth_BTE.to(output_BCHW.device, non_blocking=True)
    box_targets, report = _write_boxes(spec, pred, truths, truth_BTE, raw_delta_MS)
    lone_targets = _class_only_targets(spec, pred, lone_class_B)
    raw_delta_MS[lone_targets.index_N, spec.coords] = 0  # the objectness there stays as it is

    delta_BCHW = torch.zeros_like(output_BCHW, memory_format=torch.contiguous_format)
    delta_BHWAE = cells(delta_BCHW, spec.entries)
    targets = ClassTargets.join(near_targets, box_targets, lone_targets)
    report["class"] = write_class_delta(spec, delta_BHWAE[..., spec.coords + 1 :], pred.prob_BHWAK, targets)
    report["class_count"] = raw_delta_MS.new_full((), len(targets.index_N))
    report["any_objectness"] = torch.where(is_lone_M, 0.0, pred.entry_MS[:, spec.coords]).sum()
    report["places"] = raw_delta_MS.new_full((), len(raw_delta_MS))

    # the slope of the logistic, 1 for the entries without one (w and h, the objectness with `background`)
    slope_MS = torch.ones_like(pred.entry_MS)
    for logistic in (slice(0, 2), slice(4, spec.coords + (not spec.background))):
        slope_MS[:, logistic] = pred.entry_MS[:, logistic] * (1 - pred.entry_MS[:, logistic])
    input_delta_MS = slope_MS * raw_delta_MS
    delta_MS = input_delta_MS if spec.logistic_slope_in_delta else raw_delta_MS
    delta_BHWAE[..., : spec.coords + 1] = delta_MS.view(*pred.grid, -1)
    input_delta_BCHW = delta_BCHW
    if not spec.logistic_slope_in_delta:
        input_delta_BCHW = delta_BCHW.clone()
        cells(input_delta_BCHW, spec.entries)[..., : spec.coords + 1] = input_delta_MS.view(*pred.grid, -1)
    return Loss(delta_BCHW, input_delta_BCHW, delta_BCHW.square().sum(), report)


def _read_output(spec: RegionSpec, output_BCHW: Tensor) -> _Predictions:
    entry_BHWAE = spec.entries_of(output_BCHW)
    batch, rows, columns, anchors, _ = entry_BHWAE.shape
    sizes = [2, 2, spec.coords - 3, spec.classes]
    xy_BHWA2, wh_BHWA2, rest_BHWAS, prob_BHWAK = torch.split(entry_BHWAE, sizes, dim=4)
    if spec.cells_first:
        xy_BHWA2 = xy_BHWA2.sigmoid()
    x_W, y_H = torch.arange(columns, device=output_BCHW.device), torch.arange(rows, device=output_BCHW.device)
    corner_HW12 = torch.stack(torch.meshgrid(x_W, y_H, indexing="xy"), dim=2)[:, :, None]
    anchors_A2 = chosen_anchors(spec.anchors, range(anchors), output_BCHW.device)
    box_BHWA4 = torch.cat((corner_HW12 + xy_BHWA2, wh_BHWA2.exp() * anchors_A2), dim=4)
    frac_BHWA4 = box_BHWA4 / tensor_async((columns, rows, columns, rows), box_BHWA4.device)
    entry_BHWAS = torch.cat((xy_BHWA2, wh_BHWA2, rest_BHWAS), dim=4)
    entry_MS = entry_BHWAS.reshape(-1, spec.coords + 1).contiguous()
    return _Predictions((batch, rows, columns, anchors), anchors_A2, entry_MS, frac_BHWA4.reshape(-1, 4), prob_BHWAK)


def _class_only_labels(spec: RegionSpec, truth_BTE: Tensor) -> Tensor:
    """Class of each image that has a class label only (YOLO9000's images from ImageNet); -1 for the others."""
    class_BT = truth_BTE[..., spec.coords]
    is_lone_BT = is_listed(truth_BTE) & (truth_BTE[..., :2] > _CLASS_ONLY_XY).all(2)
    is_lone_BT &= (class_BT >= 0) & (class_BT < spec.classes)
    if spec.tree is None:
        is_lone_BT = torch.zeros_like(is_lone_BT)
    first_B1 = is_lone_BT.long().argmax(1, keepdim=True)
    return torch.where(is_lone_BT.any(1), class_BT.gather(1, first_B1)[:, 0], -1.0).long()


def _write_all_predictions(
    spec: RegionSpec, pred: _Predictions, truths: TargetBoxes, seen: int, raw_delta_MS: Tensor
) -> ClassTargets:
    """Pull objectness down where no truth overlaps enough, and for the first images boxes to their anchors.

    Returns: class targets of the predictions that overlap a truth, by `classfix`.
    """
    batch = pred.grid[0]
    iou_BMT = iou(pred.frac_M4.reshape(batch, -1, 1, 4), truths.frac_BT4[:, None])
    best_M, row_M = (tensor_BM.flatten() for tensor_BM in iou_BMT.max(2))
    is_near_M = best_M > spec.thresh
    objectness_M = pred.entry_MS[:, spec.coords]
    if spec.class_fix == -1:
        raw_delta_MS[:, spec.coords] = spec.noobject_scale * (best_M - objectness_M)
    else:
        no_object = 1.0 if spec.background else 0.0
        raw_delta_MS[:, spec.coords] = torch.where(is_near_M, 0.0, spec.noobject_scale * (no_object - objectness_M))
    if seen < _PRIOR_IMAGES:
        # entries of a box in the middle of its cell with its anchor's size: exp(0) * anchor
        prior_4 = tensor_async((0.5, 0.5, 0.0, 0.0), raw_delta_MS.device)
        raw_delta_MS[:, :4] = _PRIOR_SCALE * (prior_4 - pred.entry_MS[:, :4])
    if spec.class_fix <= 0:
        return ClassTargets(row_M[:0], row_M[:0], objectness_M[:0])
    class_M = truths.class_BT.gather(1, row_M.view(batch, -1)).flatten()
    index_N = (is_near_M & (class_M >= 0)).nonzero()[:, 0]  # synchronizes with a GPU
    weight_N = objectness_M[index_N] if spec.class_fix == 2 else torch.ones_like(objectness_M[index_N])
    return ClassTargets(index_N, class_M[index_N], weight_N)


def _write_boxes(
    spec: RegionSpec, pred: _Predictions, truths: TargetBoxes, truth_BTE: Tensor, raw_delta_MS: Tensor
) -> tuple[ClassTargets, dict[str, Tensor]]:
    """Write each truth to the most similar box of its cell; the last truth of a prediction wins.

    Source: src/region_layer.c delta_region_box, delta_region_mask.
    """
    index_N, cell_N2, anchor_N2 = _match(spec, pred, truths)
    iou_N = iou(pred.frac_M4[index_N], truths.frac_N4)
    entry_NS = pred.entry_MS[index_N]
    objectness_N = entry_NS[:, spec.coords]
    area_N1 = truths.frac_N4[:, 2:].prod(1, keepdim=True)
    weight_N1 = 2 - area_N1 if spec.weighs_small_boxes else torch.ones_like(area_N1)
    box_cell_N4 = truths.frac_N4 * pred.columns_rows_2.repeat(2)
    target_N4 = torch.cat((box_cell_N4[:, :2] - cell_N2, (box_cell_N4[:, 2:] / anchor_N2).log()), dim=1)
    more_NE = truth_BTE[truths.image_N, truths.row_N, 4 : spec.coords]
    if spec.background:
        target_N = torch.zeros_like(iou_N)
    else:
        target_N = iou_N if spec.rescore else torch.ones_like(iou_N)
    raw_delta_NS = torch.cat(
        (
            spec.coord_scale * weight_N1 * (target_N4 - entry_NS[:, :4]),
            int(spec.mask_scale) * (more_NE - entry_NS[:, 4 : spec.coords]),
            (spec.object_scale * (target_N - objectness_N))[:, None],
        ),
        dim=1,
    )
    raw_delta_MS[index_N, : spec.coords + 1] = raw_delta_NS[last_writer(index_N, len(raw_delta_MS))]
    report = {
        "iou": iou_N.sum(),
        "recalled": (iou_N > _RECALL_IOU).sum(),
        "objectness": objectness_N.sum(),
        "count": iou_N.new_full((), len(iou_N)),
        "rejected": truths.rejected,
    }
    return ClassTargets(index_N, truths.class_N, torch.ones_like(iou_N)), report


def _match(spec: RegionSpec, pred: _Predictions, truths: TargetBoxes) -> tuple[Tensor, Tensor, Tensor]:
    """Flat index of the prediction of each truth, its cell (column, row) and its anchor.

    Anchors (`bias_match`) or predicted boxes of the cell are compared with the truth by size alone, both centered.
    """
    _, rows, columns, anchors = pred.grid
    column_N, row_N = truths.cells(columns, rows)
    first_N = ((truths.image_N * rows + row_N) * columns + column_N) * anchors
    index_NA = first_N[:, None] + torch.arange(anchors, device=first_N.device)
    size_NA2 = pred.anchors_A2 / pred.columns_rows_2 if spec.bias_match else pred.frac_M4[index_NA, 2:]
    box_NA4, truth_N14 = (
        torch.cat((torch.zeros_like(size), size), -1) for size in (size_NA2, truths.frac_N4[:, None, 2:])
    )
    anchor_N = iou(box_NA4, truth_N14).argmax(1)
    return first_N + anchor_N, torch.stack((column_N, row_N), dim=1), pred.anchors_A2[anchor_N]


def _class_only_targets(spec: RegionSpec, pred: _Predictions, lone_class_B: Tensor) -> ClassTargets:
    """Class target of each image with a class label only: its prediction of the highest objectness * probability."""
    image_P, device = (lone_class_B >= 0).nonzero()[:, 0], pred.entry_MS.device
    image_P, class_P = (tensor_P.to(device, non_blocking=True) for tensor_P in (image_P, lone_class_B[image_P]))
    per_image = len(pred.entry_MS) // len(lone_class_B)
    if spec.tree is None or not len(image_P):
        return ClassTargets(image_P, class_P, pred.entry_MS.new_ones(0))
    tree = class_tree(checked_tree(spec.tree, spec.classes), image_P.device)
    prob_PM = tree.along_lineage(pred.prob_BHWAK[image_P].flatten(1, 3), class_P)
    prob_PM *= pred.entry_MS[:, spec.coords].view(len(lone_class_B), per_image)[image_P]
    return ClassTargets(image_P * per_image + prob_PM.argmax(1), class_P, torch.ones_like(prob_PM[:, 0]))
