"""What a [region] learns from a minibatch.

Legend: B images, T rows of a truth, H W the grid, A anchors, E entries (x, y, w, h, more coords, objectness, classes),
M = B * H * W * A places, cell by cell, N boxes of the truth, P places that are told a class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from darkpy.layers.anchors import chosen_anchors
from darkpy.layers.head import read_head_truths
from darkpy.layers.loss import Loss
from darkpy.layers.region.class_delta import Told, pull_classes
from darkpy.layers.region.classes import checked_tree, class_tree
from darkpy.ops.boxes import iou
from darkpy.ops.truths import Truths, is_listed, last_at

if TYPE_CHECKING:
    from darkpy.layers.region import RegionSpec

_PRIOR_IMAGES = 12800  # while fewer have been seen, boxes are drawn to their anchors
_PRIOR_SCALE = 0.01
_LONE_CLASS = 100000  # x and y beyond it: the image has a class, and nobody knows where
_RECALL_IOU = 0.5


@dataclass(frozen=True, slots=True)
class _Said:
    """What the head says place by place, x and y inside the cell in both forks; `grid` is B, H, W, A."""

    grid: tuple[int, int, int, int]
    anchors_A2: Tensor
    entry_ME: Tensor
    frac_M4: Tensor

    @property
    def columns_rows_2(self) -> Tensor:
        return self.anchors_A2.new_tensor((self.grid[2], self.grid[1]))

    def of_image(self, value_B: Tensor) -> Tensor:
        """A value of each image, for each of its places."""
        return value_B.repeat_interleave(len(self.entry_ME) // len(value_B))


def region_loss(spec: RegionSpec, output_BCHW: Tensor, truth_BTE: Tensor, seen: int) -> Loss:
    """Delta and cost of a minibatch.

    Source: pjreddie/darknet and AlexeyAB/darknet src/region_layer.c forward_region_layer, backward_region_layer_gpu.
    """
    said = _read(spec, output_BCHW)
    pull_ME = torch.zeros_like(said.entry_ME)  # the delta before the slope of the logistic
    lone_class_B = _lone_classes(spec, truth_BTE)
    is_lone_M = said.of_image(lone_class_B >= 0)
    boxes_BTE = torch.where((lone_class_B >= 0)[:, None, None], 0.0, truth_BTE)
    truths = read_head_truths(boxes_BTE, spec.classes, spec.map, spec.coords)

    fixed = _pull_everywhere(spec, said, truths, seen, pull_ME)
    pull_ME[is_lone_M, : spec.coords] = 0
    if not spec.lowers_lone_objectness:
        pull_ME[is_lone_M, spec.coords] = 0
    learned, report = _pull_boxes(spec, said, truths, truth_BTE, pull_ME)
    lone = _lone_places(spec, said, lone_class_B)
    pull_ME[lone.place_N, spec.coords] = 0
    told = Told.join(fixed, learned, lone)
    class_slice = slice(spec.coords + 1, None)
    report["class"] = pull_classes(spec, pull_ME[:, class_slice], said.entry_ME[:, class_slice], told)
    report["class_count"] = pull_ME.new_tensor(len(told.place_N))
    report["any_objectness"] = said.entry_ME[~is_lone_M, spec.coords].sum()
    report["places"] = pull_ME.new_tensor(len(pull_ME))
    return _loss(spec, said, pull_ME, output_BCHW, report)


def _read(spec: RegionSpec, output_BCHW: Tensor) -> _Said:
    entry_BHWAE = spec.entries_of(output_BCHW)
    batch, rows, columns, anchors, entries = entry_BHWAE.shape
    xy_BHWA2, wh_BHWA2, rest_BHWAE = torch.split(entry_BHWAE, [2, 2, entries - 4], dim=4)
    if spec.is_by_cell:
        xy_BHWA2 = xy_BHWA2.sigmoid()
    x_W, y_H = torch.arange(columns, device=output_BCHW.device), torch.arange(rows, device=output_BCHW.device)
    corner_HW12 = torch.stack(torch.meshgrid(x_W, y_H, indexing="xy"), dim=2)[:, :, None]
    anchors_A2 = chosen_anchors(spec.anchors, range(anchors)).to(output_BCHW.device)
    box_BHWA4 = torch.cat((corner_HW12 + xy_BHWA2, wh_BHWA2.exp() * anchors_A2), dim=4)
    frac_BHWA4 = box_BHWA4 / box_BHWA4.new_tensor((columns, rows, columns, rows))
    said_BHWAE = torch.cat((xy_BHWA2, wh_BHWA2, rest_BHWAE), dim=4)
    return _Said(
        (batch, rows, columns, anchors), anchors_A2, said_BHWAE.reshape(-1, entries), frac_BHWA4.reshape(-1, 4)
    )


def _lone_classes(spec: RegionSpec, truth_BTE: Tensor) -> Tensor:
    """The class of each image of which nothing else is known, as YOLO9000 learns from ImageNet; -1 of the others."""
    class_BT = truth_BTE[..., spec.coords]
    is_lone_BT = is_listed(truth_BTE) & (truth_BTE[..., :2] > _LONE_CLASS).all(2)
    is_lone_BT &= (class_BT >= 0) & (class_BT < spec.classes)
    if spec.tree is None:
        is_lone_BT = torch.zeros_like(is_lone_BT)
    first_B1 = is_lone_BT.long().argmax(1, keepdim=True)
    return torch.where(is_lone_BT.any(1), class_BT.gather(1, first_B1)[:, 0], -1.0).long()


def _pull_everywhere(spec: RegionSpec, said: _Said, truths: Truths, seen: int, pull_ME: Tensor) -> Told:
    """Objectness down where nothing is; in the beginning, boxes to their anchors.

    Returns: the classes of which `classfix` reminds boxes that overlap a truth.
    """
    batch = said.grid[0]
    iou_BMT = iou(said.frac_M4.reshape(batch, -1, 1, 4), truths.frac_BT4[:, None])
    best_M, row_M = (found.flatten() for found in iou_BMT.max(2))
    is_near_M = best_M > spec.thresh
    objectness_M = said.entry_ME[:, spec.coords]
    if spec.class_fix == -1:
        pull_ME[:, spec.coords] = spec.noobject_scale * (best_M - objectness_M)
    else:
        nothing = 1.0 if spec.background else 0.0
        pull_ME[:, spec.coords] = torch.where(is_near_M, 0.0, spec.noobject_scale * (nothing - objectness_M))
    if seen < _PRIOR_IMAGES:
        middle_4 = pull_ME.new_tensor((0.5, 0.5, 0, 0))
        pull_ME[:, :4] = _PRIOR_SCALE * (middle_4 - said.entry_ME[:, :4])
    class_M = truths.class_BT.gather(1, row_M.view(batch, -1)).flatten()
    place_N = (is_near_M & (class_M >= 0) & (spec.class_fix > 0)).nonzero()[:, 0]
    weight_P = objectness_M[place_N] if spec.class_fix == 2 else torch.ones_like(objectness_M[place_N])
    return Told(place_N, class_M[place_N], weight_P)


def _pull_boxes(
    spec: RegionSpec, said: _Said, truths: Truths, truth_BTE: Tensor, pull_ME: Tensor
) -> tuple[Told, dict[str, Tensor]]:
    """Each truth draws the one box of its cell that is most like it; the last of several is heard."""
    place_N, cell_N2, anchor_N2 = _assign(spec, said, truths)
    iou_N = iou(said.frac_M4[place_N], truths.frac_N4)
    entry_NE = said.entry_ME[place_N]
    objectness_N = entry_NE[:, spec.coords]
    area_N1 = truths.frac_N4[:, 2:].prod(1, keepdim=True)
    weight_N1 = 2 - area_N1 if spec.weighs_small_boxes else torch.ones_like(area_N1)
    box_cell_N4 = truths.frac_N4 * said.columns_rows_2.repeat(2)
    wanted_N4 = torch.cat((box_cell_N4[:, :2] - cell_N2, (box_cell_N4[:, 2:] / anchor_N2).log()), dim=1)
    more_NE = truth_BTE[truths.image_N, truths.row_N, 4 : spec.coords]
    if spec.background:
        wanted_N = torch.zeros_like(iou_N)
    else:
        wanted_N = iou_N if spec.rescore else torch.ones_like(iou_N)
    pull_NE = torch.cat(
        (
            spec.coord_scale * weight_N1 * (wanted_N4 - entry_NE[:, :4]),
            int(spec.mask_scale) * (more_NE - entry_NE[:, 4 : spec.coords]),
            (spec.object_scale * (wanted_N - objectness_N))[:, None],
        ),
        dim=1,
    )
    pull_ME[place_N, : spec.coords + 1] = pull_NE[last_at(place_N, len(pull_ME))]
    report = {
        "iou": iou_N.sum(),
        "recalled": (iou_N > _RECALL_IOU).sum(),
        "objectness": objectness_N.sum(),
        "count": iou_N.new_tensor(len(iou_N)),
        "rejected": truths.rejected,
    }
    return Told(place_N, truths.class_N, torch.ones_like(iou_N)), report


def _assign(spec: RegionSpec, said: _Said, truths: Truths) -> tuple[Tensor, Tensor, Tensor]:
    """The place of each truth, its cell (column, row) and its anchor."""
    _, rows, columns, anchors = said.grid
    column_N, row_N = truths.cells(columns, rows)
    first_N = ((truths.image_N * rows + row_N) * columns + column_N) * anchors
    place_NA = first_N[:, None] + torch.arange(anchors, device=first_N.device)
    size_NA2 = said.anchors_A2 / said.columns_rows_2 if spec.bias_match else said.frac_M4[place_NA, 2:]
    likeness_NA = iou(_centred(size_NA2), _centred(truths.frac_N4[:, None, 2:]))
    anchor_N = likeness_NA.argmax(1)
    return first_N + anchor_N, torch.stack((column_N, row_N), dim=1), said.anchors_A2[anchor_N]


def _centred(size_2: Tensor) -> Tensor:
    return torch.cat((torch.zeros_like(size_2), size_2), dim=-1)


def _lone_places(spec: RegionSpec, said: _Said, lone_class_B: Tensor) -> Told:
    """Of each image with nothing but a class, the place that is surest of it."""
    image_P = (lone_class_B >= 0).nonzero()[:, 0]
    class_P = lone_class_B[image_P]
    places = len(said.entry_ME) // len(lone_class_B)
    if spec.tree is None or not len(image_P):
        return Told(image_P, class_P, said.entry_ME.new_ones(0))
    entry_PME = said.entry_ME.reshape(len(lone_class_B), places, -1)[image_P]
    tree = class_tree(checked_tree(spec.tree, spec.classes), entry_PME.device)
    prob_PMK = tree.hierarchy.absolute(entry_PME[..., spec.coords + 1 :], 2)
    prob_PM = prob_PMK.gather(2, class_P[:, None, None].expand(-1, places, 1))[..., 0] * entry_PME[..., spec.coords]
    return Told(image_P * places + prob_PM.argmax(1), class_P, torch.ones_like(prob_PM[:, 0]))


def _loss(spec: RegionSpec, said: _Said, pull_ME: Tensor, output_BCHW: Tensor, report: dict[str, Tensor]) -> Loss:
    """Undo the order of places; the layer before receives the slope of the logistic, where there is one."""
    slope_ME = torch.ones_like(pull_ME)
    logistic = [0, 1, *range(4, spec.coords + (not spec.background))]
    slope_ME[:, logistic] = said.entry_ME[:, logistic] * (1 - said.entry_ME[:, logistic])
    batch, rows, columns, anchors = said.grid

    def as_map(value_ME: Tensor) -> Tensor:
        value_BHWAE = value_ME.reshape(batch, rows, columns, anchors, -1)
        return value_BHWAE.permute(0, 3, 4, 1, 2).reshape(output_BCHW.shape)

    input_delta_ME = pull_ME * slope_ME
    delta_ME = input_delta_ME if spec.has_slope_in_delta else pull_ME
    return Loss(as_map(delta_ME), as_map(input_delta_ME), delta_ME.square().sum(), report)
