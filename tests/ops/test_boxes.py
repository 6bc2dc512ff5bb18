from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from darkpy.ops import boxes

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "boxes.npz")
OVERLAP_MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "iou": boxes.iou,
    "giou": boxes.giou,
    "diou": boxes.diou,
    "ciou": boxes.ciou,
}
side = st.floats(0.01, 2)
place = st.floats(-1, 2)
box = st.tuples(place, place, side, side).map(lambda numbers: torch.tensor(numbers, dtype=torch.float64))


@pytest.mark.parametrize("key", ["pjreddie/iou", "alexeyab/iou", "alexeyab/giou", "alexeyab/diou", "alexeyab/ciou"])
def test_every_measure_is_what_darknet_computes(key: str) -> None:
    fork, name = key.split("/")
    pairs = torch.from_numpy(GOLDEN[f"{fork}/pairs"])
    measured = OVERLAP_MEASURES[name](pairs[:, :4], pairs[:, 4:])
    assert np.abs(measured.numpy() - GOLDEN[key]).max() <= 1e-7


@pytest.mark.parametrize("key", ["pjreddie/iou", "alexeyab/iou", "alexeyab/giou"])
def test_measures_without_powers_are_darknets_to_the_last_bit(key: str) -> None:
    fork, name = key.split("/")
    pairs = torch.from_numpy(GOLDEN[f"{fork}/pairs"])
    assert np.array_equal(OVERLAP_MEASURES[name](pairs[:, :4], pairs[:, 4:]).numpy(), GOLDEN[key])


@pytest.mark.parametrize("measure", OVERLAP_MEASURES.values(), ids=OVERLAP_MEASURES)
def test_all_pairs_by_broadcasting_equal_one_pair_at_a_time(measure: Callable[[Tensor, Tensor], Tensor]) -> None:
    pairs = torch.from_numpy(GOLDEN["alexeyab/pairs"])[:20]
    a_N4, b_N4 = pairs[:, :4], pairs[:, 4:]
    matrix = measure(a_N4[:, None], b_N4)
    assert matrix.shape == (20, 20)
    torch.testing.assert_close(matrix[3, 7], measure(a_N4[3], b_N4[7]), atol=1e-6, rtol=0)
    torch.testing.assert_close(matrix.diagonal(), measure(a_N4, b_N4), atol=1e-6, rtol=0)


@settings(deadline=None)
@given(box, box)
def test_every_measure_is_symmetric(a: Tensor, b: Tensor) -> None:
    for measure in OVERLAP_MEASURES.values():
        assert measure(a, b).item() == pytest.approx(measure(b, a).item(), abs=1e-9)


@settings(deadline=None)
@given(box, box)
def test_distance_and_enclosure_only_lower_the_iou(a: Tensor, b: Tensor) -> None:
    plain = boxes.iou(a, b)
    assert 0 <= plain <= 1 + 1e-9
    for measure in (boxes.giou, boxes.diou, boxes.ciou):
        assert measure(a, b) <= plain + 1e-9


@settings(deadline=None)
@given(box)
def test_a_box_matches_itself_fully(a: Tensor) -> None:
    for measure in OVERLAP_MEASURES.values():
        assert measure(a, a).item() == pytest.approx(1, abs=1e-9)


def test_known_overlap_of_two_unit_squares() -> None:
    a, b = torch.tensor([0.5, 0.5, 1, 1]), torch.tensor([1.0, 0.5, 1, 1])
    assert boxes.iou(a, b).item() == pytest.approx(1 / 3)
    assert boxes.giou(a, b).item() == pytest.approx(1 / 3)
    assert boxes.diou(a, b).item() == pytest.approx(1 / 3 - (0.25 / 3.25) ** 0.6)
    assert boxes.diou(a, b, beta=1).item() == pytest.approx(1 / 3 - 0.25 / 3.25)
    assert boxes.ciou(a, b).item() == pytest.approx(1 / 3 - 0.25 / 3.25)


@pytest.mark.parametrize("measure", OVERLAP_MEASURES.values(), ids=OVERLAP_MEASURES)
def test_boxes_without_area_overlap_by_zero_not_nan(measure: Callable[[Tensor, Tensor], Tensor]) -> None:
    point = torch.tensor([0.3, 0.3, 0.0, 0.0])
    assert measure(point, point).item() == 0


def test_boxes_that_only_touch_do_not_overlap() -> None:
    a, b = torch.tensor([0.25, 0.5, 0.5, 1]), torch.tensor([0.75, 0.5, 0.5, 1])
    assert boxes.iou(a, b).item() == 0


def test_boxes_apart_in_both_directions_do_not_overlap() -> None:
    a, b = torch.tensor([0.0, 0.0, 0.5, 0.5]), torch.tensor([3.0, 3.0, 0.5, 0.5])
    assert boxes.iou(a, b).item() == 0
    assert boxes.giou(a, b).item() == pytest.approx(-(3.5**2 - 0.5) / 3.5**2)


def test_corners_of_a_known_box() -> None:
    assert boxes.to_corners(torch.tensor([0.5, 0.5, 0.25, 1.0])).tolist() == [0.375, 0.0, 0.625, 1.0]


@settings(deadline=None)
@given(box)
def test_center_form_survives_the_way_to_corners_and_back(a: Tensor) -> None:
    torch.testing.assert_close(boxes.to_center(boxes.to_corners(a)), a, atol=1e-12, rtol=0)
