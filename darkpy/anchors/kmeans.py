"""k-means with the distance 1 - IoU of two boxes that share a corner.

This is the Jaccard distance of two point sets, which satisfies the triangle inequality. So the distances that the
centers have moved since a box was last compared bound how near another center can be now (as in Hamerly's and Elkan's
k-means): a round compares only the boxes whose nearest center may have changed, and its result is exact.

Letters: N boxes, K centers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from darkpy.errors import DarkpyError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]
else:  # importing numpy.typing takes longer than reading most data sets
    Floats = Indices = np.ndarray

MAX_SIDE = 1e12
"""In any unit; the area of a larger box would overflow single precision."""
MAX_ROUNDS = 1000
"""Limit of AlexeyAB's program."""
_CHUNK_BOXES = 1 << 14  # small enough for the arrays of a chunk to stay in the cache
_IOU_TOLERANCE = 1e-5
"""Far above the rounding error of an IoU in single precision, and of the sum of MAX_ROUNDS distances in double."""
_MIN_AREA = np.float32(1e-36)  # keeps the IoU of two boxes without an area at 0 instead of NaN


class Clustering(NamedTuple):
    """Result of k-means.

    centers_K2: w, h in the unit of the boxes. nearest_N: index of each box's center. rounds: number of updates.
    """

    centers_K2: Floats
    nearest_N: Indices
    rounds: int


class AnchorMatch(NamedTuple):
    """Fit of anchors to boxes: mean of each box's best IoU, and the share of boxes whose best IoU is >= .5."""

    average_iou: float
    recall: float


def iou_of_sizes(a_N2: Floats, b_N2: Floats) -> Floats:
    """Compute the IoU of pairs of boxes that share a corner; 0 for two boxes without an area."""
    overlap_N = np.minimum(a_N2, b_N2).prod(-1)
    union_N = a_N2.prod(-1) + b_N2.prod(-1) - overlap_N
    iou_N: Floats = np.divide(overlap_N, union_N, out=np.zeros_like(overlap_N), where=union_N > 0)
    return iou_N


def measure_fit(sizes_N2: Floats, anchors_K2: Floats) -> AnchorMatch:
    """Measure how well anchors fit boxes.

    Source: AlexeyAB/darknet src/detector.c calc_anchors
    """
    if not len(sizes_N2):
        return AnchorMatch(0.0, 0.0)
    best_N = iou_of_sizes(sizes_N2, anchors_K2.take(nearest(sizes_N2, anchors_K2), 0))
    return AnchorMatch(float(best_N.mean()), float((best_N >= 0.5).mean()))


def nearest(sizes_N2: Floats, anchors_K2: Floats) -> Indices:
    """Return the index of the anchor with the largest IoU for each box; the first of equals."""
    return _compare(sizes_N2, anchors_K2).center_N


def cluster(sizes_N2: Floats, start_K2: Floats, *, median: bool = False, max_rounds: int = MAX_ROUNDS) -> Clustering:
    """Move centers to the means (or medians) of the boxes nearest to them until no box changes its center.

    A box between two centers belongs to the first; a center without boxes does not move.

    Raises: DarkpyError when there are no boxes, or one has a side that is NaN or outside 0..MAX_SIDE.
    Source: AlexeyAB/darknet src/matrix.c do_kmeans
    Differs: in double precision.
    """
    if not len(sizes_N2) or not len(start_K2):
        raise DarkpyError("there are no boxes to find anchors for")
    if not (sizes_N2.min() >= 0 and sizes_N2.max() <= MAX_SIDE):  # False for NaN
        raise DarkpyError(f"a box has a width or height that is NaN or not from 0 to {MAX_SIDE:g}")
    centers_K2 = start_K2.astype(np.float64)
    assignment = _Assignment(sizes_N2, len(centers_K2))
    averages = (_RunningMedians if median else _RunningMeans)(sizes_N2, len(centers_K2))
    if len(centers_K2) == 1:
        centers_K2 = averages.update(assignment.nearest_N, None, centers_K2)
    for rounds in range(max_rounds):
        change = assignment.update(centers_K2)
        if not len(change.box_M):
            return Clustering(centers_K2, assignment.nearest_N, rounds)
        centers_K2 = averages.update(assignment.nearest_N, change, centers_K2)
    return Clustering(centers_K2, assignment.nearest_N, max_rounds)


class _Nearest(NamedTuple):
    """Center with the largest IoU, that IoU, and the largest IoU with another center."""

    center_N: Indices
    iou_N: NDArray[np.float32]
    second_N: NDArray[np.float32]


def _compare(sizes_N2: Floats, centers_K2: Floats) -> _Nearest:
    """Compare each box with each center in single precision, and close cases again in double."""
    result = _compare_float32(sizes_N2, centers_K2)
    close_M = np.flatnonzero(~(result.iou_N - result.second_N > _IOU_TOLERANCE))  # negated: includes NaN
    for first in range(0, len(close_M), _CHUNK_BOXES):
        part_P = close_M[first : first + _CHUNK_BOXES]
        result.center_N[part_P] = iou_of_sizes(sizes_N2[part_P, None], centers_K2).argmax(1)
    return result


def _compare_float32(sizes_N2: Floats, centers_K2: Floats) -> _Nearest:
    """Compare by s = overlap / (area a + area b), which grows with the IoU s / (1 - s) and is cheaper to compute.

    The loop runs over the centers, with arrays of a chunk of boxes that are reused: no (N, K) array is allocated.
    """
    count = len(sizes_N2)
    result = _Nearest(np.zeros(count, np.intp), *np.empty((2, count), np.float32))
    buffer_2P = np.empty((2, min(count, _CHUNK_BOXES)), np.float32)
    index_type = np.min_scalar_type(len(centers_K2))  # one byte in most cases
    for first in range(0, count, _CHUNK_BOXES):
        part = slice(first, first + _CHUNK_BOXES)
        w_P, h_P = sizes_N2[part].T.astype(np.float32, order="C")
        area_P = w_P * h_P + _MIN_AREA
        center_P, best_P, second_P = (column[part] for column in result)
        best_P.fill(-1)
        second_P.fill(-1)
        share_P, other_P = buffer_2P[:, : len(w_P)]
        best_index_P = np.zeros(len(w_P), index_type)
        for index, (w, h) in enumerate(centers_K2.tolist()):
            other_P.fill(w)  # numpy is faster with an array than with a scalar here
            np.minimum(w_P, other_P, out=share_P)
            other_P.fill(h)
            share_P *= np.minimum(h_P, other_P, out=other_P)
            share_P /= np.add(area_P, np.float32(w * h), out=other_P)
            # indices ascend: the maximum is the index of the last center that was better, without branches
            is_better_P = (share_P > best_P).view(np.uint8)
            np.maximum(best_index_P, is_better_P * index_type.type(index), out=best_index_P)
            np.maximum(second_P, np.minimum(best_P, share_P, out=other_P), out=second_P)
            np.maximum(best_P, share_P, out=best_P)
        center_P[:] = best_index_P
        for share_P in (best_P, second_P):
            share_P /= 1 - share_P  # now the IoU
    return result


class _Reassignment(NamedTuple):
    """Boxes whose center has changed, and their centers before."""

    box_M: Indices
    before_M: Indices


class _Assignment:
    """Nearest center of each box, updated as the centers move.

    A box is compared again only when its own center and the fastest center together may have moved as far, since the
    last comparison, as the lead that its center had then.
    """

    def __init__(self, sizes_N2: Floats, centers: int) -> None:
        self.nearest_N: Indices = np.zeros(len(sizes_N2), np.intp)
        self._sizes_N2 = sizes_N2
        self._limit_N = np.full(len(sizes_N2), -1.0)  # value of _moved_K at which a box must be compared again
        self._moved_K = np.zeros(centers)  # distance moved by each center plus that of the fastest, over all rounds
        self._centers_K2: Floats | None = None

    def update(self, centers_K2: Floats) -> _Reassignment:
        """Find the nearest centers again. Returns: the boxes whose center has changed."""
        if self._centers_K2 is not None:
            move_K = 1 - iou_of_sizes(centers_K2, self._centers_K2)
            self._moved_K += move_K + move_K.max()
        self._centers_K2 = centers_K2
        compared_M = np.flatnonzero(self._limit_N <= self._moved_K.take(self.nearest_N))
        result = _compare(self._sizes_N2.take(compared_M, 0), centers_K2)
        before_M = self.nearest_N.take(compared_M)
        self.nearest_N[compared_M] = result.center_N
        self._limit_N[compared_M] = (
            result.iou_N - result.second_N + self._moved_K.take(result.center_N) - _IOU_TOLERANCE
        )
        has_changed_M = before_M != result.center_N
        return _Reassignment(compared_M[has_changed_M], before_M[has_changed_M])


class _RunningMeans:
    """Means from sums per center, which are updated with the boxes that change their center."""

    def __init__(self, sizes_N2: Floats, centers: int) -> None:
        self._sizes_N2 = sizes_N2
        self._centers = centers
        self._sums_K3: Floats | None = None  # of w, of h, and how many

    def update(self, nearest_N: Indices, change: _Reassignment | None, before_K2: Floats) -> Floats:
        """Return the new centers; a coordinate that would become 0 is unchanged."""
        sums_K3 = self._sums_K3
        # a full sum is faster when many boxes change, and resets the rounding errors of the updates
        if sums_K3 is None or change is None or 4 * len(change.box_M) > len(nearest_N):
            sums_K3 = self._sums(nearest_N, self._sizes_N2)
        else:
            sizes_M2 = self._sizes_N2.take(change.box_M, 0)
            sums_K3 += self._sums(nearest_N.take(change.box_M), sizes_M2) - self._sums(change.before_M, sizes_M2)
        self._sums_K3 = sums_K3
        count_K1 = sums_K3[:, 2:]
        mean_K2 = sums_K3[:, :2] / np.maximum(count_K1, 1)
        return np.where((count_K1 > 0) & (mean_K2 > 0), mean_K2, before_K2)

    def _sums(self, center_M: Indices, sizes_M2: Floats) -> Floats:
        sums = [np.bincount(center_M, side_M, self._centers) for side_M in sizes_M2.T]
        return np.stack([*sums, np.bincount(center_M, minlength=self._centers)], 1)


class _RunningMedians:
    """Medians from sides that are sorted once."""

    def __init__(self, sizes_N2: Floats, centers: int) -> None:
        self._centers = centers
        self._orders = [np.argsort(side_N, kind="stable") for side_N in sizes_N2.T]
        self._sides = [side_N[order_N] for side_N, order_N in zip(sizes_N2.T, self._orders, strict=True)]

    def update(self, nearest_N: Indices, change: _Reassignment | None, before_K2: Floats) -> Floats:
        """Return the new centers; a coordinate that would become 0 is unchanged."""
        count_K = np.bincount(nearest_N, minlength=self._centers)
        first_K = np.cumsum(count_K) - count_K
        index_type = np.min_scalar_type(self._centers)  # numpy sorts integers of 8 and 16 bits by radix, in O(N)
        median_K2 = before_K2.copy()
        has_boxes_K = count_K > 0
        first_K, count_K = first_K[has_boxes_K], count_K[has_boxes_K]
        for column, (order_N, side_N) in enumerate(zip(self._orders, self._sides, strict=True)):
            # a stable sort by center keeps the sides of each center in ascending order
            by_center_N = np.argsort(nearest_N.astype(index_type).take(order_N), kind="stable")
            low_K, high_K = (side_N[by_center_N[first_K + (count_K - odd) // 2]] for odd in (1, 0))
            median_K2[has_boxes_K, column] = (low_K + high_K) / 2
        return np.where(median_K2 > 0, median_K2, before_K2)
