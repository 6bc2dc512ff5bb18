"""IoU of masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from darkpy.data.lists.mask_files import Mask, MaskFile, encode_runs
from darkpy.data.loading.images import Image
from darkpy.evaluation.mask_overlap import ClassOverlap, MaskOverlap, mean_iou
from darkpy.evaluation.segment import Segmentation

IMAGE = Image(Path("a.jpg"), np.zeros((4, 6, 3), np.uint8))


def mask(class_id: int, columns: slice) -> Mask:
    is_inside_HW = np.zeros((4, 6), bool)
    is_inside_HW[:, columns] = True
    return Mask(class_id, encode_runs(is_inside_HW))


def overlaps(*pairs: tuple[list[Mask], list[Mask]]) -> tuple[ClassOverlap, ...]:
    counted = MaskOverlap(3)
    for found, true in pairs:
        counted.add(Segmentation("a.jpg", IMAGE, masks=tuple(found)), MaskFile("a.txt", tuple(true), ()))
    return counted.classes()


def test_pixels_are_counted_over_all_images_and_masks_of_a_class_are_one() -> None:
    cat, dog, hen = overlaps(
        ([mask(0, slice(0, 3))], [mask(0, slice(0, 1)), mask(0, slice(0, 2))]),
        ([mask(0, slice(4, 5))], [mask(0, slice(5, 6)), mask(1, slice(0, 6))]),
    )
    assert (cat, dog, hen) == (ClassOverlap(16, 12, 8), ClassOverlap(0, 24, 0), ClassOverlap(0, 0, 0))
    assert (cat.iou, dog.iou, hen.iou) == (8 / 20, 0, 0)


def test_mean_is_that_of_the_classes_in_the_mask_files() -> None:
    found = overlaps(([mask(0, slice(0, 3)), mask(2, slice(0, 1))], [mask(0, slice(0, 6))]))
    assert found[2] == ClassOverlap(4, 0, 0) and mean_iou(found) == 0.5
    assert mean_iou(overlaps(([], []))) == 0


def test_masks_that_do_not_fit_the_image_do_not_count() -> None:
    long = Mask(0, np.array([0, 25]))
    assert overlaps(([], [long, mask(1, slice(0, 1))])) == (
        ClassOverlap(0, 0, 0),
        ClassOverlap(0, 4, 0),
        ClassOverlap(0, 0, 0),
    )
