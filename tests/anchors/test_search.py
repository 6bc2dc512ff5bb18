"""Anchors from several starts."""

from __future__ import annotations

import numpy as np
import pytest

from darkpy.anchors.kmeans import Floats, cluster
from darkpy.anchors.search import SearchConfig, find_anchors, ordered
from darkpy.errors import DarkpyError


def boxes(count: int = 400) -> Floats:
    rng = np.random.default_rng(0)
    return np.exp(rng.normal(size=(count, 2)))


@pytest.mark.parametrize("plus_plus", [False, True])
@pytest.mark.parametrize("median", [False, True])
def test_more_restarts_are_never_worse_and_the_seed_decides(plus_plus: bool, median: bool) -> None:
    found = [
        find_anchors(boxes(), SearchConfig(count=5, restarts=restarts, seed=3, median=median, plus_plus=plus_plus))
        for restarts in (1, 4, 12)
    ]
    assert found[0].fit <= found[1].fit <= found[2].fit
    assert found[0].fits == found[2].fits[:1] and max(found[2].fits) == found[2].fit.average_iou
    again = find_anchors(boxes(), SearchConfig(count=5, restarts=12, seed=3, median=median, plus_plus=plus_plus))
    assert (again.anchors_K2 == found[2].anchors_K2).all()
    other = find_anchors(boxes(), SearchConfig(count=5, seed=4, median=median, plus_plus=plus_plus))
    assert (other.anchors_K2 != found[0].anchors_K2).any()


def test_anchors_are_sorted_by_area_or_width() -> None:
    anchors_K2 = np.array([(9.0, 1.0), (3.0, 2.0), (4.0, 4.0)])
    assert ordered(anchors_K2).tolist() == [[3, 2], [9, 1], [4, 4]]
    assert ordered(anchors_K2, by_width=True).tolist() == [[3, 2], [4, 4], [9, 1]]


def test_starts_differ_even_where_most_boxes_are_one_size() -> None:
    sizes_N2 = np.array([(1.0, 1.0)] * 500 + [(5.0, 5.0), (9.0, 2.0)])
    for plus_plus in (False, True):
        found = find_anchors(sizes_N2, SearchConfig(count=3, plus_plus=plus_plus))
        assert found.anchors_K2.tolist() == [[1, 1], [9, 2], [5, 5]]


@pytest.mark.parametrize("plus_plus", [False, True])
@pytest.mark.parametrize("sizes_N2", [np.empty((0, 2)), np.ones((20, 2)), np.array([(1.0, 1.0), (2.0, 1.0)])])
def test_fewer_sizes_than_anchors_are_an_error(sizes_N2: Floats, plus_plus: bool) -> None:
    with pytest.raises(DarkpyError, match=r"3 anchors are requested, but .* boxes have|no label file has a box"):
        find_anchors(sizes_N2, SearchConfig(count=3, plus_plus=plus_plus))


@pytest.mark.parametrize("seed", range(5))
def test_many_boxes_are_tried_on_a_sample_and_more_restarts_are_never_worse(seed: int) -> None:
    found = [find_anchors(boxes(), SearchConfig(count=4, restarts=n, seed=seed, sample=40)) for n in range(1, 9)]
    assert found[0].fits == found[-1].fits[:1]
    fits = [one.fit.average_iou for one in found]
    assert fits == sorted(fits)
    whole = cluster(boxes(), found[-1].anchors_K2)
    assert np.allclose(whole.centers_K2, found[-1].anchors_K2, rtol=1e-12)  # of all boxes, not of some


def test_sample_with_too_few_sizes_is_not_taken() -> None:
    sizes_N2 = np.array([(1.0, 1.0)] * 500 + [(5.0, 5.0), (9.0, 2.0)])
    assert len(find_anchors(sizes_N2, SearchConfig(count=3, restarts=2, sample=20)).anchors_K2) == 3
