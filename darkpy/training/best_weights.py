"""Metric by which a run keeps its best weights and ends early."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from darkpy.errors import DarkpyError
from darkpy.evaluation.average_precision import MeanAveragePrecision

_MASK_METRICS = ("iou", "class:NAME", "loss")
METRICS_BY_KIND: Mapping[str, tuple[str, ...]] = {
    "detector": ("map50", "map", "f1", "recall", "loss", "class:NAME"),
    "classifier": ("accuracy", "loss"),
    "segmenter": _MASK_METRICS,
    "isegmenter": _MASK_METRICS,
}
"""Words of --best-by by the kind of the network, the default first; the others have the loss alone."""
COCO_IOU_THRESHS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""IoU thresholds of COCO's mAP."""
_CLASS_PREFIX = "class:"


@dataclass(frozen=True, kw_only=True, slots=True)
class BestMetric:
    """Number of an evaluation, and how to compute it. A larger value is better; a loss counts as negative.

    label: its name in messages and in resume files. iou_threshs: of the average precisions that it is a mean of.
    class_id: the class whose average precision or IoU it is.
    """

    label: str
    iou_threshs: tuple[float, ...] = ()
    class_id: int | None = None

    @property
    def is_loss(self) -> bool:
        return self.label == LOSS_METRIC.label

    def value(self, results: Sequence[MeanAveragePrecision], average_loss: float) -> float:
        """Compute the value. results: for each of `iou_threshs`. average_loss: of the updates so far."""
        if self.is_loss:
            return -average_loss
        if self.class_id is not None:
            return results[0].classes[self.class_id].average_precision
        if self.label in ("F1", "recall"):
            return float(results[0].f1 if self.label == "F1" else results[0].recall)
        return sum(result.mean for result in results) / len(results)

    def format(self, value: float) -> str:
        """Format a value: `mAP@0.50 = 61.25 %`, `average loss = 1.25`."""
        return f"{self.label} = {-value:.4g}" if self.is_loss else f"{self.label} = {100 * value:.2f} %"


LOSS_METRIC, ACCURACY_METRIC = BestMetric(label="average loss"), BestMetric(label="top-1 accuracy")
IOU_METRIC = BestMetric(label="mean IoU")


def parse_metric(word: str | None, *, names: Sequence[str], kind: str, iou_thresh: float) -> BestMetric:
    """Return the metric that `--best-by` names; by default the mAP at `iou_thresh`, the accuracy or the mean IoU.

    names: of the classes. kind: of the training, as in `TrainingSetup`.
    Raises: DarkpyError when the network has no such metric.
    """
    is_detector = kind == "detector"
    choices = METRICS_BY_KIND.get(kind, ("loss",))
    if word is None and is_detector:
        return BestMetric(label=f"mAP@{iou_thresh:.2f}", iou_threshs=(iou_thresh,))
    word = choices[0] if word is None else word
    lowered = word.lower()
    if lowered == "loss":
        return LOSS_METRIC
    for metric_word, metric in (("accuracy", ACCURACY_METRIC), ("iou", IOU_METRIC)):
        if lowered == metric_word and metric_word in choices:
            return metric
    if is_detector and lowered == "map":
        return BestMetric(label="mAP@0.50:0.95", iou_threshs=COCO_IOU_THRESHS)
    if is_detector and (match := re.fullmatch(r"map([1-9]\d)", lowered)):
        iou = int(match[1]) / 100
        return BestMetric(label=f"mAP@{iou:.2f}", iou_threshs=(iou,))
    if is_detector and lowered in ("f1", "recall"):
        return BestMetric(label="F1" if lowered == "f1" else "recall", iou_threshs=(iou_thresh,))
    if "class:NAME" in choices and lowered.startswith(_CLASS_PREFIX):
        name = word[len(_CLASS_PREFIX) :]
        if name not in names:
            known = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
            raise DarkpyError(f"--best-by {word}: no class has this name", hint=f"the classes: {known}")
        if not is_detector:
            return BestMetric(label=f"IoU of {name}", class_id=names.index(name))
        return BestMetric(label=f"AP of {name}", iou_threshs=(iou_thresh,), class_id=names.index(name))
    raise DarkpyError(f"--best-by {word}: no metric of {kind}s", hint=f"one of {', '.join(choices)}")


@dataclass(kw_only=True, slots=True)
class BestValue:
    """Best value of a metric over the evaluations of a run.

    metric: label of the metric. value: -inf before the first evaluation. batch_num: update after which it was reached
        last. stale: evaluations since it was reached first.
    """

    metric: str
    value: float = -math.inf
    batch_num: int = 0
    stale: int = 0

    def follow(self, batch_num: int, value: float) -> bool:
        """Include an evaluation. Returns: True if no earlier one was better."""
        self.stale = 0 if value > self.value else self.stale + 1
        is_best = value >= self.value
        if is_best:
            self.value, self.batch_num = value, batch_num
        return is_best
