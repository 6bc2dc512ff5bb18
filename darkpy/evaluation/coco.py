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
    """COCO's numbers, 0 to 1; None where there is no truth to find.

    stats: STATS and their values. classes: AP and AP50 of each class.
    """

    stats: dict[str, float | None]
    classes: tuple[tuple[float | None, float | None], ...]


def is_available() -> bool:
    return find_spec("pycocotools") is not None


def coco_precision(
    found: DetectionStore, truths: GroundTruth, views: Sequence[ImageStatus], classes: int
) -> CocoPrecision:
    """COCO's numbers for what was found on a list of images.

    views: all images of the list. Objects are measured by their boxes, and none is a crowd.
    Raises: DarkpyError when pycocotools is not installed.
    """
    try:
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise DarkpyError("COCO's average precision needs pycocotools", hint="pip install pycocotools") from error
    with redirect_stdout(StringIO()):  # it talks
        truth_set = _data_set(_truth_entries(truths, views), len(views), classes)
        evaluation = COCOeval(truth_set, _data_set(_found_entries(found, views), len(views), classes), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = {name: _known(float(value)) for name, value in zip(COCO_STATS, evaluation.stats, strict=True)}
    # by IoU, recall, class, area and how many detections an image may have: all areas, most detections
    precision_TRK = evaluation.eval["precision"][:, :, :, 0, -1]
    by_class = ((precision_TRK[:, :, k].mean(), precision_TRK[0, :, k].mean()) for k in range(classes))
    return CocoPrecision(stats, tuple((_known(float(all_ious)), _known(float(half))) for all_ious, half in by_class))


def _data_set(annotations: list[dict[str, Any]], images: int, classes: int) -> Any:
    from pycocotools.coco import COCO

    data = COCO()
    data.dataset = {
        "images": [{"id": number} for number in range(images)],
        "categories": [{"id": number} for number in range(classes)],
        "annotations": annotations,
    }
    data.createIndex()
    return data


def _truth_entries(truths: GroundTruth, views: Sequence[ImageStatus]) -> list[dict[str, Any]]:
    corners = to_corners(truths.boxes_N4.double()).tolist()
    rows = zip(truths.image_N.tolist(), truths.class_N.tolist(), corners, strict=True)
    entries: list[dict[str, Any]] = []
    for image, class_id, (left, top, right, bottom) in rows:
        w, h = views[image].size
        entries.append(_entry(len(entries), image, class_id, (left * w, top * h, right * w, bottom * h)))
    return entries


def _found_entries(found: DetectionStore, views: Sequence[ImageStatus]) -> list[dict[str, Any]]:
    rows = enumerate(found.rows(views))
    return [{**_entry(number, row.image, row.class_id, row[3:]), "score": row.score} for number, row in rows]


def _entry(number: int, image: int, class_id: int, edges_px: Sequence[float]) -> dict[str, Any]:
    left, top, right, bottom = edges_px
    w, h = right - left, bottom - top
    return {
        "id": number + 1,  # pycocotools takes 0 for none
        "image_id": image,
        "category_id": class_id,
        "bbox": [left, top, w, h],
        "area": w * h,
        "iscrowd": 0,
    }


def _known(value: float) -> float | None:
    return None if value < 0 else value
