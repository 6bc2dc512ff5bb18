"""The delta of [yolo] and [Gaussian_yolo]: first every prediction's own, then what each truth writes over it.

Legend: B images, T rows of a truth, E entries of an anchor, C = anchors * E, H W the grid, A anchors of the head,
M matches, P some of them, K classes, S numbers of a box.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor

from darkpy.config.net import NetSpec
from darkpy.layers.anchors import AnchoredSpec, chosen_anchors
from darkpy.layers.head import read_head_targets
from darkpy.layers.loss import mean_text
from darkpy.ops.box_coder import BoxCoder
from darkpy.ops.boxes import MEASURES
from darkpy.ops.device import tensor_async, to_device
from darkpy.ops.grid import cells
from darkpy.ops.matching import Matches, best_overlaps, match, match_predictions
from darkpy.ops.targets import TargetBoxes

MEAN_FIELDS = frozenset({"no_obj"})
"""What of the report is no sum but a mean over the minibatch."""
_SURE = 0.25  # the class score that AlexeyAB asks of a prediction before sparing it

Spec = TypeVar("Spec", bound=AnchoredSpec)


class AnchoredDelta(Generic[Spec]):
    """What a head writes into its `l.delta` for a minibatch; a room says what a truth does to a box.

    report: counts (`rejected` rows of the truth, `nonfinite` deltas, `total_bbox` and `rewritten_bbox`), and what
        `write_matches` adds.
    Source:  pjreddie/darknet and AlexeyAB/darknet src/yolo_layer.c, AlexeyAB/darknet src/gaussian_yolo_layer.c
    Differs: darknet sees by a class delta of 0 that no truth has come to a prediction yet, so that one whose logistic
             is exactly 0 or 1 forgets its earlier truths; here they count. No overlap is above a truth_thresh of 1;
             darknet's may be, rounded. The adversarial pass is not here.
    """

    def __init__(self, spec: Spec, output_BCHW: Tensor, truth_BTE: Tensor, net: NetSpec) -> None:
        self.spec = spec
        self.objectness = spec.box_entries - 1
        self.output_BHWAE = cells(output_BCHW, spec.entries)
        self.delta_BCHW = torch.zeros_like(output_BCHW)
        self.delta_BHWAE = cells(self.delta_BCHW, spec.entries)
        self.is_taken_BHWA = torch.zeros_like(self.delta_BHWAE[..., 0], dtype=torch.bool)
        _, rows, columns, _, _ = self.output_BHWAE.shape
        device = output_BCHW.device
        # which predictions answer for the truths is found out where these are, so that a GPU need not be asked
        truths = read_head_targets(truth_BTE.to(output_BCHW.dtype), spec.classes, spec.map)
        coder = spec.box_coder(tensor_async((columns, rows), truth_BTE.device), net.width, net.height)
        self.matches = to_device(find_matches(spec, truths, coder), device)
        self.truths, self.coder = to_device(truths, device), to_device(coder, device)
        self.anchors_px_A2 = chosen_anchors(spec.anchors, spec.anchor_indices, device)
        self.weight_K = tensor_async(spec.class_weights, device)
        self.report = {"rejected": self.truths.rejected}

    @property
    def shown_overlap(self) -> str:
        """The measure of `iou` and the recalls in the report."""
        return "iou"

    @property
    def keeps_objectness(self) -> bool:
        """Whether a truth changes the delta of an objectness only where it is 0."""
        return False

    def spared_objectness(self, overlap_BHWA: Tensor) -> Tensor:
        """What `objectness_smooth` makes the objectness of a spared prediction."""
        raise NotImplementedError

    def box_delta(self, entry_ME: Tensor, matches: Matches) -> Tensor:
        """What each truth adds to its prediction's numbers. Shapes: (M, S)."""
        raise NotImplementedError

    def write(self) -> None:
        """All of it, in darknet's order."""
        overlap_BHWA, row_BHWA = best_overlaps(self.truths, self._all_frac())
        self.write_absent(overlap_BHWA, row_BHWA)
        if self.spec.truth_thresh < 1:  # rare, and a GPU is waited for
            is_right_BHWA = overlap_BHWA > max(self.spec.truth_thresh, 0.0)
            self._write_right(match_predictions(self.truths, row_BHWA, is_right_BHWA), overlap_BHWA)
        self.write_matches(self.matches)

    def write_absent(self, overlap_BHWA: Tensor, row_BHWA: Tensor) -> Tensor:
        """Every objectness goes to 0, except where a prediction is spared for its overlap with a truth.

        Returns: is_spared_BHWA.
        """
        spec, objectness_BHWA = self.spec, self.output_BHWAE[..., self.objectness]
        is_spared_BHWA = overlap_BHWA > spec.ignore_thresh
        if spec.ignores_confident_only:
            is_spared_BHWA &= (self.output_BHWAE[..., spec.box_entries :] > _SURE).any(-1)
        spared_BHWA = self.spared_objectness(overlap_BHWA) if spec.objectness_smooth else objectness_BHWA
        wanted_BHWA = torch.where(is_spared_BHWA, spared_BHWA, 0.0)
        self.delta_BHWAE[..., self.objectness] = spec.obj_normalizer * (wanted_BHWA - objectness_BHWA)
        return is_spared_BHWA

    def _write_right(self, matches: Matches, overlap_BHWA: Tensor) -> None:
        """Predictions beyond `truth_thresh` have an object wherever its own cell is."""
        spec, place = self.spec, matches.place
        entry_ME, overlap_M = self.output_BHWAE[place], overlap_BHWA[place]
        wanted_M = overlap_M.square() if spec.objectness_smooth else torch.ones_like(overlap_M)
        self._write_boxes(entry_ME, matches)
        self.write_classes(entry_ME, matches)
        self.delta_BHWAE[..., self.objectness][place] = spec.obj_normalizer * (wanted_M - entry_ME[:, self.objectness])
        if spec.objectness_smooth:
            delta_M = self.weight_K[matches.class_M] * (wanted_M - self._own_class(entry_ME, matches))
            own_class = (*place, matches.class_M)
            self.delta_BHWAE[..., spec.box_entries :][own_class] = delta_M

    def write_matches(self, matches: Matches) -> None:
        """Each truth at its own cell and anchors.

        Reports: `count` of matches, and over them the sums of `iou`, `giou`, `class` (the score of the truth's class),
            `obj`, `recall50` and `recall75`; `no_obj`, the mean objectness of all predictions.
        """
        spec, place = self.spec, matches.place
        entry_ME = self.output_BHWAE[place]
        self._write_boxes(entry_ME, matches)
        self.write_classes(entry_ME, matches)
        objectness_M, objectness_BHWA = entry_ME[:, self.objectness], self.delta_BHWAE[..., self.objectness]
        delta_M = self.weight_K[matches.class_M] * spec.obj_normalizer * (1 - objectness_M)
        if self.keeps_objectness:
            first = _some(place, matches.first_P)
            kept_P = objectness_BHWA[first]
            objectness_BHWA[first] = torch.where(kept_P == 0, delta_M[matches.first_P], kept_P)
        else:
            objectness_BHWA[_some(place, matches.last_P)] = delta_M[matches.last_P]

        pred_frac_M4 = self.pred_frac(entry_ME, matches)
        overlap_M, giou_M = (MEASURES[kind](pred_frac_M4, matches.frac_M4) for kind in (self.shown_overlap, "giou"))
        self.report |= {
            "count": overlap_M.new_full((), len(matches), dtype=torch.long),
            "iou": overlap_M.sum(),
            "giou": giou_M.sum(),
            "class": self._own_class(entry_ME, matches).sum(),
            "obj": objectness_M.sum(),
            "no_obj": self.output_BHWAE[..., self.objectness].mean(),
            "recall50": (overlap_M > 0.5).sum(),
            "recall75": (overlap_M > 0.75).sum(),
        }

    def write_classes(self, entry_ME: Tensor, matches: Matches) -> None:
        """The first truth at a prediction speaks of all classes, each later one of its own alone."""
        spec, first_P, later_P = self.spec, matches.first_P, matches.later_P
        delta_BHWAK = self.delta_BHWAE[..., spec.box_entries :]
        own_M = self.weight_K[matches.class_M] * (1 - spec.label_smooth_eps / 2 - self._own_class(entry_ME, matches))
        first, first_class_P = _some(matches.place, first_P), matches.class_M[first_P]
        is_taken_P, kept_PK = self.is_taken_BHWA[first], delta_BHWAK[first]
        taken_PK = kept_PK.scatter(1, first_class_P[:, None], own_M[first_P, None])
        first_PK = self.class_delta(entry_ME[first_P, spec.box_entries :], first_class_P)
        delta_BHWAK[first] = torch.where(is_taken_P[:, None], taken_PK, first_PK)
        delta_BHWAK[_some((*matches.place, matches.class_M), later_P)] = own_M[later_P]
        self.is_taken_BHWA[first] = True

    def class_delta(self, prob_MK: Tensor, class_M: Tensor) -> Tensor:
        """What all classes get from the first truth at a prediction."""
        spec = self.spec
        is_true_MK = class_M[:, None] == torch.arange(spec.classes, device=class_M.device)
        delta_MK = is_true_MK * (1 - spec.label_smooth_eps) + spec.label_smooth_eps / 2 - prob_MK
        if not spec.counters_per_class:
            return delta_MK
        return torch.where(is_true_MK, delta_MK * self.weight_K * spec.cls_normalizer, delta_MK)

    def average_boxes(self, wanted_BHWA: Tensor) -> None:
        """Divide what boxes got by the number of classes that the prediction is drawn to."""
        box_BHWAS = self.delta_BHWAE[..., : self.objectness]
        classes_BHWA = (self.delta_BHWAE[..., self.spec.box_entries :] > 0).sum(-1).clamp(min=1)
        box_BHWAS /= torch.where(wanted_BHWA, classes_BHWA, 1)[..., None]

    def bounded(self, delta: Tensor) -> Tensor:
        """Within +-max_delta, and 0 where it is no number, which is counted."""
        is_finite = delta.isfinite()
        self._add("nonfinite", (~is_finite).sum())
        return torch.where(is_finite, delta, 0.0).clamp(-self.spec.max_delta, self.spec.max_delta)

    def count_nonfinite(self) -> None:
        """AlexeyAB's deltas that are no numbers become 0, pjreddie's stay; both are counted."""
        self._add("nonfinite", torch.zeros_like(self.truths.rejected))
        if self.delta_BCHW.device.type == "cpu" and self.delta_BCHW.sum().isfinite():
            return  # as quick as can be; a GPU would have to be waited for
        is_finite_BCHW = self.delta_BCHW.isfinite()
        self._add("nonfinite", (~is_finite_BCHW).sum())
        if self.spec.zeroes_nonfinite:
            self.delta_BCHW.masked_fill_(~is_finite_BCHW, 0.0)

    def pred_frac(self, entry_ME: Tensor, matches: Matches) -> Tensor:
        """The predictions' boxes."""
        anchors_px_M2 = self.anchors_px_A2[matches.anchor_M]
        return self.coder.decode(entry_ME[:, self.spec.xywh], matches.cell_M2, anchors_px_M2)

    def target_entries(self, matches: Matches) -> Tensor:
        """What would have to stand in the predictions for the truths."""
        return self.coder.encode(matches.frac_M4, matches.cell_M2, self.anchors_px_A2[matches.anchor_M])

    def _all_frac(self) -> Tensor:
        """The boxes of all predictions. Shapes: (B, H, W, A, 4)."""
        _, rows, columns, _, _ = self.output_BHWAE.shape
        sides = (torch.arange(size, device=self.weight_K.device) for size in (columns, rows))
        cell_HW12 = torch.stack(torch.meshgrid(*sides, indexing="xy"), dim=-1)[:, :, None]
        return self.coder.decode(self.output_BHWAE[..., self.spec.xywh], cell_HW12, self.anchors_px_A2)

    def _write_boxes(self, entry_ME: Tensor, matches: Matches) -> None:
        """AlexeyAB adds up what the truths at a prediction want, at pjreddie's the last one is heard."""
        place, rewritten = matches.place, self.is_taken_BHWA[_some(matches.place, matches.first_P)].sum()
        self._add("total_bbox", torch.full_like(rewritten, len(matches)))
        self._add("rewritten_bbox", rewritten + len(matches.later_P))
        delta_BHWAS, delta_MS = self.delta_BHWAE[..., : self.objectness], self.box_delta(entry_ME, matches)
        if self.spec.sums_box_deltas:
            delta_BHWAS.index_put_(place, delta_MS, accumulate=True)
        else:
            delta_BHWAS[_some(place, matches.last_P)] = delta_MS[matches.last_P]

    def _own_class(self, entry_ME: Tensor, matches: Matches) -> Tensor:
        """The scores of the truths' classes. Shapes: (M,)."""
        return entry_ME[:, self.spec.box_entries :].gather(1, matches.class_M[:, None])[:, 0]

    def _add(self, name: str, amount: Tensor) -> None:
        self.report[name] = self.report[name] + amount if name in self.report else amount


def find_matches(spec: AnchoredSpec, truths: TargetBoxes, coder: BoxCoder) -> Matches:
    """Which predictions of a head answer for which truths."""
    every = range(max(spec.num - 1, *spec.anchor_indices) + 1)
    anchors_px_A2 = chosen_anchors(spec.anchors, every, truths.frac_BT4.device)
    return match(truths, coder, anchors_px_A2, spec.anchor_indices, spec.iou_thresh, spec.iou_thresh_kind)


def averages_line(index: int, report: Mapping[str, Tensor]) -> str:
    """What pjreddie's [yolo] prints, and what AlexeyAB's [Gaussian_yolo] begins with."""
    count = report["count"]
    iou, score, objectness, half, most = (
        mean_text(report[name], count) for name in ("iou", "class", "obj", "recall50", "recall75")
    )
    return (
        f"Region {index} Avg IOU: {iou}, Class: {score}, Obj: {objectness}, No Obj: {float(report['no_obj']):f}, "
        f".5R: {half}, .75R: {most},  count: {int(count)}"
    )


def _some(place: tuple[Tensor, ...], wanted_P: Tensor) -> tuple[Tensor, ...]:
    return tuple(index_M[wanted_P] for index_M in place)
