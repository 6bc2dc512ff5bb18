"""k-means on the IoU of boxes that share a corner."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from darkpy.anchors.format import anchors_text
from darkpy.anchors.kmeans import Floats, cluster, iou_of_sizes, measure_fit, nearest
from darkpy.anchors.search import ordered
from darkpy.data.formats.voc import read_voc
from darkpy.errors import DarkpyError

SIDES = st.integers(1, 12).map(float)
BOXES = st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=60).map(np.array)


def boxes(count: int, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    return np.exp(rng.normal(size=(count, 2)) + rng.integers(5, size=(count, 1)))


def plain_loop(sizes_N2: Floats, start_K2: Floats, *, median: bool) -> tuple[Floats, NDArray[np.intp]]:
    """Compare every box with every center in every round."""
    centers_K2, owner_N = start_K2.copy(), np.zeros(len(sizes_N2), np.intp)
    average = np.median if median else np.mean
    while True:
        near_N = iou_of_sizes(sizes_N2[:, None], centers_K2).argmax(1)
        if (near_N == owner_N).all():
            return centers_K2, owner_N
        owner_N = near_N
        for number in set(owner_N.tolist()):
            centers_K2[number] = average(sizes_N2[owner_N == number], axis=0)


@pytest.mark.parametrize("median", [False, True])
@given(sizes_N2=BOXES, count=st.integers(2, 6), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_result_is_that_of_comparing_everything(median: bool, sizes_N2: Floats, count: int, seed: int) -> None:
    # no box is as far from two centers, where rounding would decide
    sizes_N2 = sizes_N2 * (1 + 1e-3 * np.random.default_rng(seed).random(sizes_N2.shape))
    start_K2 = sizes_N2[np.arange(count) % len(sizes_N2)]
    centers_K2, owner_N = plain_loop(sizes_N2, start_K2, median=median)
    made = cluster(sizes_N2, start_K2, median=median)
    np.testing.assert_allclose(made.centers_K2, centers_K2, rtol=1e-9)
    assert (made.nearest_N == owner_N).all()


@pytest.mark.parametrize("median", [False, True])
def test_thousands_of_boxes_move_for_many_rounds_as_in_the_plain_loop(median: bool) -> None:
    sizes_N2 = boxes(3000)
    made = cluster(sizes_N2, sizes_N2[:9], median=median)
    centers_K2, owner_N = plain_loop(sizes_N2, sizes_N2[:9], median=median)
    assert made.rounds > 15
    np.testing.assert_allclose(made.centers_K2, centers_K2, rtol=1e-9)
    assert (made.nearest_N == owner_N).all()


@pytest.mark.parametrize(
    ("start", "rounds", "average_iou", "anchors"),
    [
        ([3808, 321, 186, 3490, 921, 1176], 27, 85.86, " 26, 34,  65, 68,  56, 89,  71, 87,  79,104, 140,169"),
        (
            [3808, 321, 186, 3490, 921, 1176, 3294, 428, 4174],
            *(51, 87.69, " 26, 34,  56, 73,  71, 66,  53, 96,  66, 87,  79, 86,  75,103, 117,134, 148,182"),
        ),
        (
            [3441, 1505, 3275, 1420, 3, 3786, 3188, 4803, 2955],
            *(80, 87.81, " 26, 33,  65, 61,  60, 79,  51, 96,  75, 82,  68, 94,  81,102, 121,137, 148,184"),
        ),
    ],
)
def test_same_start_leads_where_alexeyabs_program_went(
    shared: Path, start: list[int], rounds: int, average_iou: float, anchors: str
) -> None:
    sizes_N2 = bccd(shared / "data/bccd")
    made = cluster(sizes_N2, sizes_N2[start])
    assert made.rounds == rounds
    assert anchors_text(ordered(made.centers_K2), 416) == anchors
    assert 100 * measure_fit(sizes_N2, made.centers_K2).average_iou == pytest.approx(average_iou, abs=0.006)


def test_medians_of_real_boxes_are_those_of_the_plain_loop(shared: Path) -> None:
    sizes_N2 = bccd(shared / "data/bccd")
    for seed in range(3):
        start_K2 = sizes_N2[np.random.default_rng(seed).choice(len(sizes_N2), 9, replace=False)]
        centers_K2, _ = plain_loop(sizes_N2, start_K2, median=True)
        np.testing.assert_allclose(cluster(sizes_N2, start_K2, median=True).centers_K2, centers_K2, rtol=1e-12)


def bccd(folder: Path) -> Floats:
    """Its boxes with a size, at 416 x 416, the 292 images to train with before the 72 others."""
    read = read_voc(folder)
    images = [read.images[name] for split in ("trainval", "test") for name in read.splits[split]]
    sides = [
        ((box.right - box.left) / image.w, (box.bottom - box.top) / image.h)
        for image in images
        for box in (one.box for one in image.objects)
    ]
    sizes_N2 = 416 * np.array(sides)
    return sizes_N2[(sizes_N2 > 0).all(1)]


def test_a_center_without_boxes_stays() -> None:
    sizes_N2 = np.array([(1.0, 1.0), (2.0, 2.0), (2.2, 2.0)])
    made = cluster(sizes_N2, np.array([(1.0, 1.0), (2.0, 2.0), (900.0, 1.0)]))
    np.testing.assert_allclose(made.centers_K2, [(1, 1), (2.1, 2), (900, 1)])


def test_one_center_is_the_mean() -> None:
    made = cluster(np.array([(1.0, 4.0), (3.0, 6.0)]), np.array([(9.0, 9.0)]))
    assert made.centers_K2.tolist() == [[2, 5]] and made.rounds == 0


def test_boxes_without_area_overlap_nothing() -> None:
    sizes_N2 = np.array([(0.0, 0.0), (0.0, 3.0), (4.0, 4.0), (1.0, 1.0)])
    assert measure_fit(sizes_N2, np.array([(4.0, 4.0), (0.0, 0.0)])).average_iou == pytest.approx((1 + 1 / 16) / 4)
    assert np.isfinite(cluster(sizes_N2, sizes_N2[:2]).centers_K2).all()


def test_fit_is_mean_best_iou_and_share_at_least_half() -> None:
    fit = measure_fit(np.array([(2.0, 2.0), (2.0, 1.0), (8.0, 1.0)]), np.array([(2.0, 2.0)]))
    assert fit.average_iou == pytest.approx((1 + 1 / 2 + 2 / 10) / 3)
    assert fit.recall == pytest.approx(2 / 3)
    assert measure_fit(np.empty((0, 2)), np.ones((1, 2))) == (0, 0)


def test_of_equal_anchors_the_first_is_the_nearest() -> None:
    assert nearest(np.array([(1.0, 2.0)]), np.array([(2.0, 1.0), (1.0, 2.0), (1.0, 2.0)])).tolist() == [1]


def test_rounds_are_limited() -> None:
    assert cluster(boxes(500), boxes(500)[:9], max_rounds=3).rounds == 3


@pytest.mark.parametrize(
    "sizes_N2", [np.empty((0, 2)), np.array([(1.0, -1.0)]), np.array([(1.0, np.nan)]), np.array([(1e13, 1.0)])]
)
def test_invalid_boxes_are_errors(sizes_N2: Floats) -> None:
    with pytest.raises(DarkpyError):
        cluster(sizes_N2, np.ones((1, 2)))
