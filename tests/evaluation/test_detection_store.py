from __future__ import annotations

import math

import torch

from darkpy.evaluation.detect import ImageStatus
from darkpy.evaluation.detection_store import DetectionStore
from darkpy.ops.boxes import Detections

IMAGES = [ImageStatus(0, "a.jpg", (100, 50)), ImageStatus(1, "b.jpg", (10, 10))]


def found_of(*rows: tuple[int, tuple[float, ...], tuple[float, ...]]) -> DetectionStore:
    detections = DetectionStore()
    image_M, boxes_M4, prob_MK = (torch.tensor(column) for column in zip(*rows, strict=True))
    detections.add(Detections(image_M, boxes_M4, torch.ones(len(rows)), prob_MK))
    return detections


def test_rows_hold_edges_in_pixels_cut_off_at_the_image() -> None:
    detections = found_of((0, (0.5, 0.5, 0.5, 0.25), (0.0, 0.75)), (1, (0.0, 1.0, 0.5, 0.5), (0.5, 0.25)))
    assert [tuple(row) for row in detections.rows(IMAGES)] == [
        (0, 1, 0.75, 25, 18.75, 75, 31.25),
        (1, 0, 0.5, 0, 7.5, 2.5, 10),
        (1, 1, 0.25, 0, 7.5, 2.5, 10),
    ]
    assert [tuple(row)[3:] for row in detections.rows(IMAGES, first_pixel=1)][1] == (1, 8.5, 3.5, 10)


def test_places_pick_an_image_or_a_class() -> None:
    detections = found_of((1, (0.5, 0.5, 0.5, 0.5), (0.5, 0.25)), (0, (0.5, 0.5, 0.5, 0.5), (0.0, 0.75)))
    by_class, by_image = detections.by_class(3), detections.by_image(2)
    assert [[row.image for row in detections.rows(IMAGES, places)] for places in by_class] == [[1], [1, 0], []]
    assert [[row.class_id for row in detections.rows(IMAGES, places)] for places in by_image] == [[1], [0, 1]]


def test_box_beyond_the_image_ends_at_its_edge_without_a_size() -> None:
    (row,) = found_of((0, (3.0, 0.5, 0.5, 0.5), (0.5,))).rows(IMAGES)
    assert (row.left, row.right) == (100, 100)


def test_box_without_end_is_the_image_and_nan_is_no_box() -> None:
    detections = found_of((0, (0.5, 0.5, math.inf, 0.5), (0.5,)), (0, (0.5, math.nan, 0.5, 0.5), (0.5,)))
    (row,) = detections.rows(IMAGES)
    assert (row.left, row.right) == (0, 100)


def test_boxes_too_large_for_float32_pixels_are_finite() -> None:
    (row,) = found_of((0, (3e38, 0.5, 3e38, 1e38), (0.5,))).rows(IMAGES)
    assert all(map(math.isfinite, row))


def test_nothing_found_has_no_rows() -> None:
    assert list(DetectionStore().rows(IMAGES)) == [] and [len(places) for places in DetectionStore().by_class(2)] == [
        0,
        0,
    ]
