"""Delta and cost of [Gaussian_yolo].

Legend: B images, T rows of a truth, E entries, C = anchors * E, H W the grid, A anchors, M matches.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from darkpy.layers.anchored_delta import MEAN_FIELDS, AnchoredDelta, averages_line
from darkpy.layers.loss import Loss, TrainingState
from darkpy.ops.box_gradients import overlap_gradient
from darkpy.ops.matching import Matches, match_predictions

if TYPE_CHECKING:
    from darkpy.layers.gaussian_yolo import GaussianYoloSpec

_SIGMA_OFFSET = 0.3  # darknet's sigma_const: bounds the density at a sigma near 0
_DENSITY_EPS = 1e-9  # darknet's epsi: keeps the division by the density finite


class GaussianYoloDelta(AnchoredDelta["GaussianYoloSpec"]):
    """Delta of boxes whose four values are the means of normal distributions, each with its own sigma.

    Source: AlexeyAB/darknet src/gaussian_yolo_layer.c delta_gaussian_yolo_box
    """

    @property
    def shown_overlap(self) -> str:
        return "iou" if self.spec.iou_loss == "mse" else "giou"

    def ignored_target(self, overlap_BHWA: Tensor) -> Tensor:
        return overlap_BHWA.square()

    def write_negatives(self, overlap_BHWA: Tensor, row_BHWA: Tensor) -> Tensor:
        """With `objectness_smooth`, ignored predictions also learn the truth's class (synchronizes with a GPU)."""
        is_ignored_BHWA = super().write_negatives(overlap_BHWA, row_BHWA)
        if self.spec.objectness_smooth:
            matches = match_predictions(self.truths, row_BHWA, is_ignored_BHWA & (overlap_BHWA > 0))
            self.write_classes(self.output_BHWAE[matches.index], matches)
        return is_ignored_BHWA

    def box_delta(self, entry_ME: Tensor, matches: Matches) -> Tensor:
        """Gradient of the log likelihood of the truth; with an overlap as the loss, of that for the means alone."""
        spec, mean_M4, sigma_M4 = self.spec, entry_ME[:, :8:2], entry_ME[:, 1:8:2]
        # distance of the truth from the mean in sigmas, and the normal density there
        distance_M4 = (self.target_entries(matches) - mean_M4) / sigma_M4
        density_M4 = (-0.5 * distance_M4.square()).exp() / (math.sqrt(2 * math.pi) * (sigma_M4 + _SIGMA_OFFSET))
        # 2 - w * h: small boxes count up to twice as much as one that fills the image
        size_weight_M1 = 2 - matches.frac_M4[:, 2:].prod(1, keepdim=True)
        # d log(density + eps): density / (density + eps), times the derivative of the exponent
        scale_M4 = 0.5 * size_weight_M1 * density_M4 / (density_M4 + _DENSITY_EPS)
        sigma_delta_M4 = scale_M4 * (distance_M4.square() / sigma_M4 - 1 / (sigma_M4 + _SIGMA_OFFSET))
        if spec.iou_loss == "mse":
            mean_delta_M4 = scale_M4 * distance_M4 / sigma_M4
        else:
            gradient_M4 = overlap_gradient(self.pred_frac(entry_ME, matches), matches.frac_M4, spec.iou_loss)
            by_center_M2, by_size_M2 = gradient_M4[:, :2], gradient_M4[:, 2:]
            # x and y place the box's `yolo_point`, not its center
            by_point_M2 = by_center_M2 - self.coder.to_center * by_size_M2
            mean_delta_M4 = torch.cat((by_point_M2, by_size_M2 * entry_ME[:, 4:8:2].exp()), dim=1)
        mean_delta_M4 = mean_delta_M4 * spec.iou_normalizer * self.weight_K[matches.class_M, None]
        delta_M42 = torch.stack((mean_delta_M4, sigma_delta_M4 * spec.uc_normalizer), dim=2)
        return self.bounded(delta_M42.flatten(1))

    def write(self) -> None:
        super().write()
        self.average_boxes(self.has_truth_BHWA)
        self.count_nonfinite()


def gaussian_yolo_loss(spec: GaussianYoloSpec, output_BCHW: Tensor, truth_BTE: Tensor, state: TrainingState) -> Loss:
    """Delta and cost of a minibatch.

    Reports: the fields of AnchoredDelta, and per image `total_loss`, `class_loss` (objectness included), `iou_loss`
        (x and y with their sigmas) and `uc_loss` (w and h with theirs), as darknet divides them.
    Source:  AlexeyAB/darknet src/gaussian_yolo_layer.c forward_gaussian_yolo_layer, backward_gaussian_yolo_layer_gpu
    """
    head = GaussianYoloDelta(spec, output_BCHW, truth_BTE, state.net)
    head.write()
    delta_BCHW, square_BHWAE = head.delta_BCHW, head.delta_BHWAE.square()
    parts = {"iou_loss": slice(0, 4), "uc_loss": slice(4, 8), "class_loss": slice(8, None), "total_loss": slice(None)}
    report = head.report | {name: square_BHWAE[..., part].sum() / len(delta_BCHW) for name, part in parts.items()}
    return Loss(delta_BCHW, spec.delta_normalizer * delta_BCHW, square_BHWAE.sum(), report, MEAN_FIELDS | parts.keys())


def log_line(index: int, loss: Loss) -> str:
    parts = ", ".join(
        f"{name} = {loss.report[name]:.2f}" for name in ("class_loss", "iou_loss", "uc_loss", "total_loss")
    )
    return f"{averages_line(index, loss.report)}, {parts} "
