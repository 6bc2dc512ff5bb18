"""COCO's own average precision, as pycocotools computes it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from io import StringIO
from typing import Any

from darkpy.errors import DarkpyError
from darkpy.evaluation.detect import ImageStatus
from darkpy.evaluation.detection_store import DetectionStore
from darkpy.evaluation.ground_truth import GroundTruth
from darkpy.ops.boxes import to_corners

COCO_STATS = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large"),
)
"""The twelve numbers of COCO's evaluation, in pycocotools' order."""


@dataclass(frozen=True, slots=True)
class CocoPrecision:
    """COCO's numbers, 0 to 1; None where there is no ground truth.

    stats: COCO_STATS and their values. classes: AP and AP50 of each class.
    """

    stats: dict[str, float | None]
    classes: tuple[tuple[float | None, float | None], ...]


def is_available() -> bool:
    """True if pycocotools is installed."""
    return find_spec("pycocotools") is not None


def coco_precision(
    detections: DetectionStore, ground_truth: GroundTruth, images: Sequence[ImageStatus], classes: int
) -> CocoPrecision:
    """Compute COCO's numbers of the detections on a list of images.

    images: all images of the list. An object's area is that of its box, and none is a crowd.
    Raises: DarkpyError when pycocotools is not installed.
    """
    try:
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise DarkpyError("COCO's average precision needs pycocotools", hint="pip install pycocotools") from error
    truth_entries: list[dict[str, Any]] = []
    corners = to_corners(ground_truth.boxes_N4.double()).tolist()
    columns = (ground_truth.image_N.tolist(), ground_truth.class_N.tolist(), corners)
    for image, class_id, (left, top, right, bottom) in zip(*columns, strict=True):
        w, h = images[image].size
        edges_px = (left * w, top * h, right * w, bottom * h)
        truth_entries.append(_entry(len(truth_entries), image, class_id, edges_px))
    detected_entries = [
        {**_entry(index, row.image, row.class_id, row[3:]), "score": row.score}
        for index, row in enumerate(detections.rows(images))
    ]
    with redirect_stdout(StringIO()):  # pycocotools prints its progress
        truth_set = _data_set(truth_entries, len(images), classes)
        evaluation = COCOeval(truth_set, _data_set(detected_entries, len(images), classes), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = {name: _or_none(float(value)) for name, value in zip(COCO_STATS, evaluation.stats, strict=True)}
    # [IoU threshold, recall point, class, area range, limit of detections an image]: all areas, 100 detections
    precision_TRK = evaluation.eval["precision"][:, :, :, 0, -1]
    by_class = ((precision_TRK[:, :, k].mean(), precision_TRK[0, :, k].mean()) for k in range(classes))
    return CocoPrecision(stats, tuple((_or_none(float(ap)), _or_none(float(ap50))) for ap, ap50 in by_class))


def _data_set(annotations: list[dict[str, Any]], images: int, classes: int) -> Any:
    from pycocotools.coco import COCO

    data = COCO()
    data.dataset = {
        "images": [{"id": index} for index in range(images)],
        "categories": [{"id": index} for index in range(classes)],
        "annotations": annotations,
    }
    data.createIndex()
    return data


def _entry(index: int, image: int, class_id: int, edges_px: Sequence[float]) -> dict[str, Any]:
    left, top, right, bottom = edges_px
    w, h = right - left, bottom - top
    return {
        "id": index + 1,  # pycocotools takes id 0 for "no match"
        "image_id": image,
        "category_id": class_id,
        "bbox": [left, top, w, h],
        "area": w * h,
        "iscrowd": 0,
    }


def _or_none(value: float) -> float | None:
    """None for -1, pycocotools' number where there is no ground truth."""
    return None if value < 0 else value
