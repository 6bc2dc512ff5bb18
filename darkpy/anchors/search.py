"""Anchors for boxes: k-means from several starts, of which the best is kept.

Letters: N boxes, K anchors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from darkpy.anchors.kmeans import AnchorFit, Clustering, Floats, cluster, iou_of_sizes, measure_fit
from darkpy.errors import DarkpyError

_TRIES = 20
_ROUNDS_ON_ALL = 100  # after those on a sample; what more would change is less than one start differs from another


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchConfig:
    """How anchors are looked for. plus_plus: each start far from those before it, else boxes drawn at random.

    sample: where there are more boxes, each start is tried on so many of them first, and goes on with all if it is
        better than those before; None: always on all.
    """

    count: int
    restarts: int = 1
    seed: int = 0
    median: bool = False
    plus_plus: bool = False
    by_width: bool = False
    sample: int | None = None


@dataclass(frozen=True, eq=False, slots=True)
class SearchResult:
    """Anchors, smallest first, and what is known of them. Shapes: anchors_K2 w, h in the unit of the boxes.

    fits: the average IoU that each start led to, on the sample if there was one. rounds: how often the best one's
    centers moved.
    """

    anchors_K2: Floats
    fit: AnchorFit
    rounds: int
    fits: tuple[float, ...]


def find_anchors(
    sizes_N2: Floats, search: SearchConfig, progress: Callable[[Sequence[int]], Iterable[int]] = iter
) -> SearchResult:
    """The anchors whose average IoU with the boxes is the largest of all starts.

    Start r follows from the seed and r, and so does what comes of it: more restarts are never worse.

    watch: is handed the numbers of the starts, and hands them on.
    Raises: DarkpyError when there are fewer different boxes than anchors.
    """
    few_N2 = _sample(sizes_N2, search)
    best: tuple[float, Clustering] | None = None
    fits: list[float] = []
    for restart in progress(range(search.restarts)):
        rng = Random(f"{search.seed}/{restart}")
        start_K2 = (_far_apart if search.plus_plus else _at_random)(few_N2, search.count, rng)
        made = cluster(few_N2, start_K2, median=search.median)
        average_iou = measure_fit(few_N2, made.centers_K2).average_iou
        is_better = average_iou > max(fits, default=-1.0)
        fits.append(average_iou)
        if is_better and few_N2 is not sizes_N2:
            made = _go_on(sizes_N2, made, median=search.median)
            average_iou = measure_fit(sizes_N2, made.centers_K2).average_iou
        if is_better and (best is None or average_iou > best[0]):
            best = average_iou, made
    assert best is not None
    made = best[1]
    anchors_K2 = ordered(made.centers_K2, by_width=search.by_width)
    return SearchResult(anchors_K2, measure_fit(sizes_N2, anchors_K2), made.rounds, tuple(fits))


def _go_on(sizes_N2: Floats, made: Clustering, *, median: bool) -> Clustering:
    """With all boxes from where a sample of them led to; the rounds are those of both."""
    whole = cluster(sizes_N2, made.centers_K2, median=median, max_rounds=_ROUNDS_ON_ALL)
    return whole._replace(rounds=made.rounds + whole.rounds)


def ordered(anchors_K2: Floats, *, by_width: bool = False) -> Floats:
    """Anchors by their area, or by their width; of equals the first stays first."""
    return anchors_K2[np.argsort(anchors_K2[:, 0] if by_width else anchors_K2.prod(1), kind="stable")]


def _sample(sizes_N2: Floats, search: SearchConfig) -> Floats:
    """What the starts are tried on, whatever their number is."""
    if search.sample is None or len(sizes_N2) <= search.sample:
        return sizes_N2
    few_N2 = sizes_N2[Random(f"{search.seed}/sample").sample(range(len(sizes_N2)), search.sample)]
    return few_N2 if len(set(map(tuple, few_N2.tolist()))) >= search.count else sizes_N2


def _at_random(sizes_N2: Floats, count: int, rng: Random) -> Floats:
    """Boxes, each different from the others.

    Source: AlexeyAB/darknet src/matrix.c random_centers
    Differs: there the boxes are different ones, but may have one size.
    """
    for _ in range(_TRIES if count <= len(sizes_N2) else 0):
        start_K2 = sizes_N2[rng.sample(range(len(sizes_N2)), count)]
        if len(set(map(tuple, start_K2.tolist()))) == count:
            return start_K2
    different_M2 = np.unique(sizes_N2, axis=0)
    if len(different_M2) < count:
        raise DarkpyError(
            f"{count} anchors are wanted, and the {len(sizes_N2)} boxes have {len(different_M2)} different sizes",
            hint="ask for fewer anchors",
        )
    return different_M2[rng.sample(range(len(different_M2)), count)]


def _far_apart(sizes_N2: Floats, count: int, rng: Random) -> Floats:
    """k-means++: each start is a box, the likelier the farther it is from the nearest one before it."""
    if not len(sizes_N2):
        return _at_random(sizes_N2, count, rng)
    places = [rng.randrange(len(sizes_N2))]
    distance_N = np.full(len(sizes_N2), np.inf)
    while len(places) < count:
        distance_N = np.minimum(distance_N, 1 - iou_of_sizes(sizes_N2, sizes_N2[places[-1]]))
        weight_N = np.cumsum(distance_N**2)
        if weight_N[-1] <= 0:
            return _at_random(sizes_N2, count, rng)
        places.append(int(np.searchsorted(weight_N, rng.random() * weight_N[-1], side="right")))
    return sizes_N2[places]
