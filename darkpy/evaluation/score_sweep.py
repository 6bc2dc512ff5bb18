"""Precision, recall and F1 over the score threshold, and the calibration of the scores.

N ranked detections, K classes, S thresholds, R points of recall, B bins of the score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from darkpy.evaluation.average_precision import RankedDetections, best_from_here

RECALL_POINTS = 101
"""Points of a precision-recall curve: recall 0, .01, ..., 1, as COCO's."""
SWEEP_THRESHOLDS = 101
"""Score thresholds 0, .01, ..., 1."""
CALIBRATION_BINS = 10


@dataclass(frozen=True, slots=True)
class BestThreshold:
    """The SWEEP_THRESHOLDS' score threshold with the highest F1 of a class, and precision and recall there."""

    thresh: float
    f1: float
    precision: float
    recall: float


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Detections with scores in a bin: their number, their mean score, and the share of them that is correct."""

    low: float
    high: float
    count: int
    score: float | None
    correct: float | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """Reliability of scores.

    ece: expected calibration error, the mean |score - share of correct ones| of the bins, weighted by their counts.
    gap: mean score minus the share of correct ones; above 0 the scores are too high.
    """

    bins: tuple[CalibrationBin, ...]
    ece: float | None
    gap: float | None


def best_thresholds(tp_KS: Tensor, fp_KS: Tensor, truths_K: Tensor) -> list[BestThreshold | None]:
    """Find the threshold with the highest F1 of each class, the middle one of several.

    tp_KS, fp_KS: as `counts_above` gives them.
    Returns: None where the class has no object, or no true positive.
    """
    f1_KS = 2 * tp_KS.double() / (tp_KS + fp_KS + truths_K[:, None]).clamp(min=1)
    is_best_KS = f1_KS == f1_KS.amax(1, keepdim=True)
    order_KS = is_best_KS.cumsum(1)
    middle_K = (order_KS >= (order_KS[:, -1:] + 1) // 2).int().argmax(1)
    rows = zip(middle_K.tolist(), truths_K.tolist(), f1_KS, tp_KS, fp_KS, strict=True)
    return [
        BestThreshold(
            step / (SWEEP_THRESHOLDS - 1),
            float(f1_S[step]),
            tp / (tp + int(fp_S[step])),
            tp / truths,
        )
        if (tp := int(tp_S[step])) and truths
        else None
        for step, truths, f1_S, tp_S, fp_S in rows
    ]


def precision_at_recall(ranked: RankedDetections) -> Tensor:
    """Best precision at each of RECALL_POINTS or any later recall, as precision_KR; 0 beyond the highest recall."""
    class_N, _, is_tp_N, truths_K = ranked
    rank_N, tp_N = ranked.positions()
    best_N = best_from_here(class_N, tp_N.double() / rank_N)[is_tp_N]
    class_T, tp_T = class_N[is_tp_N], tp_N[is_tp_N]  # a curve starts a step at each true positive
    # true positives with which the recall reaches a point, in the arithmetic of the quotient
    point_R = torch.arange(RECALL_POINTS, dtype=torch.float64) * (1 / (RECALL_POINTS - 1))
    point_R[-1] = 1.0
    needed_KR = (truths_K[:, None] * point_R).round().long()
    needed_KR += needed_KR.double() / truths_K[:, None].clamp(min=1) < point_R
    needed_KR = needed_KR.clamp(min=1)
    found_K = torch.bincount(class_T, minlength=len(truths_K))
    begin_K = found_K.cumsum(0) - found_K
    index_KR = (begin_K[:, None] + needed_KR - 1).clamp(max=max(0, len(tp_T) - 1))
    if not len(tp_T):
        return torch.zeros(index_KR.shape, dtype=torch.float64)
    return torch.where(needed_KR <= found_K[:, None], best_N[index_KR], 0.0)


def counts_above(ranked: RankedDetections) -> tuple[Tensor, Tensor]:
    """True and false positives of each class with scores above each of SWEEP_THRESHOLDS, as two int64 tensors KS.

    ranked: `in_order` for the counts of `detector map`.
    """
    class_N, score_N, is_tp_N, truths_K = ranked
    thresh_S = (torch.arange(SWEEP_THRESHOLDS, dtype=torch.float64) / (SWEEP_THRESHOLDS - 1)).float()
    passed_N = torch.searchsorted(thresh_S, score_N)  # thresholds below the score
    shape = (len(truths_K), SWEEP_THRESHOLDS + 1)
    key_N = class_N * shape[1] + passed_N

    def above(mask_N: Tensor) -> Tensor:
        counts_KS = torch.bincount(key_N[mask_N], minlength=shape[0] * shape[1]).view(shape)
        return counts_KS.flip(1).cumsum(1).flip(1)[:, 1:]

    return above(is_tp_N), above(~is_tp_N)


def calibrate(score_N: Tensor, is_correct_N: Tensor) -> Calibration:
    """Compare scores with the share of correct detections, in CALIBRATION_BINS bins of equal width."""
    score_N, correct_N = score_N.double(), is_correct_N.double()
    bin_N = (score_N * CALIBRATION_BINS).long().clamp(0, CALIBRATION_BINS - 1)
    count_B = torch.bincount(bin_N, minlength=CALIBRATION_BINS)
    score_B = torch.bincount(bin_N, score_N, minlength=CALIBRATION_BINS)
    correct_B = torch.bincount(bin_N, correct_N, minlength=CALIBRATION_BINS)
    bins = tuple(
        CalibrationBin(
            index / CALIBRATION_BINS,
            (index + 1) / CALIBRATION_BINS,
            count,
            score / count if count else None,
            correct / count if count else None,
        )
        for index, (count, score, correct) in enumerate(
            zip(count_B.tolist(), score_B.tolist(), correct_B.tolist(), strict=True)
        )
    )
    total = len(score_N)
    if not total:
        return Calibration(bins, None, None)
    gaps = [math.fabs(score - correct) for score, correct in zip(score_B.tolist(), correct_B.tolist(), strict=True)]
    return Calibration(bins, sum(gaps) / total, float((score_B - correct_B).sum()) / total)
