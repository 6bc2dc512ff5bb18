"""k-means with the distance 1 - IoU of two boxes that share a corner.

That distance is the Jaccard distance of two sets of points and obeys the triangle inequality: how far the centers have
gone since a box was compared with them tells whether another one can be nearer now. A round looks at the other boxes
only, and the result is that of comparing all.

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
else:  # numpy.typing takes longer to import than most data sets to read
    Floats = Indices = np.ndarray

MAX_SIDE = 1e12
"""Whatever the unit; the area of a larger box would be beyond single precision."""
MAX_ROUNDS = 1000
"""After so many rounds AlexeyAB's program stops."""
_CHUNK = 1 << 14
_DOUBT = 1e-5
"""Much more than what rounding does to an IoU in single precision, and to the sum of MOST_ROUNDS ways in double."""
_TINY = np.float32(1e-36)  # two boxes without an area have an IoU of 0


class Clustering(NamedTuple):
    """centers_K2: w, h in the unit of the boxes. nearest_N: the center of each box. rounds: how often centers moved."""

    centers_K2: Floats
    nearest_N: Indices
    rounds: int


class AnchorFit(NamedTuple):
    """How well anchors fit boxes: the mean of each box's best IoU, and the share of boxes with a best IoU >= .5."""

    average_iou: float
    recall: float


def iou_of_sizes(a_N2: Floats, b_N2: Floats) -> Floats:
    """IoU of boxes that share a corner, one by one; 0 of two without an area."""
    overlap_N = np.minimum(a_N2, b_N2).prod(-1)
    union_N = a_N2.prod(-1) + b_N2.prod(-1) - overlap_N
    iou_N: Floats = np.divide(overlap_N, union_N, out=np.zeros_like(overlap_N), where=union_N > 0)
    return iou_N


def measure_fit(sizes_N2: Floats, anchors_K2: Floats) -> AnchorFit:
    """How well anchors fit boxes.

    Source: AlexeyAB/darknet src/detector.c calc_anchors
    """
    if not len(sizes_N2):
        return AnchorFit(0.0, 0.0)
    best_N = iou_of_sizes(sizes_N2, anchors_K2.take(nearest(sizes_N2, anchors_K2), 0))
    return AnchorFit(float(best_N.mean()), float((best_N >= 0.5).mean()))


def nearest(sizes_N2: Floats, anchors_K2: Floats) -> Indices:
    """The number of the anchor with the largest IoU with each box; of equals the first."""
    return _compare(sizes_N2, anchors_K2).center_N


def cluster(sizes_N2: Floats, start_K2: Floats, *, median: bool = False, max_rounds: int = MAX_ROUNDS) -> Clustering:
    """Move centers to the means (or medians) of the boxes nearest to them until no box changes its center.

    A box between two centers belongs to the first; a center without boxes stays where it is.

    Raises: DarkpyError when there are no boxes, or one has a side that is no number from 0 to MAX_SIDE.
    Source: AlexeyAB/darknet src/matrix.c do_kmeans
    Differs: in double precision.
    """
    if not len(sizes_N2) or not len(start_K2):
        raise DarkpyError("there are no boxes to find anchors for")
    if not (sizes_N2.min() >= 0 and sizes_N2.max() <= MAX_SIDE):  # nor is what is no number
        raise DarkpyError(f"a box has a width or height that is no number from 0 to {MAX_SIDE:g}")
    centers_K2 = start_K2.astype(np.float64)
    owners = _Owners(sizes_N2, len(centers_K2))
    averages = (_Medians if median else _Means)(sizes_N2, len(centers_K2))
    if len(centers_K2) == 1:
        centers_K2 = averages.of(owners.nearest_N, None, centers_K2)
    for rounds in range(max_rounds):
        change = owners.update(centers_K2)
        if not len(change.box_M):
            return Clustering(centers_K2, owners.nearest_N, rounds)
        centers_K2 = averages.of(owners.nearest_N, change, centers_K2)
    return Clustering(centers_K2, owners.nearest_N, max_rounds)


class _Nearest(NamedTuple):
    """The center with the largest IoU, that IoU, and the largest with another center."""

    center_N: Indices
    iou_N: NDArray[np.float32]
    second_N: NDArray[np.float32]


def _compare(sizes_N2: Floats, centers_K2: Floats) -> _Nearest:
    """Compare each box with each center: in single precision, and where that cannot tell, once more."""
    found = _compare_roughly(sizes_N2, centers_K2)
    doubtful_M = np.flatnonzero(~(found.iou_N - found.second_N > _DOUBT))  # what is no number, too
    for first in range(0, len(doubtful_M), _CHUNK):
        part_P = doubtful_M[first : first + _CHUNK]
        found.center_N[part_P] = iou_of_sizes(sizes_N2[part_P, None], centers_K2).argmax(1)
    return found


def _compare_roughly(sizes_N2: Floats, centers_K2: Floats) -> _Nearest:
    """Of two boxes overlap / (a + b) grows with their IoU, and is had sooner."""
    count = len(sizes_N2)
    found = _Nearest(np.zeros(count, np.intp), *np.empty((2, count), np.float32))
    spare_2P = np.empty((2, min(count, _CHUNK)), np.float32)
    small = np.min_scalar_type(len(centers_K2))
    for first in range(0, count, _CHUNK):
        part = slice(first, first + _CHUNK)
        w_P, h_P = sizes_N2[part].T.astype(np.float32, order="C")
        area_P = w_P * h_P + _TINY
        center_P, best_P, second_P = (column[part] for column in found)
        best_P.fill(-1)
        second_P.fill(-1)
        share_P, other_P = spare_2P[:, : len(w_P)]
        number_P = np.zeros(len(w_P), small)
        for number, (w, h) in enumerate(centers_K2.tolist()):
            other_P.fill(w)  # sooner done than comparing with a single number
            np.minimum(w_P, other_P, out=share_P)
            other_P.fill(h)
            share_P *= np.minimum(h_P, other_P, out=other_P)
            share_P /= np.add(area_P, np.float32(w * h), out=other_P)
            # centers are counted upwards: the largest number is that of the last one that was better
            np.maximum(number_P, (share_P > best_P).view(np.uint8) * small.type(number), out=number_P)
            np.maximum(second_P, np.minimum(best_P, share_P, out=other_P), out=second_P)
            np.maximum(best_P, share_P, out=best_P)
        center_P[:] = number_P
        for share_P in (best_P, second_P):
            share_P /= 1 - share_P
    return found


class _Change(NamedTuple):
    """The boxes that went from one center to another."""

    box_M: Indices
    before_M: Indices


class _Owners:
    """The center that is nearest to each box, as the centers move.

    A box needs a look only when the way that its own center and the fastest other one have gone since the last look is
    as long as the lead that its center had then.
    """

    def __init__(self, sizes_N2: Floats, centers: int) -> None:
        self.nearest_N: Indices = np.zeros(len(sizes_N2), np.intp)
        self._sizes_N2 = sizes_N2
        self._limit_N = np.full(len(sizes_N2), -1.0)
        self._way_K = np.zeros(centers)
        self._centers_K2: Floats | None = None

    def update(self, centers_K2: Floats) -> _Change:
        """Find the nearest centers again. Returns: what has changed."""
        if self._centers_K2 is not None:
            move_K = 1 - iou_of_sizes(centers_K2, self._centers_K2)
            self._way_K += move_K + move_K.max()
        self._centers_K2 = centers_K2
        looked_M = np.flatnonzero(self._limit_N <= self._way_K.take(self.nearest_N))
        found = _compare(self._sizes_N2.take(looked_M, 0), centers_K2)
        before_M = self.nearest_N.take(looked_M)
        self.nearest_N[looked_M] = found.center_N
        self._limit_N[looked_M] = found.iou_N - found.second_N + self._way_K.take(found.center_N) - _DOUBT
        has_changed_M = before_M != found.center_N
        return _Change(looked_M[has_changed_M], before_M[has_changed_M])


class _Means:
    """Averages as sums that follow the boxes from center to center."""

    def __init__(self, sizes_N2: Floats, centers: int) -> None:
        self._sizes_N2 = sizes_N2
        self._centers = centers
        self._sums_K3: Floats | None = None  # of w, of h, and how many

    def of(self, nearest_N: Indices, change: _Change | None, before_K2: Floats) -> Floats:
        """Where the centers go; what would be 0 stays."""
        sums_K3 = self._sums_K3
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


class _Medians:
    """Averages as medians, of boxes that are sorted once."""

    def __init__(self, sizes_N2: Floats, centers: int) -> None:
        self._centers = centers
        self._orders = [np.argsort(side_N, kind="stable") for side_N in sizes_N2.T]
        self._sides = [side_N[order_N] for side_N, order_N in zip(sizes_N2.T, self._orders, strict=True)]

    def of(self, nearest_N: Indices, change: _Change | None, before_K2: Floats) -> Floats:
        """Where the centers go; what would be 0 stays."""
        count_K = np.bincount(nearest_N, minlength=self._centers)
        first_K = np.cumsum(count_K) - count_K
        small = np.min_scalar_type(self._centers)  # small whole numbers are sorted in one pass
        median_K2 = before_K2.copy()
        has_boxes_K = count_K > 0
        first_K, count_K = first_K[has_boxes_K], count_K[has_boxes_K]
        for column, (order_N, side_N) in enumerate(zip(self._orders, self._sides, strict=True)):
            by_center_N = np.argsort(nearest_N.astype(small).take(order_N), kind="stable")
            low_K, high_K = (side_N[by_center_N[first_K + (count_K - odd) // 2]] for odd in (1, 0))
            median_K2[has_boxes_K, column] = (low_K + high_K) / 2
        return np.where(median_K2 > 0, median_K2, before_K2)
