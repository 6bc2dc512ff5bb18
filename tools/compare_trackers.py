"""Identity switches of darkpy's tracker beside those of `trackers` and `norfair`, on made sequences.

Run it in an environment of its own, which also has darkpy's requirements:

    pip install trackers norfair
    python tools/compare_trackers.py

Packages that are not installed are left out. A switch is an object whose number is not that of the last time it had
one. `numbered` is the share of detections that have a number at once: the others begin a track only when it is
confirmed.

Legend: O objects, N those detected in a frame.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from darkpy.evaluation.result import Result
from darkpy.evaluation.tracker import Tracker
from darkpy.sources.frames import Frame

SEQUENCES = 10
FRAMES = 100
SIDE_PX = 1000
HIDDEN_SHARE = 0.6
"""Part of an object behind nearer ones from which it is not detected."""

Update = Callable[[NDArray[np.float64]], list[int]]
"""Takes the corners of a frame's boxes (N, 4) in pixels, and returns their numbers, -1 for none."""


class Score(NamedTuple):
    switches: int
    numbers: int
    numbered: float


def crossings(rng: np.random.Generator, noise: float, miss_rate: float) -> Iterator[tuple[list[int], Any]]:
    """Four objects whose ways cross, of which two are hidden for 13 and 15 frames, as in darkpy's tests."""
    boxes_O4 = np.array([
        (0.1, 0.50, 0.10, 0.20), (0.9, 0.52, 0.10, 0.20), (0.5, 0.05, 0.08, 0.10), (0.1, 0.10, 0.06, 0.08),
    ])  # fmt: skip
    velocity_O2 = np.array([(0.008, 0), (-0.008, 0), (0, 0.009), (0.007, 0.007)])
    hidden = {0: range(45, 58), 3: range(60, 75)}
    for time in range(FRAMES):
        shown = [index for index in range(4) if time not in hidden.get(index, ()) and rng.random() >= miss_rate]
        yield shown, _detected(rng, boxes_O4[shown], time * velocity_O2[shown], noise)


def crowd(rng: np.random.Generator, noise: float, miss_rate: float) -> Iterator[tuple[list[int], Any]]:
    """Fifteen objects that go straight through the image and turn back at its edges, before and behind each other."""
    count = 15
    boxes_O4 = np.column_stack((rng.uniform(0.1, 0.9, (count, 2)), rng.uniform(0.05, 0.15, (count, 2))))
    velocity_O2 = rng.uniform(-0.008, 0.008, (count, 2))
    for _ in range(FRAMES):
        boxes_O4[:, :2] += velocity_O2
        velocity_O2[np.abs(boxes_O4[:, :2] - 0.5) > 0.45] *= -1
        first_O2, last_O2 = boxes_O4[:, :2] - boxes_O4[:, 2:] / 2, boxes_O4[:, :2] + boxes_O4[:, 2:] / 2
        shared_OO2 = np.minimum(last_O2[:, None], last_O2) - np.maximum(first_O2[:, None], first_O2)
        covered_OO = shared_OO2.clip(0).prod(axis=2) / boxes_O4[:, 2:].prod(axis=1)[:, None]
        is_hidden_O = (np.triu(covered_OO, 1) > HIDDEN_SHARE).any(axis=1)  # later ones are nearer
        shown = np.flatnonzero(~is_hidden_O & (rng.random(count) >= miss_rate)).tolist()
        yield shown, _detected(rng, boxes_O4[shown], np.zeros((len(shown), 2)), noise)


def _detected(
    rng: np.random.Generator, boxes_N4: NDArray[np.float64], way_N2: NDArray[np.float64], noise: float
) -> NDArray[np.float64]:
    """Corners in pixels of boxes, moved, with noise as a share of their sides."""
    center_N2 = boxes_N4[:, :2] + way_N2 + rng.normal(0, noise, (len(boxes_N4), 2)) * boxes_N4[:, 2:]
    size_N2 = boxes_N4[:, 2:] * (1 + rng.normal(0, noise, (len(boxes_N4), 2)))
    return np.hstack((center_N2 - size_N2 / 2, center_N2 + size_N2 / 2)) * SIDE_PX


def darkpy_tracker() -> Update:
    tracker = Tracker()

    def update(corners_N4: NDArray[np.float64]) -> list[int]:
        center_N2, size_N2 = (corners_N4[:, :2] + corners_N4[:, 2:]) / 2, corners_N4[:, 2:] - corners_N4[:, :2]
        count = len(corners_N4)
        result = Result(
            source=Frame(),
            size=(SIDE_PX, SIDE_PX),
            boxes_frac=(np.hstack((center_N2, size_N2)) / SIDE_PX).astype(np.float32),
            scores=np.ones(count, np.float32),
            class_ids=np.zeros(count, np.int64),
            class_names=("object",),
        )
        ids_N = tracker.update(result).track_ids
        return [] if ids_N is None else ids_N.tolist()

    return update


def trackers_tracker(name: str) -> Callable[[], Update]:
    """A tracker of Roboflow's `trackers`, with its defaults."""

    def make() -> Update:
        tracker = getattr(import_module("trackers"), name)()
        detections_class = import_module("supervision").Detections

        def update(corners_N4: NDArray[np.float64]) -> list[int]:
            count = len(corners_N4)
            detections = detections_class(
                xyxy=corners_N4.astype(np.float32).reshape(count, 4),
                confidence=np.ones(count, np.float32),
                class_id=np.zeros(count, int),
                data={"row": np.arange(count)},
            )
            tracked, numbers = tracker.update(detections), [-1] * count
            for row, number in zip(tracked.data.get("row", ()), tracked.tracker_id, strict=True):
                numbers[int(row)] = int(number)
            return numbers

        return update

    return make


def norfair_tracker() -> Update:
    """norfair with the distance and threshold of its examples for boxes."""
    norfair = import_module("norfair")
    tracker = norfair.Tracker(distance_function="iou", distance_threshold=0.7)

    def update(corners_N4: NDArray[np.float64]) -> list[int]:
        detections = [norfair.Detection(points=corners_4.reshape(2, 2)) for corners_4 in corners_N4]
        tracked = {id(track.last_detection): int(track.id) for track in tracker.update(detections=detections)}
        return [tracked.get(id(detection), -1) for detection in detections]

    return update


def score(make: Callable[[], Update], sequence: Any, noise: float, miss_rate: float) -> Score:
    """Follow the sequences of all seeds."""
    switches = numbers = detections = numbered = 0
    for seed in range(SEQUENCES):
        update, last_numbers, seen = make(), dict[int, int](), set[int]()
        for objects, corners_N4 in sequence(np.random.default_rng(seed), noise, miss_rate):
            for index, number in zip(objects, update(corners_N4), strict=True):
                detections += 1
                if number < 0:
                    continue
                numbered += 1
                switches += last_numbers.setdefault(index, number) != number
                last_numbers[index] = number
                seen.add(number)
        numbers += len(seen)
    return Score(switches, numbers, numbered / detections)


def main() -> None:
    trackers: list[tuple[str, Callable[[], Update]]] = [("darkpy", darkpy_tracker)]
    if find_spec("trackers"):
        names: Sequence[str] = ("SORTTracker", "ByteTrackTracker", "OCSORTTracker")
        trackers += [(f"trackers.{name}", trackers_tracker(name)) for name in names]
    if find_spec("norfair"):
        trackers.append(("norfair", norfair_tracker))
    print(f"{SEQUENCES} sequences each; switches, numbers given, share of detections that are numbered at once")
    for sequence, count in ((crossings, 4), (crowd, 15)):
        for noise, miss_rate in ((0.0, 0.0), (0.03, 0.05), (0.08, 0.2)):
            print(f"\n{sequence.__name__}, {count} objects, noise {noise:.0%}, {miss_rate:.0%} missed")
            for name, make in trackers:
                result = score(make, sequence, noise, miss_rate)
                print(f"  {name:26} {result.switches:5} {result.numbers:6} {result.numbered:7.1%}", flush=True)


if __name__ == "__main__":
    main()
