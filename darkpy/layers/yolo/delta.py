"""What a [yolo] learns from a minibatch.

Legend: B images, T rows of a truth, E entries, C = anchors * E, H W the grid, A anchors, M matches, K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from darkpy.dialect import Dialect
from darkpy.layers.anchored_delta import MEAN_FIELDS, AnchoredDelta, averages_line
from darkpy.layers.loss import Loss, TrainingState
from darkpy.ops.box_gradients import overlap_gradient
from darkpy.ops.matching import Matches

if TYPE_CHECKING:
    from darkpy.layers.yolo import YoloSpec

_TINY = 1e-15  # keeps a logarithm finite


class YoloDelta(AnchoredDelta["YoloSpec"]):
    """Differs: AlexeyAB's mse loss leaves what is no number in a box; here it is 0, and counted, as with the others."""

    @property
    def keeps_objectness(self) -> bool:
        return self.spec.objectness_smooth

    def spared_objectness(self, overlap_BHWA: Tensor) -> Tensor:
        return overlap_BHWA

    def box_delta(self, entry_ME: Tensor, matches: Matches) -> Tensor:
        """The overlap's gradient lacks factors of the chain rule; the normalizers of published cfgs count on that."""
        spec, xywh_M4 = self.spec, entry_ME[:, :4]
        scale_M1 = spec.iou_normalizer * self.weight_K[matches.class_M, None]
        if spec.iou_loss == "mse":
            small_M1 = 2 - matches.frac_M4[:, 2:].prod(1, keepdim=True)
            return small_M1 * (self.target_entries(matches) - xywh_M4) * scale_M1
        gradient_M4 = overlap_gradient(self.pred_frac(entry_ME, matches), matches.frac_M4, spec.iou_loss)
        if not spec.new_coords:
            gradient_M4 = torch.cat((gradient_M4[:, :2], gradient_M4[:, 2:] * xywh_M4[:, 2:].exp()), dim=1)
        return self.bounded(gradient_M4 * scale_M1)

    def class_delta(self, prob_MK: Tensor, class_M: Tensor) -> Tensor:
        if not self.spec.focal_loss:
            return super().class_delta(prob_MK, class_M)
        # alpha .5, gamma 2; neither label_smooth_eps nor counters_per_class act on it
        prob_M1 = prob_MK.gather(1, class_M[:, None]) + _TINY
        focus_M1 = 0.5 * -(1 - prob_M1) * (2 * prob_M1 * prob_M1.log() + prob_M1 - 1)
        is_true_MK = torch.zeros_like(prob_MK).scatter(1, class_M[:, None], 1.0)
        return (is_true_MK - prob_MK) * focus_M1

    def write(self) -> None:
        super().write()
        if self.spec.iou_thresh < 1:
            self.average_boxes(self.is_taken_BHWA & (self.delta_BHWAE[..., self.objectness] != 0))
        self.count_nonfinite()


def yolo_loss(spec: YoloSpec, output_BCHW: Tensor, truth_BTE: Tensor, state: TrainingState) -> Loss:
    """Delta and cost of a minibatch.

    Reports: what AnchoredDelta does, and for one image `total_loss`, `class_loss` (objectness included) and `iou_loss`,
        the rest.
    Source:  pjreddie/darknet and AlexeyAB/darknet src/yolo_layer.c forward_yolo_layer, backward_yolo_layer_gpu
    Differs: [net] loss_scale, which the update takes back, is not here.
    """
    head = YoloDelta(spec, output_BCHW, truth_BTE, state.net)
    head.write()
    delta_BCHW, report = head.delta_BCHW, head.report
    state.delta_filter.apply(delta_BCHW, spec.entries, state.net, state.updates, state.process_group)
    square_BHWAE = head.delta_BHWAE.square()
    total = square_BHWAE.sum()
    class_loss = spec.obj_normalizer * square_BHWAE[..., head.objectness :].sum()
    cost = total
    if spec.show_details and spec.iou_loss != "mse":
        overlap = report["giou" if spec.iou_loss == "giou" else "iou"]
        count = state.process_group.sum_(report["count"].clone())
        cost = spec.iou_normalizer * (report["count"] - overlap) / count.clamp(min=1) + class_loss
    losses = {"total_loss": total, "class_loss": class_loss, "iou_loss": total - class_loss}
    report |= {name: loss / len(delta_BCHW) for name, loss in losses.items()}
    input_delta_BCHW = delta_BCHW if spec.delta_normalizer == 1 else spec.delta_normalizer * delta_BCHW
    return Loss(delta_BCHW, input_delta_BCHW, cost, report, MEAN_FIELDS | losses.keys())


def log_line(spec: YoloSpec, index: int, loss: Loss) -> str:
    """Each fork's own line; AlexeyAB's counts a match where there is none."""
    said = loss.report
    if spec.dialect is Dialect.PJREDDIE:
        return averages_line(index, said)
    name = spec.iou_loss if spec.iou_loss in ("mse", "giou") else "iou"
    count = max(1, int(said["count"]))
    details = f"class_loss = {said['class_loss']:f}, iou_loss = {said['iou_loss']:f}, " if spec.show_details else ""
    return (
        f"v3 ({name} loss, Normalizer: (iou: {spec.iou_normalizer:.2f}, obj: {spec.obj_normalizer:.2f}, "
        f"cls: {spec.cls_normalizer:.2f}) Region {index} Avg (IOU: {said['iou'] / count:f}), count: {count}, "
        f"{details}total_loss = {said['total_loss']:f} "
    )
