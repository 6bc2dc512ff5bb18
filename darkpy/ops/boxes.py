"""Boxes and detections: IoU measures, box coding relative to cells and anchors, the cells of a head's output."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from darkpy.ops.device import tensor_async
from darkpy.ops.resample import letterbox_geometry

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


def cells(map_BCHW: Tensor, entries: int) -> Tensor:
    """View the output map of a yolo layer box by box, in darknet's order of candidates.

    Returns: entries_BHWAE, a view.
    """
    batch, _, rows, columns = map_BCHW.shape
    return map_BCHW.view(batch, -1, entries, rows, columns).permute(0, 3, 4, 1, 2)


def channel_mask(selected: Collection[int], entries: int, anchors: int) -> Tensor:
    """Return mask_C11, True at the selected entries of every anchor."""
    mask_E = torch.zeros(entries, dtype=torch.bool, device="cpu")
    mask_E[list(selected)] = True
    return mask_E.repeat(anchors)[:, None, None]


def channel_runs(selected: Collection[int], entries: int, anchors: int) -> tuple[slice, ...]:
    """Return the selected entries of every anchor as slices of consecutive channels."""
    starts = sorted(entry for entry in selected if entry - 1 not in selected)
    ends = sorted(entry + 1 for entry in selected if entry + 1 not in selected)
    return tuple(
        slice(anchor * entries + start, anchor * entries + end)
        for anchor in range(anchors)
        for start, end in zip(starts, ends, strict=True)
    )


@dataclass(frozen=True, slots=True)
class Candidates:
    """Boxes selected from a grid: their cells and predicted entries.

    Shapes: image_M, anchor_M, cell_M2 (column, row) int64; grid_2 (columns, rows); entry_ME float32.
    """

    image_M: Tensor
    cell_M2: Tensor
    anchor_M: Tensor
    grid_2: Tensor
    entry_ME: Tensor

    def center_frac(self, xy_M2: Tensor) -> Tensor:
        """Convert positions inside the cell to centers in fractions of the map."""
        return (self.cell_M2 + xy_M2) / self.grid_2


def pick(entries_BHWAE: Tensor, selected_BHWA: Tensor, *, by_anchor: bool = False) -> Candidates:
    """Select boxes of each image by a mask: cell by cell with all anchors of a cell, or anchor by anchor."""
    if by_anchor:
        image_M, anchor_M, row_M, column_M = selected_BHWA.permute(0, 3, 1, 2).nonzero().unbind(1)
    else:
        image_M, row_M, column_M, anchor_M = selected_BHWA.nonzero().unbind(1)
    _, rows, columns, _, _ = entries_BHWAE.shape
    return Candidates(
        image_M,
        torch.stack((column_M, row_M), dim=1),
        anchor_M,
        tensor_async((columns, rows), image_M.device),
        entries_BHWAE[image_M, row_M, column_M, anchor_M].float(),
    )


@dataclass(frozen=True, slots=True)
class BoxCoder:
    """Conversion between the predicted values x, y, w, h and boxes.

    to_center: offset from the point that is inside the cell to the box's center, in sizes of the box.
    squared_size: sizes are 4 * w * w anchors, else exp(w) (`new_coords`).
    Shapes:  grid_2 (columns, rows), net_2 (width, height); cells are (column, row), anchors (w, h).
    Units:   net and anchors in pixels of the network's input, boxes in fractions of it.
    Source:  AlexeyAB/darknet src/yolo_layer.c get_yolo_box, delta_yolo_box; src/gaussian_yolo_layer.c alike
    """

    grid_2: Tensor
    net_2: Tensor
    to_center: float = 0.0
    squared_size: bool = False

    def decode(self, xywh: Tensor, cell: Tensor, anchor_px: Tensor) -> Tensor:
        """Compute the boxes that predicted values at a cell stand for."""
        xy, wh = xywh[..., :2], xywh[..., 2:]
        size = (4 * wh.square() if self.squared_size else wh.exp()) * anchor_px / self.net_2
        return torch.cat(((cell + xy) / self.grid_2 + self.to_center * size, size), dim=-1)

    def encode(self, box_frac: Tensor, cell: Tensor, anchor_px: Tensor) -> Tensor:
        """Compute the values that a cell would have to predict for the boxes."""
        size = box_frac[..., 2:] * self.net_2 / anchor_px  # in anchors
        wh = (size / 4).sqrt() if self.squared_size else size.log()
        return torch.cat((self._point(box_frac) - cell, wh), dim=-1)

    def cells(self, box_frac: Tensor) -> Tensor:
        """Compute the cells that contain the boxes' points, int64; points outside the grid get the nearest cell."""
        return torch.minimum(self._point(box_frac).long().clamp(min=0), self.grid_2.long() - 1)

    def _point(self, box_frac: Tensor) -> Tensor:
        """Compute the point of the box that must be inside the cell, the center if `to_center` is 0. Units: cells."""
        return (box_frac[..., :2] - self.to_center * box_frac[..., 2:]) * self.grid_2


@dataclass(frozen=True, slots=True)
class Detections:
    """Candidate boxes of a batch of images, in the order of the heads.

    Shapes:  image_M int64, the index in the batch; boxes_M4 float32; objectness_M; prob_MK, 0 = not this class.
    Units:   boxes in center form, fractions of the image, not clipped.
    """

    image_M: Tensor
    boxes_M4: Tensor
    objectness_M: Tensor
    prob_MK: Tensor

    @classmethod
    def cat(cls, parts: Sequence[Detections]) -> Detections:
        """Concatenate the candidates of several parts, such as heads."""
        return cls(
            torch.cat([part.image_M for part in parts]),
            torch.cat([part.boxes_M4 for part in parts]),
            torch.cat([part.objectness_M for part in parts]),
            torch.cat([part.prob_MK for part in parts]),
        )

    def __len__(self) -> int:
        return self.image_M.shape[0]

    def select(self, mask_M: Tensor) -> Detections:
        """Select candidates by a mask or by indices."""
        return Detections(self.image_M[mask_M], self.boxes_M4[mask_M], self.objectness_M[mask_M], self.prob_MK[mask_M])

    def of(self, image: int) -> Detections:
        """Select the candidates of one image."""
        return self.select(self.image_M == image)

    def to(self, device: torch.device | str) -> Detections:
        return Detections(
            self.image_M.to(device), self.boxes_M4.to(device), self.objectness_M.to(device), self.prob_MK.to(device)
        )


def undo_letterbox(detections: Detections, sizes: Sequence[tuple[int, int]], net_w: int, net_h: int) -> Detections:
    """Turn boxes as fractions of the letterboxed input into fractions of the image.

    A letterboxed image of new_w x new_h lies in the middle of the input, so with all sides as fractions of the input
    x_image = (x - border_w) / new_w, and widths are only divided: no border is part of them. The border is halved
    as a float, though the image is pasted at a whole pixel: where the border is odd, darknet's boxes are half a pixel
    off, and so are these.
    Source: pjreddie/darknet src/yolo_layer.c correct_yolo_boxes.
    """
    geometries = [letterbox_geometry(w, h, net_w, net_h) for w, h in sizes]
    fitted_B2 = detections.boxes_M4.new_tensor([(geometry.new_w, geometry.new_h) for geometry in geometries])
    net_2 = fitted_B2.new_tensor((net_w, net_h))
    share_M2 = (fitted_B2 / net_2)[detections.image_M]
    border_M2 = ((net_2 - fitted_B2) / 2 / net_2)[detections.image_M]
    center_M2, size_M2 = detections.boxes_M4.tensor_split(2, dim=1)
    boxes_M4 = torch.cat([(center_M2 - border_M2) / share_M2, size_M2 / share_M2], dim=1)
    return replace(detections, boxes_M4=boxes_M4)
