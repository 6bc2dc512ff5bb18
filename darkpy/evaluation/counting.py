"""Counts of the objects that cross a line, and of those in a zone of the image.

An object is where the center of its box is. Its track has crossed a line when the center was clearly on one side and is
clearly on the other, and the straight way between both places leads through the line, not past its ends.

Legend: L lines, T tracks, N detections, P corners of a zone, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpy.errors import DarkpyError
from darkpy.evaluation.result import Result
from darkpy.finding import printable

Corners = tuple[tuple[float, float], ...]

MAX_REGION_CORNERS = 100
MAX_COORDINATE_PX = 1 << 17
MIN_DISTANCE_SHARE = 0.1
"""Distance of a center from a line, as a share of the box's mean side, from which it is clearly on one side."""
FORGOTTEN_AFTER_FRAMES = 1000
"""Frames without an object after which its place is dropped; its track has ended long before."""
_REGION_HINT = "line:X1,Y1,X2,Y2 or zone:X1,Y1,X2,Y2,X3,Y3,... in pixels, such as line:0,240,640,240"


@dataclass(frozen=True, slots=True)
class Region:
    """A line, with two corners, or a zone, with three or more; (x, y) in pixels of the image."""

    corners: Corners

    @classmethod
    def parse(cls, region: str | Sequence[tuple[float, float]]) -> Region:
        """Read "line:0,240,640,240", "zone:10,10,90,10,50,80", or the corners [(0, 240), (640, 240)].

        Raises: DarkpyError for anything else, a line without length, and a zone without area.
        """
        kind = "region"
        try:
            if isinstance(region, str):
                kind, _, values = region.strip().partition(":")
                numbers = [float(value) for value in values.split(",")]
                region = list(zip(numbers[::2], numbers[1::2], strict=True))
            corners = tuple((float(x), float(y)) for x, y in region)
            if kind not in ("region", "line", "zone") or not np.isfinite(corners).all():
                raise ValueError(kind)
        except (TypeError, ValueError) as error:
            raise DarkpyError(
                f"{printable(str(region)[:80])!r} is neither a line nor a zone", hint=_REGION_HINT
            ) from error
        made = cls(corners)
        is_other_kind = kind == ("zone" if made.is_line else "line")
        if not 2 <= len(corners) <= MAX_REGION_CORNERS or is_other_kind:
            count = f"{len(corners)} corner{'' if len(corners) == 1 else 's'}"
            raise DarkpyError(f"a {kind} of {count}", hint=_REGION_HINT)
        if not all(abs(value) <= MAX_COORDINATE_PX for corner in corners for value in corner):
            raise DarkpyError(f"{made}: corners are up to {MAX_COORDINATE_PX} pixels", hint=_REGION_HINT)
        if made.is_line and corners[0] == corners[1]:
            raise DarkpyError(f"{made}: has no length", hint=_REGION_HINT)
        if not made.is_line and made._area == 0:
            raise DarkpyError(f"{made}: has no area", hint=_REGION_HINT)
        return made

    @property
    def is_line(self) -> bool:
        return len(self.corners) == 2

    @property
    def _area(self) -> float:
        x_P, y_P = np.array(self.corners).T
        return abs(float(x_P @ np.roll(y_P, -1) - y_P @ np.roll(x_P, -1))) / 2

    def __str__(self) -> str:
        values = ",".join(f"{value:g}" for corner in self.corners for value in corner)
        return f"{'line' if self.is_line else 'zone'}:{values}"

    def contains(self, points_N2: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Mask of the points inside a zone, by the even-odd rule; of two zones with a common edge, one has a point."""
        x_P, y_P = np.array(self.corners, np.float64).T
        x_N1, y_N1 = np.hsplit(points_N2, 2)
        next_x_P, next_y_P = np.roll(x_P, -1), np.roll(y_P, -1)
        is_level_NP = (y_P > y_N1) != (next_y_P > y_N1)
        height_P = np.where(next_y_P == y_P, 1, next_y_P - y_P)  # a level edge meets no ray
        is_left_NP = x_N1 < x_P + (y_N1 - y_P) * (next_x_P - x_P) / height_P
        is_odd_N: NDArray[np.bool_] = (is_level_NP & is_left_NP).sum(axis=1) % 2 == 1
        return is_odd_N


@dataclass(frozen=True, slots=True)
class RegionCount:
    """Objects of a region by class name, those of any class that has one.

    inside: of a zone, in this frame. to_left, to_right: of a line, so far; left and right as seen from the first corner
        towards the second.
    """

    region: Region
    inside: Mapping[str, int] = field(default_factory=dict)
    to_left: Mapping[str, int] = field(default_factory=dict)
    to_right: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.region.is_line:
            return f"to the left: {_list_counts(self.to_left)}; to the right: {_list_counts(self.to_right)}"
        return f"inside: {_list_counts(self.inside)}"

    def to_dict(self) -> dict[str, Any]:
        """Return the record for JSON."""
        values = [round(value, 2) for corner in self.region.corners for value in corner]
        if self.region.is_line:
            return {"line": values, "to_left": dict(self.to_left), "to_right": dict(self.to_right)}
        return {"zone": values, "inside": dict(self.inside)}


class ObjectCounter:
    """Counts for the results of one video or camera, frame by frame.

    counter = darkpy.ObjectCounter("line:0,240,640,240", "zone:10,10,90,10,50,80")
    for result in map(counter.update, darkpy.detect(network, "film.mp4", track=True)):
        print(result.counts)

    regions: lines and zones, as of `Region.parse`. Lines need tracks.
    Raises: DarkpyError for what is not a region.
    """

    def __init__(self, *regions: str | Sequence[tuple[float, float]] | Region) -> None:
        if not regions:
            raise DarkpyError("no line or zone to count", hint=_REGION_HINT)
        self.regions = tuple(region if isinstance(region, Region) else Region.parse(region) for region in regions)
        self._lines_L22 = np.array([region.corners for region in self.regions if region.is_line]).reshape(-1, 2, 2)
        self._crossings_L2K = np.zeros((len(self._lines_L22), 2, 0), np.int64)  # to the left, to the right
        self._names: tuple[str, ...] = ()
        self._frames = 0
        self._ids_T = np.empty(0, np.int64)
        self._seen_T = np.empty(0, np.int64)
        self._place_LT2 = np.empty((len(self._lines_L22), 0, 2))  # the last one clearly beside the line; NaN: none yet

    @property
    def needs_tracks(self) -> bool:
        return len(self._lines_L22) > 0

    def update(self, result: Result) -> Result:
        """Count the next frame. Returns: the result with its `counts`, one per region.

        Raises: DarkpyError when a line is to be counted and the detections have no `track_ids`.
        """
        if result.error is None:
            if self.needs_tracks:
                self._add_crossings(result)
            self._frames += 1
        centers_N2 = result.boxes_frac[:, :2].astype(np.float64) * result.size
        lines, counts = iter(self.line_counts), []
        for region in self.regions:
            if region.is_line:
                counts.append(next(lines))
            else:
                inside_K = np.bincount(result.class_ids[region.contains(centers_N2)])
                counts.append(RegionCount(region, inside=_by_name(inside_K, result.class_names)))
        return replace(result, counts=tuple(counts))

    @property
    def line_counts(self) -> tuple[RegionCount, ...]:
        """Crossings of each line so far."""
        lines = (region for region in self.regions if region.is_line)
        return tuple(
            RegionCount(line, to_left=_by_name(left_K, self._names), to_right=_by_name(right_K, self._names))
            for line, (left_K, right_K) in zip(lines, self._crossings_L2K, strict=True)
        )

    def _add_crossings(self, result: Result) -> None:
        if result.track_ids is None:
            raise DarkpyError("a line counts tracks, and these detections have none", hint="detect with track=True")
        lines, new_classes = len(self._lines_L22), len(result.class_names) - len(self._names)
        if new_classes > 0:  # at the first frame
            self._names = result.class_names
            self._crossings_L2K = np.pad(self._crossings_L2K, ((0, 0), (0, 0), (0, new_classes)))
        self._remember(result.track_ids)
        row_N = np.searchsorted(self._ids_T, result.track_ids)
        boxes_N4 = result.boxes_frac.astype(np.float64) * (*result.size, *result.size)
        start_L12, end_L12 = self._lines_L22[:, :1], self._lines_L22[:, 1:]
        along_L12 = end_L12 - start_L12
        place_LN2, center_LN2 = self._place_LT2[:, row_N], np.broadcast_to(boxes_N4[:, :2], (lines, len(row_N), 2))

        # > 0: to the right of the line, as y goes down
        before_LN, after_LN = (_cross(along_L12, points_LN2 - start_L12) for points_LN2 in (place_LN2, center_LN2))
        side_N = np.sqrt(boxes_N4[:, 2:].clip(0).prod(axis=1))
        is_clear_LN = np.abs(after_LN) > MIN_DISTANCE_SHARE * side_N * np.linalg.norm(along_L12, axis=2)
        way_LN2 = center_LN2 - place_LN2
        turn_LN = _cross(way_LN2, along_L12)
        share_LN = _cross(way_LN2, place_LN2 - start_L12) / np.where(turn_LN == 0, np.nan, turn_LN)
        is_through_LN = is_clear_LN & (share_LN >= 0) & (share_LN < 1)
        for direction, is_change_LN in enumerate((before_LN > after_LN, before_LN < after_LN)):
            is_crossing_LN = is_through_LN & is_change_LN & (np.sign(before_LN) != np.sign(after_LN))
            line_P, detection_P = np.nonzero(is_crossing_LN)
            np.add.at(self._crossings_L2K[:, direction], (line_P, result.class_ids[detection_P]), 1)
        line_P, detection_P = np.nonzero(is_clear_LN)
        self._place_LT2[line_P, row_N[detection_P]] = center_LN2[line_P, detection_P]

    def _remember(self, ids_N: NDArray[np.int64]) -> None:
        """Make room for new tracks, and drop those that have not been seen for long."""
        is_kept_T = (self._frames - self._seen_T <= FORGOTTEN_AFTER_FRAMES) | np.isin(self._ids_T, ids_N)
        known_T = self._ids_T[is_kept_T]
        ids_T = np.union1d(known_T, ids_N)
        place_LT2 = np.full((len(self._lines_L22), len(ids_T), 2), np.nan)
        seen_T = np.full(len(ids_T), self._frames)
        row_T = np.searchsorted(ids_T, known_T)
        place_LT2[:, row_T], seen_T[row_T] = self._place_LT2[:, is_kept_T], self._seen_T[is_kept_T]
        seen_T[np.searchsorted(ids_T, ids_N)] = self._frames
        self._ids_T, self._seen_T, self._place_LT2 = ids_T, seen_T, place_LT2


def _cross(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    product: NDArray[np.float64] = first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]
    return product


def _by_name(counts_K: NDArray[np.int64], names: Sequence[str]) -> dict[str, int]:
    """Counts of the classes that have any; classes of one name are added."""
    counts: dict[str, int] = {}
    for class_id in np.flatnonzero(counts_K).tolist():
        counts[names[class_id]] = counts.get(names[class_id], 0) + int(counts_K[class_id])
    return counts


def _list_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {printable(name)}" for name, count in counts.items()) or "0"
