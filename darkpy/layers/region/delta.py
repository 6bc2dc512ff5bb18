"""What a [region] learns from a minibatch.

Legend: B images, T rows of a truth, H W the grid, A anchors, E entries (x, y, w, h, more coords, objectness, classes),
S the first of them, up to objectness, K the classes, M = B * H * W * A places, cell by cell, N boxes of the truth,
P images with nothing but a class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from darkpy.layers.anchors import chosen_anchors
from darkpy.layers.head import read_head_targets
from darkpy.layers.loss import Loss
from darkpy.layers.region.class_delta import Told, pull_classes
from darkpy.layers.region.classes import checked_tree, class_tree
from darkpy.ops.boxes import iou
from darkpy.ops.device import tensor_async, to_device
from darkpy.ops.grid import cells
from darkpy.ops.targets import TargetBoxes, is_listed, last_writer

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
    entry_MS: Tensor
    frac_M4: Tensor
    prob_BHWAK: Tensor

    @property
    def columns_rows_2(self) -> Tensor:
        return tensor_async((self.grid[2], self.grid[1]), self.anchors_A2.device, self.anchors_A2.dtype)

    def of_image(self, value_B: Tensor) -> Tensor:
        """A value of each image, for each of its places."""
        return value_B.repeat_interleave(len(self.entry_MS) // len(value_B))


def region_loss(spec: RegionSpec, output_BCHW: Tensor, truth_BTE: Tensor, seen: int) -> Loss:
    """Delta and cost of a minibatch.

    Source: pjreddie/darknet and AlexeyAB/darknet src/region_layer.c forward_region_layer, backward_region_layer_gpu.
    """
    said = _read(spec, output_BCHW)
    pull_MS = torch.zeros_like(said.entry_MS)  # the delta before the slope of the logistic
    lone_class_B = _lone_classes(spec, truth_BTE)
    boxes_BTE = torch.where((lone_class_B >= 0)[:, None, None], 0.0, truth_BTE)
    truths = to_device(read_head_targets(boxes_BTE, spec.classes, spec.map, spec.coords), output_BCHW.device)
    is_lone_M = said.of_image((lone_class_B >= 0).to(output_BCHW.device, non_blocking=True))

    fixed = _pull_everywhere(spec, said, truths, seen, pull_MS)
    kept = spec.coords if spec.lowers_lone_objectness else spec.coords + 1
    pull_MS[:, :kept].masked_fill_(is_lone_M[:, None], 0.0)
    truth_BTE = truth_BTE.to(output_BCHW.device, non_blocking=True)
    learned, report = _pull_boxes(spec, said, truths, truth_BTE, pull_MS)
    lone = _lone_places(spec, said, lone_class_B)
    pull_MS[lone.place_N, spec.coords] = 0

    delta_BCHW = torch.zeros_like(output_BCHW, memory_format=torch.contiguous_format)
    delta_BHWAE = cells(delta_BCHW, spec.entries)
    told = Told.join(fixed, learned, lone)
    report["class"] = pull_classes(spec, delta_BHWAE[..., spec.coords + 1 :], said.prob_BHWAK, told)
    report["class_count"] = pull_MS.new_full((), len(told.place_N))
    report["any_objectness"] = torch.where(is_lone_M, 0.0, said.entry_MS[:, spec.coords]).sum()
    report["places"] = pull_MS.new_full((), len(pull_MS))

    sloped_MS = _slope(spec, said.entry_MS) * pull_MS
    written_MS = sloped_MS if spec.has_slope_in_delta else pull_MS
    delta_BHWAE[..., : spec.coords + 1] = written_MS.view(*said.grid, -1)
    input_delta_BCHW = delta_BCHW
    if not spec.has_slope_in_delta:
        input_delta_BCHW = delta_BCHW.clone()
        cells(input_delta_BCHW, spec.entries)[..., : spec.coords + 1] = sloped_MS.view(*said.grid, -1)
    return Loss(delta_BCHW, input_delta_BCHW, delta_BCHW.square().sum(), report)


def _read(spec: RegionSpec, output_BCHW: Tensor) -> _Said:
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
    return _Said((batch, rows, columns, anchors), anchors_A2, entry_MS, frac_BHWA4.reshape(-1, 4), prob_BHWAK)


def _slope(spec: RegionSpec, entry_MS: Tensor) -> Tensor:
    """The slope of the logistic, 1 where there is none."""
    slope_MS = torch.ones_like(entry_MS)
    for logistic in (slice(0, 2), slice(4, spec.coords + (not spec.background))):
        slope_MS[:, logistic] = entry_MS[:, logistic] * (1 - entry_MS[:, logistic])
    return slope_MS


def _lone_classes(spec: RegionSpec, truth_BTE: Tensor) -> Tensor:
    """The class of each image of which nothing else is known, as YOLO9000 learns from ImageNet; -1 of the others."""
    class_BT = truth_BTE[..., spec.coords]
    is_lone_BT = is_listed(truth_BTE) & (truth_BTE[..., :2] > _LONE_CLASS).all(2)
    is_lone_BT &= (class_BT >= 0) & (class_BT < spec.classes)
    if spec.tree is None:
        is_lone_BT = torch.zeros_like(is_lone_BT)
    first_B1 = is_lone_BT.long().argmax(1, keepdim=True)
    return torch.where(is_lone_BT.any(1), class_BT.gather(1, first_B1)[:, 0], -1.0).long()


def _pull_everywhere(spec: RegionSpec, said: _Said, truths: TargetBoxes, seen: int, pull_MS: Tensor) -> Told:
    """Objectness down where nothing is; in the beginning, boxes to their anchors.

    Returns: the classes of which `classfix` reminds boxes that overlap a truth.
    """
    batch = said.grid[0]
    iou_BMT = iou(said.frac_M4.reshape(batch, -1, 1, 4), truths.frac_BT4[:, None])
    best_M, row_M = (found.flatten() for found in iou_BMT.max(2))
    is_near_M = best_M > spec.thresh
    objectness_M = said.entry_MS[:, spec.coords]
    if spec.class_fix == -1:
        pull_MS[:, spec.coords] = spec.noobject_scale * (best_M - objectness_M)
    else:
        nothing = 1.0 if spec.background else 0.0
        pull_MS[:, spec.coords] = torch.where(is_near_M, 0.0, spec.noobject_scale * (nothing - objectness_M))
    if seen < _PRIOR_IMAGES:
        middle_4 = tensor_async((0.5, 0.5, 0.0, 0.0), pull_MS.device)
        pull_MS[:, :4] = _PRIOR_SCALE * (middle_4 - said.entry_MS[:, :4])
    if spec.class_fix <= 0:
        return Told(row_M[:0], row_M[:0], objectness_M[:0])
    class_M = truths.class_BT.gather(1, row_M.view(batch, -1)).flatten()
    place_N = (is_near_M & (class_M >= 0)).nonzero()[:, 0]  # a GPU is waited for
    weight_P = objectness_M[place_N] if spec.class_fix == 2 else torch.ones_like(objectness_M[place_N])
    return Told(place_N, class_M[place_N], weight_P)


def _pull_boxes(
    spec: RegionSpec, said: _Said, truths: TargetBoxes, truth_BTE: Tensor, pull_MS: Tensor
) -> tuple[Told, dict[str, Tensor]]:
    """Each truth draws the one box of its cell that is most like it; the last of several is heard."""
    place_N, cell_N2, anchor_N2 = _assign(spec, said, truths)
    iou_N = iou(said.frac_M4[place_N], truths.frac_N4)
    entry_NS = said.entry_MS[place_N]
    objectness_N = entry_NS[:, spec.coords]
    area_N1 = truths.frac_N4[:, 2:].prod(1, keepdim=True)
    weight_N1 = 2 - area_N1 if spec.weighs_small_boxes else torch.ones_like(area_N1)
    box_cell_N4 = truths.frac_N4 * said.columns_rows_2.repeat(2)
    wanted_N4 = torch.cat((box_cell_N4[:, :2] - cell_N2, (box_cell_N4[:, 2:] / anchor_N2).log()), dim=1)
    more_NE = truth_BTE[truths.image_N, truths.row_N, 4 : spec.coords]
    if spec.background:
        wanted_N = torch.zeros_like(iou_N)
    else:
        wanted_N = iou_N if spec.rescore else torch.ones_like(iou_N)
    pull_NS = torch.cat(
        (
            spec.coord_scale * weight_N1 * (wanted_N4 - entry_NS[:, :4]),
            int(spec.mask_scale) * (more_NE - entry_NS[:, 4 : spec.coords]),
            (spec.object_scale * (wanted_N - objectness_N))[:, None],
        ),
        dim=1,
    )
    pull_MS[place_N, : spec.coords + 1] = pull_NS[last_writer(place_N, len(pull_MS))]
    report = {
        "iou": iou_N.sum(),
        "recalled": (iou_N > _RECALL_IOU).sum(),
        "objectness": objectness_N.sum(),
        "count": iou_N.new_full((), len(iou_N)),
        "rejected": truths.rejected,
    }
    return Told(place_N, truths.class_N, torch.ones_like(iou_N)), report


def _assign(spec: RegionSpec, said: _Said, truths: TargetBoxes) -> tuple[Tensor, Tensor, Tensor]:
    """The place of each truth, its cell (column, row) and its anchor."""
    _, rows, columns, anchors = said.grid
    column_N, row_N = truths.cells(columns, rows)
    first_N = ((truths.image_N * rows + row_N) * columns + column_N) * anchors
    place_NA = first_N[:, None] + torch.arange(anchors, device=first_N.device)
    size_NA2 = said.anchors_A2 / said.columns_rows_2 if spec.bias_match else said.frac_M4[place_NA, 2:]
    likeness_NA = iou(_centerd(size_NA2), _centerd(truths.frac_N4[:, None, 2:]))
    anchor_N = likeness_NA.argmax(1)
    return first_N + anchor_N, torch.stack((column_N, row_N), dim=1), said.anchors_A2[anchor_N]


def _centerd(size_2: Tensor) -> Tensor:
    return torch.cat((torch.zeros_like(size_2), size_2), dim=-1)


def _lone_places(spec: RegionSpec, said: _Said, lone_class_B: Tensor) -> Told:
    """Of each image with nothing but a class, the place that is surest of it."""
    image_P, device = (lone_class_B >= 0).nonzero()[:, 0], said.entry_MS.device
    image_P, class_P = (one_P.to(device, non_blocking=True) for one_P in (image_P, lone_class_B[image_P]))
    places = len(said.entry_MS) // len(lone_class_B)
    if spec.tree is None or not len(image_P):
        return Told(image_P, class_P, said.entry_MS.new_ones(0))
    tree = class_tree(checked_tree(spec.tree, spec.classes), image_P.device)
    prob_PM = tree.along_lineage(said.prob_BHWAK[image_P].flatten(1, 3), class_P)
    prob_PM *= said.entry_MS[:, spec.coords].view(len(lone_class_B), places)[image_P]
    return Told(image_P * places + prob_PM.argmax(1), class_P, torch.ones_like(prob_PM[:, 0]))
