"""Search for anchors: k-means from several starts, of which the best is returned.

Letters: N boxes, K anchors.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from darkpy.anchors.kmeans import AnchorMatch, Clustering, Floats, cluster, iou_of_sizes, measure_fit
from darkpy.errors import DarkpyError, DarkpyWarning

_MAX_DRAWS = 20  # draws of distinct boxes before they are taken from the list of distinct sizes
_MAX_ROUNDS_ON_ALL = 100  # after those on a sample; further rounds change less than another start would


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchConfig:
    """Options of the search.

    count: number of anchors. plus_plus: start with k-means++, else with boxes drawn at random.
    median: move centers to medians instead of means. by_width: sort anchors by width instead of area.
    repeat_sizes: use sizes of boxes more than once if there are fewer of them than anchors, as AlexeyAB's program does.
    sample: if there are more boxes, run each start on a sample of this size, and on all boxes only if it is the best
        so far; None always uses all boxes.
    """

    count: int
    restarts: int = 1
    seed: int = 0
    median: bool = False
    plus_plus: bool = False
    by_width: bool = False
    repeat_sizes: bool = False
    sample: int | None = None


@dataclass(frozen=True, eq=False, slots=True)
class SearchResult:
    """Anchors, smallest first, and how well they fit. Shapes: anchors_K2 w, h in the unit of the boxes.

    fits: average IoU of each start, on the sample if there is one. rounds: k-means rounds of the best start.
    """

    anchors_K2: Floats
    fit: AnchorMatch
    rounds: int
    fits: tuple[float, ...]


def find_anchors(
    sizes_N2: Floats, search: SearchConfig, progress: Callable[[Sequence[int]], Iterable[int]] = iter
) -> SearchResult:
    """Find the anchors with the largest average IoU over all starts.

    Start r depends only on the seed and r: more restarts are never worse.

    progress: wraps the range of starts, for a progress bar.
    Raises: DarkpyError when there are no boxes, or fewer distinct ones than anchors, unless sizes may repeat.
    """
    if not len(sizes_N2):
        raise DarkpyError("no label file has a box", hint="write `class x y w h` on each line of a label file")
    sample_N2 = sizes_N2
    if search.sample is not None and len(sizes_N2) > search.sample:
        sample_N2 = sizes_N2[Random(f"{search.seed}/sample").sample(range(len(sizes_N2)), search.sample)]
        if len(set(map(tuple, sample_N2.tolist()))) < search.count:  # fewer distinct sizes than anchors
            sample_N2 = sizes_N2
    best: tuple[float, Clustering] | None = None
    fits: list[float] = []
    for restart in progress(range(search.restarts)):
        rng = Random(f"{search.seed}/{restart}")
        start = _plus_plus_start if search.plus_plus else _random_start
        start_K2 = start(sample_N2, search.count, rng, search.repeat_sizes)
        clustering = cluster(sample_N2, start_K2, median=search.median)
        average_iou = measure_fit(sample_N2, clustering.centers_K2).average_iou
        is_better = average_iou > max(fits, default=-1.0)
        fits.append(average_iou)
        if is_better and sample_N2 is not sizes_N2:
            rounds = clustering.rounds
            clustering = cluster(sizes_N2, clustering.centers_K2, median=search.median, max_rounds=_MAX_ROUNDS_ON_ALL)
            clustering = clustering._replace(rounds=rounds + clustering.rounds)
            average_iou = measure_fit(sizes_N2, clustering.centers_K2).average_iou
        if is_better and (best is None or average_iou > best[0]):
            best = average_iou, clustering
    assert best is not None
    clustering = best[1]
    anchors_K2 = ordered(clustering.centers_K2, by_width=search.by_width)
    if search.repeat_sizes and len(set(map(tuple, anchors_K2.tolist()))) < search.count:
        warnings.warn(f"{_too_few_sizes(sizes_N2, search.count)}: anchors repeat", DarkpyWarning, stacklevel=2)
    return SearchResult(anchors_K2, measure_fit(sizes_N2, anchors_K2), clustering.rounds, tuple(fits))


def ordered(anchors_K2: Floats, *, by_width: bool = False) -> Floats:
    """Sort anchors by area, or by width; the sort is stable."""
    return anchors_K2[np.argsort(anchors_K2[:, 0] if by_width else anchors_K2.prod(1), kind="stable")]


def _too_few_sizes(sizes_N2: Floats, count: int) -> str:
    distinct = len(np.unique(sizes_N2, axis=0))
    sizes = "1 size" if distinct == 1 else f"{distinct} different sizes"
    boxes = "1 box has" if len(sizes_N2) == 1 else f"{len(sizes_N2)} boxes have"
    return f"{count} anchors are requested, but {boxes} only {sizes}"


def _random_start(sizes_N2: Floats, count: int, rng: Random, repeat_sizes: bool) -> Floats:
    """Draw boxes of distinct sizes.

    Source: AlexeyAB/darknet src/matrix.c random_centers
    Differs: darknet draws distinct boxes, which may have the same size.
    """
    for _ in range(_MAX_DRAWS if count <= len(sizes_N2) else 0):
        start_K2 = sizes_N2[rng.sample(range(len(sizes_N2)), count)]
        if len(set(map(tuple, start_K2.tolist()))) == count:
            return start_K2
    distinct_M2 = np.unique(sizes_N2, axis=0)
    if len(distinct_M2) < count:
        if not repeat_sizes:
            raise DarkpyError(_too_few_sizes(sizes_N2, count), hint="ask for fewer anchors")
        repeated_R2 = sizes_N2[rng.choices(range(len(sizes_N2)), k=count - len(distinct_M2))]
        return np.concatenate((distinct_M2, repeated_R2))
    return distinct_M2[rng.sample(range(len(distinct_M2)), count)]


def _plus_plus_start(sizes_N2: Floats, count: int, rng: Random, repeat_sizes: bool) -> Floats:
    """Draw a k-means++ start: each box with probability ~ its squared distance from the nearest one drawn before."""
    if not len(sizes_N2):
        return _random_start(sizes_N2, count, rng, repeat_sizes)
    indices = [rng.randrange(len(sizes_N2))]
    distance_N = np.full(len(sizes_N2), np.inf)
    while len(indices) < count:
        distance_N = np.minimum(distance_N, 1 - iou_of_sizes(sizes_N2, sizes_N2[indices[-1]]))
        weight_N = np.cumsum(distance_N**2)
        if weight_N[-1] <= 0:
            return _random_start(sizes_N2, count, rng, repeat_sizes)
        indices.append(int(np.searchsorted(weight_N, rng.random() * weight_N[-1], side="right")))
    return sizes_N2[indices]
