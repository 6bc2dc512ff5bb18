"""Results of an evaluation as darknet prints them, and as JSON objects for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from darkpy.evaluation.average_precision import MeanAveragePrecision
    from darkpy.evaluation.coco import CocoPrecision
    from darkpy.evaluation.recall import ImageRecall


def map_lines(result: MeanAveragePrecision, names: Sequence[str]) -> Iterator[str]:
    """The lines of AlexeyAB's `detector map`, blanks included.

    Source:  AlexeyAB/darknet src/detector.c validate_detector_map
    Differs: where that prints NaN, for lack of detections or ground truth, this prints 0.
    """
    yield f" detections_count = {result.detections}, unique_truth_count = {result.truths}  "
    for class_id, (row, name) in enumerate(zip(result.classes, names, strict=True)):
        percent = 100 * row.average_precision
        yield f"class_id = {class_id}, name = {name}, ap = {percent:2.2f}%   \t (TP = {row.tp}, FP = {row.fp}) "
    precision = recall = f1 = np.float32(0)
    if result.tp:
        # in darknet's single precision: it decides the last digit where a quotient is half-way
        tp, fp, fn = (np.float32(count) for count in (result.tp, result.fp, result.fn))
        precision, recall = tp / (tp + fp), tp / (tp + fn)
        f1 = 2 * precision * recall / (precision + recall)
    thresh = f" for conf_thresh = {result.thresh:.2f}"
    yield ""
    yield f"{thresh}, precision = {precision:.2f}, recall = {recall:.2f}, F1-score = {f1:.2f} "
    counts = f"TP = {result.tp}, FP = {result.fp}, FN = {result.fn}"
    yield f"{thresh}, {counts}, average IoU = {100 * result.average_iou:2.2f} % "
    yield ""
    rule = f"{result.points} Recall-points" if result.points else "Area-Under-Curve for each unique Recall"
    yield f" IoU threshold = {100 * result.iou_thresh:2.0f} %, used {rule} "
    mean = result.mean
    yield f" mean average precision (mAP@{result.iou_thresh:.2f}) = {mean:f}, or {100 * mean:2.2f} % "


def map_record(result: MeanAveragePrecision, names: Sequence[str]) -> dict[str, Any]:
    """The JSON object of `detector map`; shares from 0 to 1."""
    return {
        "mean_average_precision": result.mean,
        "iou_thresh": result.iou_thresh,
        "points": result.points,
        "detections": result.detections,
        "truths": result.truths,
        "thresh": result.thresh,
        "precision": result.precision,
        "recall": result.recall,
        "f1": result.f1,
        "tp": result.tp,
        "fp": result.fp,
        "fn": result.fn,
        "average_iou": result.average_iou,
        "classes": [
            {
                "class_id": class_id,
                "name": name,
                "average_precision": row.average_precision,
                "truths": row.truths,
                "tp": row.tp,
                "fp": row.fp,
            }
            for class_id, (row, name) in enumerate(zip(result.classes, names, strict=True))
        ],
    }


def recall_line(counts: ImageRecall) -> str:
    """The line of `detector recall` after an image.

    Source:  AlexeyAB/darknet src/detector.c validate_detector_recall
    """
    totals = f"{counts.images - 1:5d} {counts.correct:5d} {counts.truths:5d}"
    shares = f"IOU: {100 * counts.average_iou:.2f}%\tRecall:{100 * counts.recall:.2f}%"
    return f"{totals}\tRPs/Img: {counts.boxes_per_image:.2f}\t{shares}"


def recall_record(counts: ImageRecall) -> dict[str, Any]:
    """The JSON object of `detector recall`, from the counts after the last image; shares from 0 to 1."""
    return {
        "recall": counts.recall,
        "average_iou": counts.average_iou,
        "boxes_per_image": counts.boxes_per_image,
        "images": counts.images,
        "truths": counts.truths,
        "correct": counts.correct,
    }


def evaluation_lines(darknet: MeanAveragePrecision, coco: CocoPrecision, names: Sequence[str]) -> Iterator[str]:
    """darknet's mAP and COCO's AP side by side: the classes that have objects, then the means."""
    darknet_column = f"darknet AP{100 * darknet.iou_thresh:.0f}"
    rows: list[tuple[str, ...]] = [("class", "objects", "TP", "FP", darknet_column, "COCO AP50", "COCO AP")]
    for class_id, (row, name) in enumerate(zip(darknet.classes, names, strict=True)):
        if row.truths:
            ap, ap50 = coco.classes[class_id]
            shares = (row.average_precision, ap50, ap)
            rows.append((name, str(row.truths), str(row.tp), str(row.fp), *map(_percent, shares)))
    width = max(len(cells[0]) for cells in rows)
    for cells in rows:
        shares_text = "".join(f" {cell:>13}" for cell in cells[4:])
        yield f"{cells[0]:{width}} {cells[1]:>8} {cells[2]:>6} {cells[3]:>6}{shares_text}"
    yield ""
    points = f"{darknet.points} points of recall" if darknet.points else "area under the curve"
    mean = _percent(darknet.mean)
    yield f"darknet's mAP@{darknet.iou_thresh:.2f} {mean:>10}   all {len(names)} classes, {points}"
    for label, stat, note in (
        ("COCO's AP", "AP", f"IoU .50 to .95, classes with objects ({len(rows) - 1} of {len(names)})"),
        ("COCO's AP50", "AP50", "IoU .50"),
        ("COCO's AP75", "AP75", "IoU .75"),
    ):
        yield f"{label:18} {_percent(coco.stats[stat]):>10}   {note}"


def evaluation_record(darknet: MeanAveragePrecision, coco: CocoPrecision, names: Sequence[str]) -> dict[str, Any]:
    """The JSON object of `evaluate`."""
    classes = [
        {"class_id": class_id, "name": name, "AP": ap, "AP50": ap50}
        for class_id, (name, (ap, ap50)) in enumerate(zip(names, coco.classes, strict=True))
    ]
    return {"darknet": map_record(darknet, names), "coco": {**coco.stats, "classes": classes}}


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"
