"""Delta of [yolo] and [Gaussian_yolo], in the order of darknet's two loops.

darknet first visits every prediction (objectness down, except where it is ignored or positive), then every
truth, which overwrites the delta of the predictions it is matched to. Several truths may be matched to one
prediction, so that the order of the writes decides the result. Here each loop is a few tensor operations over
the whole minibatch, and `Matches.first_P`, `later_P` and `last_P` stand for "the first, a later, the last write
to this prediction".

Legend: B images, T rows of a truth, E entries of an anchor, C = anchors * E, H W the grid, A anchors of the
head, M matches, P some of them, K classes, S values of a box.
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
from darkpy.ops.boxes import OVERLAP_MEASURES, BoxCoder, cells
from darkpy.ops.device import tensor_async, to_device
from darkpy.ops.matching import Matches, TargetBoxes, best_overlaps, match, match_predictions

MEAN_FIELDS = frozenset({"no_obj"})
"""Fields of the report that are means over the minibatch; all others are sums."""
_CONFIDENT_CLASS_SCORE = 0.25  # in AlexeyAB's compare_yolo_class, called with conf_thresh = 0.25

Spec = TypeVar("Spec", bound=AnchoredSpec)


class AnchoredDelta(Generic[Spec]):
    """The head's `l.delta` for a minibatch; subclasses add what a truth does to a box.

    report: counts (`rejected` rows of the truth, `nonfinite` deltas, `total_bbox` and `rewritten_bbox`), and what
        `write_matches` adds.
    Source:  pjreddie/darknet and AlexeyAB/darknet src/yolo_layer.c, AlexeyAB/darknet src/gaussian_yolo_layer.c
    Differs: darknet takes a class delta of 0 to mean that no truth has been written to a prediction yet, so that
             a prediction whose logistic is exactly 0 or 1 loses its earlier truths; here they count. No overlap
             exceeds a truth_thresh of 1; darknet's may, by rounding. The adversarial pass is not implemented.
    """

    def __init__(self, spec: Spec, output_BCHW: Tensor, truth_BTE: Tensor, net: NetSpec) -> None:
        self.spec = spec
        self.objectness = spec.box_entries - 1
        self.output_BHWAE = cells(output_BCHW, spec.entries)
        self.delta_BCHW = torch.zeros_like(output_BCHW)
        self.delta_BHWAE = cells(self.delta_BCHW, spec.entries)
        self.has_truth_BHWA = torch.zeros_like(self.delta_BHWAE[..., 0], dtype=torch.bool)
        _, rows, columns, _, _ = self.output_BHWAE.shape
        device = output_BCHW.device
        # matched on the truth's device: the number of matches is data dependent, and a GPU would have to be
        # waited for to learn it
        truths = read_head_targets(truth_BTE.to(output_BCHW.dtype), spec.classes, spec.map)
        coder = spec.box_coder(tensor_async((columns, rows), truth_BTE.device), net.width, net.height)
        self.matches = to_device(find_matches(spec, truths, coder), device)
        self.truths, self.coder = to_device(truths, device), to_device(coder, device)
        self.anchors_px_A2 = chosen_anchors(spec.anchors, spec.anchor_indices, device)
        self.weight_K = tensor_async(spec.class_weights, device)
        self.report = {"rejected": self.truths.rejected}

    @property
    def shown_overlap(self) -> str:
        """Name of the overlap measure behind `iou` and the recalls of the report."""
        return "iou"

    @property
    def keeps_first_objectness(self) -> bool:
        """True if a truth writes an objectness delta only where it is still 0."""
        return False

    def ignored_target(self, overlap_BHWA: Tensor) -> Tensor:
        """Objectness target of an ignored prediction with `objectness_smooth`."""
        raise NotImplementedError

    def box_delta(self, entry_ME: Tensor, matches: Matches) -> Tensor:
        """Delta of the box values of each match. Shapes: (M, S)."""
        raise NotImplementedError

    def write(self) -> None:
        """Write the whole delta, in darknet's order."""
        overlap_BHWA, row_BHWA = best_overlaps(self.truths, self._pred_frac_all())
        self.write_negatives(overlap_BHWA, row_BHWA)
        if self.spec.truth_thresh < 1:  # rare; matching predictions synchronizes with a GPU
            is_positive_BHWA = overlap_BHWA > max(self.spec.truth_thresh, 0.0)
            self._write_positives(match_predictions(self.truths, row_BHWA, is_positive_BHWA), overlap_BHWA)
        self.write_matches(self.matches)

    def write_negatives(self, overlap_BHWA: Tensor, row_BHWA: Tensor) -> Tensor:
        """Pull every objectness to 0, except where `ignore_thresh` ignores a prediction that overlaps a truth.

        Returns: is_ignored_BHWA.
        """
        spec, objectness_BHWA = self.spec, self.output_BHWAE[..., self.objectness]
        is_ignored_BHWA = overlap_BHWA > spec.ignore_thresh
        if spec.ignores_confident_only:
            is_ignored_BHWA &= (self.output_BHWAE[..., spec.box_entries :] > _CONFIDENT_CLASS_SCORE).any(-1)
        # a target equal to the output makes the delta 0, which is how an ignored prediction learns nothing
        ignored_BHWA = self.ignored_target(overlap_BHWA) if spec.objectness_smooth else objectness_BHWA
        target_BHWA = torch.where(is_ignored_BHWA, ignored_BHWA, 0.0)
        self.delta_BHWAE[..., self.objectness] = spec.obj_normalizer * (target_BHWA - objectness_BHWA)
        return is_ignored_BHWA

    def _write_positives(self, matches: Matches, overlap_BHWA: Tensor) -> None:
        """Write the positives by `truth_thresh`: predictions that overlap a truth of any cell enough to have it."""
        spec, index = self.spec, matches.index
        entry_ME, overlap_M = self.output_BHWAE[index], overlap_BHWA[index]
        target_M = overlap_M.square() if spec.objectness_smooth else torch.ones_like(overlap_M)
        self._write_boxes(entry_ME, matches)
        self.write_classes(entry_ME, matches)
        self.delta_BHWAE[..., self.objectness][index] = spec.obj_normalizer * (target_M - entry_ME[:, self.objectness])
        if spec.objectness_smooth:
            delta_M = self.weight_K[matches.class_M] * (target_M - self._own_class(entry_ME, matches))
            own_class = (*index, matches.class_M)
            self.delta_BHWAE[..., spec.box_entries :][own_class] = delta_M

    def write_matches(self, matches: Matches) -> None:
        """Write each truth to the predictions of its own cell and anchors.

        Reports: `count` of matches, and over them the sums of `iou`, `giou`, `class` (the score of the truth's
            class), `obj`, `recall50` and `recall75`; `no_obj`, the mean objectness of all predictions.
        """
        spec, index = self.spec, matches.index
        entry_ME = self.output_BHWAE[index]
        self._write_boxes(entry_ME, matches)
        self.write_classes(entry_ME, matches)
        objectness_M, objectness_BHWA = entry_ME[:, self.objectness], self.delta_BHWAE[..., self.objectness]
        delta_M = self.weight_K[matches.class_M] * spec.obj_normalizer * (1 - objectness_M)
        if self.keeps_first_objectness:
            # AlexeyAB with objectness_smooth: after the first truth the delta is no longer 0, later ones skip it
            first = _take(index, matches.first_P)
            written_P = objectness_BHWA[first]
            objectness_BHWA[first] = torch.where(written_P == 0, delta_M[matches.first_P], written_P)
        else:
            # each truth overwrites the delta of the one before
            objectness_BHWA[_take(index, matches.last_P)] = delta_M[matches.last_P]

        pred_frac_M4 = self.pred_frac(entry_ME, matches)
        overlap_M, giou_M = (
            OVERLAP_MEASURES[kind](pred_frac_M4, matches.frac_M4) for kind in (self.shown_overlap, "giou")
        )
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
        """Write class deltas: the first truth at a prediction sets all classes, a later one only its own.

        Source: src/yolo_layer.c delta_yolo_class, which returns early where a truth has been written before.
        """
        spec, first_P, later_P = self.spec, matches.first_P, matches.later_P
        delta_BHWAK = self.delta_BHWAE[..., spec.box_entries :]
        own_M = self.weight_K[matches.class_M] * (1 - spec.label_smooth_eps / 2 - self._own_class(entry_ME, matches))
        first, first_class_P = _take(matches.index, first_P), matches.class_M[first_P]
        # first among these matches; an earlier call (by truth_thresh, say) may have written a truth before
        has_truth_P, written_PK = self.has_truth_BHWA[first], delta_BHWAK[first]
        later_PK = written_PK.scatter(1, first_class_P[:, None], own_M[first_P, None])
        first_PK = self.class_delta(entry_ME[first_P, spec.box_entries :], first_class_P)
        delta_BHWAK[first] = torch.where(has_truth_P[:, None], later_PK, first_PK)
        delta_BHWAK[_take((*matches.index, matches.class_M), later_P)] = own_M[later_P]
        self.has_truth_BHWA[first] = True

    def class_delta(self, prob_MK: Tensor, class_M: Tensor) -> Tensor:
        """Delta of all classes for the first truth at a prediction."""
        spec = self.spec
        is_true_MK = class_M[:, None] == torch.arange(spec.classes, device=class_M.device)
        delta_MK = is_true_MK * (1 - spec.label_smooth_eps) + spec.label_smooth_eps / 2 - prob_MK
        if not spec.counters_per_class:
            return delta_MK
        return torch.where(is_true_MK, delta_MK * self.weight_K * spec.cls_normalizer, delta_MK)

    def average_boxes(self, chosen_BHWA: Tensor) -> None:
        """Divide the box deltas of the chosen predictions by the number of their classes with a positive delta.

        Source: src/yolo_layer.c averages_yolo_deltas. A prediction with several truths holds the sum of their
        box deltas, and about as many classes are being raised.
        """
        box_BHWAS = self.delta_BHWAE[..., : self.objectness]
        classes_BHWA = (self.delta_BHWAE[..., self.spec.box_entries :] > 0).sum(-1).clamp(min=1)
        box_BHWAS /= torch.where(chosen_BHWA, classes_BHWA, 1)[..., None]

    def bounded(self, delta: Tensor) -> Tensor:
        """Clamp a delta to +-max_delta, with 0 for NaN and inf, which are counted as `nonfinite`."""
        is_finite = delta.isfinite()
        self._add("nonfinite", (~is_finite).sum())
        return torch.where(is_finite, delta, 0.0).clamp(-self.spec.max_delta, self.spec.max_delta)

    def count_nonfinite(self) -> None:
        """Count non-finite deltas; AlexeyAB's dialect sets them to 0, pjreddie's leaves them."""
        self._add("nonfinite", torch.zeros_like(self.truths.rejected))
        if self.delta_BCHW.device.type == "cpu" and self.delta_BCHW.sum().isfinite():
            return  # one sum, no mask: any NaN or inf shows in it. On a GPU reading it would synchronize
        is_finite_BCHW = self.delta_BCHW.isfinite()
        self._add("nonfinite", (~is_finite_BCHW).sum())
        if self.spec.zeroes_nonfinite:
            self.delta_BCHW.masked_fill_(~is_finite_BCHW, 0.0)

    def pred_frac(self, entry_ME: Tensor, matches: Matches) -> Tensor:
        """Boxes of the matched predictions. Units: fractions of the image."""
        anchors_px_M2 = self.anchors_px_A2[matches.anchor_M]
        return self.coder.decode(entry_ME[:, self.spec.xywh], matches.cell_M2, anchors_px_M2)

    def target_entries(self, matches: Matches) -> Tensor:
        """Box values that the matched predictions would need to equal the truths."""
        return self.coder.encode(matches.frac_M4, matches.cell_M2, self.anchors_px_A2[matches.anchor_M])

    def _pred_frac_all(self) -> Tensor:
        """Boxes of all predictions. Shapes: (B, H, W, A, 4)."""
        _, rows, columns, _, _ = self.output_BHWAE.shape
        sides = (torch.arange(size, device=self.weight_K.device) for size in (columns, rows))
        cell_HW12 = torch.stack(torch.meshgrid(*sides, indexing="xy"), dim=-1)[:, :, None]
        return self.coder.decode(self.output_BHWAE[..., self.spec.xywh], cell_HW12, self.anchors_px_A2)

    def _write_boxes(self, entry_ME: Tensor, matches: Matches) -> None:
        """Write box deltas: AlexeyAB sums those of several truths at a prediction, pjreddie's last one wins."""
        index = matches.index
        rewritten = self.has_truth_BHWA[_take(index, matches.first_P)].sum()
        self._add("total_bbox", torch.full_like(rewritten, len(matches)))
        self._add("rewritten_bbox", rewritten + len(matches.later_P))
        delta_BHWAS, delta_MS = self.delta_BHWAE[..., : self.objectness], self.box_delta(entry_ME, matches)
        if self.spec.sums_box_deltas:
            delta_BHWAS.index_put_(index, delta_MS, accumulate=True)
        else:
            delta_BHWAS[_take(index, matches.last_P)] = delta_MS[matches.last_P]

    def _own_class(self, entry_ME: Tensor, matches: Matches) -> Tensor:
        """Score of the truth's class at each match. Shapes: (M,)."""
        return entry_ME[:, self.spec.box_entries :].gather(1, matches.class_M[:, None])[:, 0]

    def _add(self, name: str, amount: Tensor) -> None:
        self.report[name] = self.report[name] + amount if name in self.report else amount


def find_matches(spec: AnchoredSpec, truths: TargetBoxes, coder: BoxCoder) -> Matches:
    """Match the truths to the head's predictions by cell and anchor.

    All anchors of the list compete for a truth, those of the other heads included: a truth whose best anchor is
    not in this head's mask is left to the head that has it.
    """
    all_anchors = range(max(spec.num - 1, *spec.anchor_indices) + 1)
    anchors_px_A2 = chosen_anchors(spec.anchors, all_anchors, truths.frac_BT4.device)
    return match(truths, coder, anchors_px_A2, spec.anchor_indices, spec.iou_thresh, spec.iou_thresh_kind)


def averages_line(index: int, report: Mapping[str, Tensor]) -> str:
    """Log line of pjreddie's [yolo], and the beginning of that of AlexeyAB's [Gaussian_yolo]."""
    count = report["count"]
    iou, score, objectness, recall50, recall75 = (
        mean_text(report[name], count) for name in ("iou", "class", "obj", "recall50", "recall75")
    )
    return (
        f"Region {index} Avg IOU: {iou}, Class: {score}, Obj: {objectness}, No Obj: {float(report['no_obj']):f}, "
        f".5R: {recall50}, .75R: {recall75},  count: {int(count)}"
    )


def _take(index: tuple[Tensor, ...], chosen_P: Tensor) -> tuple[Tensor, ...]:
    return tuple(index_M[chosen_P] for index_M in index)
