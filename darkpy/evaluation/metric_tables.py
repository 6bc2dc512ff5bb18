"""What an evaluation has found, as darknet prints it and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from darkpy.evaluation.average_precision import MeanAveragePrecision
    from darkpy.evaluation.coco import CocoPrecision
    from darkpy.evaluation.recall import ImageRecall


def map_lines(found: MeanAveragePrecision, names: Sequence[str]) -> Iterator[str]:
    """The lines of AlexeyAB's `detector map`, blanks included.

    Source:  AlexeyAB/darknet src/detector.c validate_detector_map
    Differs: what is NaN there, for want of detections or truths, is 0.
    """
    yield f" detections_count = {found.detections}, unique_truth_count = {found.truths}  "
    for number, (one, name) in enumerate(zip(found.classes, names, strict=True)):
        percent = 100 * one.average_precision
        yield f"class_id = {number}, name = {name}, ap = {percent:2.2f}%   \t (TP = {one.tp}, FP = {one.fp}) "
    precision, recall, f1 = _single(found)
    thresh = f" for conf_thresh = {found.thresh:.2f}"
    yield ""
    yield f"{thresh}, precision = {precision:.2f}, recall = {recall:.2f}, F1-score = {f1:.2f} "
    yield (
        f"{thresh}, TP = {found.tp}, FP = {found.fp}, FN = {found.fn}, average IoU = {100 * found.average_iou:2.2f} % "
    )
    yield ""
    used = f"{found.points} Recall-points" if found.points else "Area-Under-Curve for each unique Recall"
    yield f" IoU threshold = {100 * found.iou_thresh:2.0f} %, used {used} "
    mean = found.mean
    yield f" mean average precision (mAP@{found.iou_thresh:.2f}) = {mean:f}, or {100 * mean:2.2f} % "


def map_record(found: MeanAveragePrecision, names: Sequence[str]) -> dict[str, Any]:
    """The same for programs; shares from 0 to 1."""
    return {
        "mean_average_precision": found.mean,
        "iou_thresh": found.iou_thresh,
        "points": found.points,
        "detections": found.detections,
        "truths": found.truths,
        "thresh": found.thresh,
        "precision": found.precision,
        "recall": found.recall,
        "f1": found.f1,
        "tp": found.tp,
        "fp": found.fp,
        "fn": found.fn,
        "average_iou": found.average_iou,
        "classes": [
            {
                "class_id": number,
                "name": name,
                "average_precision": one.average_precision,
                "truths": one.truths,
                "tp": one.tp,
                "fp": one.fp,
            }
            for number, (one, name) in enumerate(zip(found.classes, names, strict=True))
        ],
    }


def recall_line(counts: ImageRecall) -> str:
    """The line of `detector recall` after an image.

    Source:  AlexeyAB/darknet src/detector.c validate_detector_recall
    """
    numbers = f"{counts.images - 1:5d} {counts.correct:5d} {counts.truths:5d}"
    shares = f"IOU: {100 * counts.average_iou:.2f}%\tRecall:{100 * counts.recall:.2f}%"
    return f"{numbers}\tRPs/Img: {counts.boxes_per_image:.2f}\t{shares}"


def recall_record(counts: ImageRecall) -> dict[str, Any]:
    """The counts after the last image for programs; shares from 0 to 1."""
    return {
        "recall": counts.recall,
        "average_iou": counts.average_iou,
        "boxes_per_image": counts.boxes_per_image,
        "images": counts.images,
        "truths": counts.truths,
        "correct": counts.correct,
    }


def _single(found: MeanAveragePrecision) -> tuple[float, float, float]:
    """Precision, recall and F1 in darknet's single precision, which shows where the last digit is half-way."""
    tp, fp, fn = (np.float32(count) for count in (found.tp, found.fp, found.fn))
    if not found.tp:
        return 0.0, 0.0, 0.0
    precision, recall = tp / (tp + fp), tp / (tp + fn)
    return float(precision), float(recall), float(2 * precision * recall / (precision + recall))


def evaluation_lines(found: MeanAveragePrecision, others: CocoPrecision | None, names: Sequence[str]) -> Iterator[str]:
    """darknet's mAP and COCO's AP side by side: the classes that have objects, then the means."""
    ours = f"darknet AP{100 * found.iou_thresh:.0f}"
    rows = [("class", "objects", "TP", "FP", ours, *(("COCO AP50", "COCO AP") if others else ()))]
    for number, (one, name) in enumerate(zip(found.classes, names, strict=True)):
        if one.truths:
            all_ious, half = others.classes[number] if others else (None, None)
            shares = (one.average_precision, *((half, all_ious) if others else ()))
            rows.append((name, str(one.truths), str(one.tp), str(one.fp), *map(_percent, shares)))
    width = max(len(row[0]) for row in rows)
    for row in rows:
        yield f"{row[0]:{width}} {row[1]:>8} {row[2]:>6} {row[3]:>6}" + "".join(f" {share:>13}" for share in row[4:])
    yield ""
    points = f"{found.points} points of recall" if found.points else "area under the curve"
    yield f"darknet's mAP@{found.iou_thresh:.2f} {_percent(found.mean):>10}   all {len(names)} classes, {points}"
    if others:
        seen = f"classes with objects ({len(rows) - 1} of {len(names)}), pycocotools"
        for label, stat, told in (
            ("COCO's AP", "AP", f"IoU .50 to .95, {seen}"),
            ("COCO's AP50", "AP50", "IoU .50"),
            ("COCO's AP75", "AP75", "IoU .75"),
        ):
            yield f"{label:18} {_percent(others.stats[stat]):>10}   {told}"


def evaluation_record(
    found: MeanAveragePrecision, others: CocoPrecision | None, names: Sequence[str]
) -> dict[str, Any]:
    """The same for programs; COCO's part is null without pycocotools."""
    record: dict[str, Any] = {"darknet": map_record(found, names), "coco": None}
    if others is not None:
        classes = [
            {"class_id": number, "name": name, "AP": all_ious, "AP50": half}
            for number, (name, (all_ious, half)) in enumerate(zip(names, others.classes, strict=True))
        ]
        record["coco"] = {**others.stats, "classes": classes}
    return record


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"
