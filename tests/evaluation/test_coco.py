"""COCO's numbers on cases that can be done by hand, and on random ones that pycocotools does."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import pytest
import torch

from darkpy.evaluation.coco import COCO_STATS, CocoPrecision, coco_precision
from darkpy.evaluation.detect import ImageStatus
from darkpy.evaluation.detection_store import DetectionStore
from darkpy.evaluation.ground_truth import GroundTruth
from darkpy.ops.boxes import Detections, to_corners

IMAGES = [ImageStatus(0, "a.jpg", (200, 200)), ImageStatus(1, "b.jpg", (200, 200))]
WHOLE = (0.5, 0.5, 0.5, 0.5)
SEVENTY_PERCENT = (0.5, 0.5, 0.5, 0.35)


def judge(*rows: tuple[int, tuple[float, ...], tuple[float, ...]]) -> CocoPrecision:
    """Class 0 has an object on each image, class 1 one on the first, class 2 none."""
    truths = GroundTruth(torch.tensor([0, 1, 0]), torch.tensor([0, 0, 1]), torch.tensor([WHOLE] * 3))
    detections = DetectionStore()
    if rows:
        image_M, boxes_M4, prob_MK = (torch.tensor(column) for column in zip(*rows, strict=True))
        detections.add(Detections(image_M, boxes_M4, torch.ones(len(rows)), prob_MK))
    return coco_precision(detections, truths, IMAGES, 3)


def test_all_found_is_one_and_classes_without_an_object_do_not_count() -> None:
    detections = judge((0, WHOLE, (0.9, 0.8, 0.7)), (1, WHOLE, (0.9, 0.0, 0.0)))
    assert tuple(detections.stats) == COCO_STATS
    assert detections.stats["AP"] == pytest.approx(1)
    assert detections.classes[0] == pytest.approx((1, 1)) == detections.classes[1]
    assert detections.classes[2] == (None, None)


def test_each_overlap_counts_a_tenth() -> None:
    """An overlap of .7 is enough for .50 to .65; floats decide about .70 itself."""
    detections = judge(
        (0, WHOLE, (0.0, 0.8, 0.0)), (0, SEVENTY_PERCENT, (0.9, 0.0, 0.0)), (1, SEVENTY_PERCENT, (0.9, 0.0, 0.0))
    )
    everywhere, half = detections.classes[0]
    assert everywhere is not None and 0.39 < everywhere < 0.51
    assert half == pytest.approx(1) and detections.stats["AP75"] == pytest.approx(0.5)


def test_size_that_no_object_has_is_not_a_number() -> None:
    stats = judge((0, WHOLE, (0.9, 0.8, 0.0))).stats
    assert stats["AP_small"] is None and stats["AP_large"] is not None


def test_nothing_found_is_nought() -> None:
    detections = judge()
    assert (detections.stats["AP"], detections.classes[0], detections.classes[2]) == (0, (0, 0), (None, None))


def pycocotools_precision(
    detections: DetectionStore, truth: GroundTruth, images: list[ImageStatus], classes: int, plain: int
) -> tuple[list[float], Any]:
    """pycocotools' twelve numbers, and its precision of each IoU threshold, recall point and class.

    plain: number of objects; all behind these are crowds.
    """
    coco_module, evaluation_module = (pytest.importorskip(f"pycocotools.{name}") for name in ("coco", "cocoeval"))

    def entry(
        index: int, image: int, class_id: int, edges: Sequence[float], score: float, is_crowd: bool = False
    ) -> dict[str, Any]:
        left, top, right, bottom = edges
        box = [left, top, right - left, bottom - top]
        numbers = {"id": index + 1, "image_id": image, "category_id": class_id, "score": score}
        return {**numbers, "bbox": box, "area": box[2] * box[3], "iscrowd": int(is_crowd)}

    def data(annotations: list[dict[str, Any]]) -> Any:
        data_set = coco_module.COCO()
        data_set.dataset = {
            "images": [{"id": index} for index in range(len(images))],
            "categories": [{"id": index} for index in range(classes)],
            "annotations": annotations,
        }
        data_set.createIndex()
        return data_set

    corners = to_corners(truth.boxes_N4.double()).tolist()
    sizes = [images[image].size for image in truth.image_N.tolist()]
    truth_entries = [
        entry(index, image, class_id, (left * w, top * h, right * w, bottom * h), 1, index >= plain)
        for index, (image, class_id, (left, top, right, bottom), (w, h)) in enumerate(
            zip(truth.image_N.tolist(), truth.class_N.tolist(), corners, sizes, strict=True)
        )
    ]
    rows = detections.rows(images)
    detected_entries = [entry(index, row.image, row.class_id, row[3:], row.score) for index, row in enumerate(rows)]
    with redirect_stdout(StringIO()):
        evaluation = evaluation_module.COCOeval(data(truth_entries), data(detected_entries), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist(), evaluation.eval["precision"][:, :, :, 0, -1]


@pytest.mark.parametrize("crowd_share", [0, 0.3, 1])
@pytest.mark.parametrize(
    ("seed", "images", "objects", "boxes", "classes"),
    [(1, 12, 90, 400, 4), (2, 1, 40, 500, 2), (3, 6, 3, 60, 5), (4, 5, 0, 20, 2), (5, 5, 20, 0, 2)],
)
def test_numbers_are_those_of_pycocotools(
    seed: int, images: int, objects: int, boxes: int, classes: int, crowd_share: float
) -> None:
    """Objects of all sizes, some of them twice or crowds, and detections near them with equal scores, more than 100 an
    image.
    """
    rng = torch.Generator().manual_seed(seed)
    statuses = [ImageStatus(index, f"{index}", (300 + 50 * index, 400)) for index in range(images)]
    size_N2 = torch.rand(objects, 2, generator=rng) ** 2 * 0.5 + 0.02
    boxes_N4 = torch.cat((torch.rand(objects, 2, generator=rng), size_N2), dim=1)
    boxes_N4[1::5] = boxes_N4[: len(boxes_N4[1::5])]
    image_N, class_N = (torch.randint(most, (objects,), generator=rng) for most in (images, classes))
    truth = GroundTruth(image_N, class_N, boxes_N4)
    chosen_M = torch.randint(max(objects, 1), (boxes,), generator=rng)
    image_M = image_N[chosen_M] if objects else torch.randint(images, (boxes,), generator=rng)
    boxes_M4 = (boxes_N4[chosen_M] if objects else torch.rand(boxes, 4, generator=rng)).clone()
    boxes_M4[::2] += (torch.rand(len(boxes_M4[::2]), 4, generator=rng) - 0.5) * boxes_M4[::2, 2:].repeat(1, 2) * 0.5
    scores_MK = (torch.rand(boxes, classes, generator=rng) * 20).round() / 20
    prob_MK = scores_MK * (torch.rand(boxes, classes, generator=rng) < 0.5)
    if objects:
        prob_MK[torch.arange(boxes), class_N[chosen_M]] = scores_MK[torch.arange(boxes), class_N[chosen_M]]
    store = DetectionStore()
    store.add(Detections(image_M, boxes_M4, torch.ones(boxes), prob_MK))

    plain = objects - round(crowd_share * objects)
    expected, precision_IRK = pycocotools_precision(store, truth, statuses, classes, plain)
    parts = [
        GroundTruth(image_N[part], class_N[part], boxes_N4[part]) for part in (slice(plain), slice(plain, objects))
    ]
    result = coco_precision(store, parts[0], statuses, classes, parts[1] if crowd_share else None)
    numbers = [-1.0 if value is None else value for value in result.stats.values()]
    assert numbers == pytest.approx(expected, abs=1e-12)
    for k, (ap, ap50) in enumerate(result.classes):
        assert (-1 if ap is None else ap) == pytest.approx(precision_IRK[:, :, k].mean(), abs=1e-12)
        assert (-1 if ap50 is None else ap50) == pytest.approx(precision_IRK[0, :, k].mean(), abs=1e-12)
