"""Report of a detector's evaluation: all its numbers, as JSON and as tables.

K classes, S thresholds, R points of recall, I images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from torch import Tensor

from darkpy.evaluation.average_precision import MeanAveragePrecision
from darkpy.evaluation.coco import CocoPrecision
from darkpy.evaluation.detect import ImageStatus
from darkpy.evaluation.error_analysis import ConfusionCell, DetectionErrors, ErrorAnalysis, ListedError
from darkpy.evaluation.ground_truth import GroundTruth
from darkpy.evaluation.metric_tables import map_record
from darkpy.evaluation.score_sweep import (
    SWEEP_THRESHOLDS,
    BestThreshold,
    Calibration,
    best_thresholds,
    calibrate,
    counts_above,
    precision_at_recall,
)

RECORD_VERSION = 1
BACKGROUND_NAME = "background"

Row = Sequence[object]


class EvaluatedRun(NamedTuple):
    """Inputs of an evaluation, as texts, and the version of the program."""

    cfg: str
    weights: str
    data: str
    version: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectorReport:
    """Numbers of an evaluation.

    best, best_overall: thresholds with the highest F1 of each class, and of all with one threshold.
    precision_KR: at RECALL_POINTS. tp_KS, fp_KS: at SWEEP_THRESHOLDS.
    calibration: of the detections above thresh.
    unlabeled, invalid_labels: messages about label files.
    """

    run: EvaluatedRun
    names: tuple[str, ...]
    images: tuple[ImageStatus, ...]
    darknet: MeanAveragePrecision
    coco: CocoPrecision
    errors: DetectionErrors
    best: tuple[BestThreshold | None, ...]
    best_overall: BestThreshold | None
    precision_KR: Tensor
    tp_KS: Tensor
    fp_KS: Tensor
    calibration: Calibration
    unlabeled: tuple[str, ...] = ()
    invalid_labels: tuple[str, ...] = ()

    @property
    def unreadable(self) -> list[ImageStatus]:
        return [image for image in self.images if image.error is not None]

    def name(self, class_id: int) -> str:
        """Name of a class; of the background for -1."""
        return BACKGROUND_NAME if class_id < 0 else self.names[class_id]


def make_detector_report(
    run: EvaluatedRun,
    names: Sequence[str],
    images: Sequence[ImageStatus],
    analysis: ErrorAnalysis,
    truth: GroundTruth,
    darknet: MeanAveragePrecision,
    coco: CocoPrecision,
) -> DetectorReport:
    """Compute the numbers from what a run over all images has accumulated."""
    ranked = analysis.precision.ranked()
    merged = ranked.merged()
    tp_KS, fp_KS = counts_above(analysis.precision.ranked(in_order=True))
    is_shown_N = merged.score_N > darknet.thresh
    return DetectorReport(
        run=run,
        names=tuple(names),
        images=tuple(images),
        darknet=darknet,
        coco=coco,
        errors=analysis.result(images),
        best=tuple(best_thresholds(tp_KS, fp_KS, ranked.truths_K)),
        best_overall=best_thresholds(tp_KS.sum(0)[None], fp_KS.sum(0)[None], merged.truths_K)[0],
        precision_KR=precision_at_recall(ranked),
        tp_KS=tp_KS,
        fp_KS=fp_KS,
        calibration=calibrate(merged.score_N[is_shown_N], merged.is_tp_N[is_shown_N]),
        unlabeled=truth.missing,
        invalid_labels=truth.problems,
    )


def share(part: float, whole: float) -> float | None:
    """Quotient; None if the whole is 0."""
    return part / whole if whole else None


def f1(tp: int, fp: int, truths: int) -> float | None:
    """Harmonic mean of precision and recall; None without objects."""
    return share(2 * tp, tp + fp + truths) if truths else None


def class_records(report: DetectorReport) -> list[dict[str, Any]]:
    """Numbers of each class, as JSON objects and as rows of the table."""
    records = []
    for class_id, (row, (coco_ap, coco_ap50), best) in enumerate(
        zip(report.darknet.classes, report.coco.classes, report.best, strict=True)
    ):
        records.append({
            "class_id": class_id,
            "name": report.names[class_id],
            "truths": row.truths,
            "average_precision": row.average_precision if row.truths else None,
            "coco_ap": coco_ap,
            "coco_ap50": coco_ap50,
            "tp": row.tp,
            "fp": row.fp,
            "fn": row.truths - row.tp,
            "precision": share(row.tp, row.tp + row.fp),
            "recall": share(row.tp, row.truths),
            "f1": f1(row.tp, row.fp, row.truths),
            "best_thresh": best and best.thresh,
            "best_f1": best and best.f1,
            "best_precision": best and best.precision,
            "best_recall": best and best.recall,
        })  # fmt: skip
    return records


def detector_record(report: DetectorReport, findings: Iterable[str]) -> dict[str, Any]:
    """The JSON object of a report. findings: as texts."""
    errors = report.errors
    darknet = {key: value for key, value in map_record(report.darknet, report.names).items() if key != "classes"}
    with_truth = [class_id for class_id, row in enumerate(report.darknet.classes) if row.truths]
    return {
        "format": "darkpy evaluation",
        "format_version": RECORD_VERSION,
        "kind": "detector",
        **report.run._asdict(),
        "images": len(report.images),
        "unreadable": [image.path for image in report.unreadable],
        "findings": list(findings),
        "darknet": darknet,
        "best": report.best_overall and asdict(report.best_overall),
        "coco": report.coco.stats,
        "classes": class_records(report),
        "confusion": [
            {"true": report.name(true_id), "detected": report.name(detected_id), "count": count}
            for true_id, detected_id, count in errors.confusion
        ],
        "wrong_class": [
            {"true": report.names[true_id], "detected": report.names[detected_id], "count": count}
            for true_id, detected_id, count in errors.wrong_class
        ],
        "false_positives": errors.false_positives,
        "missed": errors.missed,
        "sizes": [{**asdict(bucket), "AP": report.coco.stats[f"AP_{bucket.name}"]} for bucket in errors.sizes],
        "calibration": asdict(report.calibration),
        "precision_at_recall": {report.names[k]: report.precision_KR[k].tolist() for k in with_truth},
        "worst_false_positives": [_error_record(report, error) for error in errors.worst_false_positives],
        "worst_missed": [_error_record(report, error) for error in errors.worst_missed],
        "per_image": {
            "path": [image.path for image in report.images],
            "truths": errors.truths_I.tolist(),
            "tp": errors.tp_I.tolist(),
            "fp": errors.fp_I.tolist(),
        },
    }


def _error_record(report: DetectorReport, error: ListedError) -> dict[str, Any]:
    other = None if error.other_class_id is None else report.names[error.other_class_id]
    return {
        "image": report.images[error.image].path,
        "kind": error.kind,
        "class": report.names[error.class_id],
        "score": error.score,
        "box": error.box_frac,
        "other_class": other,
        "iou": error.iou,
    }


def _class_rows(report: DetectorReport) -> Iterator[Row]:
    return record_rows(class_records(report))


def record_rows(records: Iterable[Mapping[str, object]]) -> Iterator[Row]:
    """Rows of JSON objects with the same keys, which are the titles."""
    for index, record in enumerate(records):
        if index == 0:
            yield list(record)
        yield list(record.values())


def confusion_rows(cells: Iterable[ConfusionCell], names: Sequence[str]) -> Iterator[Row]:
    """Rows of a confusion matrix, a cell each. names: the last one is that of -1."""
    yield "true", "detected", "count"
    for true_id, detected_id, count in cells:
        yield names[true_id], names[detected_id], count


def _curve_rows(report: DetectorReport) -> Iterator[Row]:
    yield "class", "thresh", "tp", "fp", "precision", "recall", "f1"
    for name, row, tp_S, fp_S in zip(
        report.names, report.darknet.classes, report.tp_KS.tolist(), report.fp_KS.tolist(), strict=True
    ):
        for step, (tp, fp) in enumerate(zip(tp_S, fp_S, strict=True) if row.truths else ()):
            thresh = step / (SWEEP_THRESHOLDS - 1)
            yield name, thresh, tp, fp, share(tp, tp + fp), tp / row.truths, f1(tp, fp, row.truths)


def _image_rows(report: DetectorReport) -> Iterator[Row]:
    yield "image", "truths", "tp", "fp", "fn", "error"
    columns = (column_I.tolist() for column_I in (report.errors.truths_I, report.errors.tp_I, report.errors.fp_I))
    for image, truths, tp, fp in zip(report.images, *columns, strict=True):
        yield image.path, truths, tp, fp, truths - tp, image.error.message if image.error else ""


def _confusion_rows(report: DetectorReport) -> Iterator[Row]:
    return confusion_rows(report.errors.confusion, (*report.names, BACKGROUND_NAME))


DETECTOR_TABLES: Mapping[str, Callable[[DetectorReport], Iterator[Row]]] = {
    "classes.csv": _class_rows,
    "confusion.csv": _confusion_rows,
    "curves.csv": _curve_rows,
    "images.csv": _image_rows,
}
"""Rows of each CSV file, by its name; the first one has the titles."""
