"""Tracks: objects keep their number through crossings, gaps and noise."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import darkpy
from darkpy.evaluation.result import Result
from darkpy.evaluation.tracker import Tracker
from darkpy.sources.frames import Frame

NAMES = ("cat", "dog")
MOVING_4_BOXES = np.array([
    (0.1, 0.50, 0.10, 0.20),  # crosses the next one, which comes the other way
    (0.9, 0.52, 0.10, 0.20),
    (0.5, 0.05, 0.08, 0.10),  # crosses both from above
    (0.1, 0.10, 0.06, 0.08),  # goes along the diagonal, through all their paths
])  # fmt: skip
VELOCITIES = np.array([(0.008, 0), (-0.008, 0), (0, 0.009), (0.007, 0.007)])
HIDDEN_FRAMES = {0: range(45, 58), 3: range(60, 75)}
"""Object 0 is hidden while it meets object 1, object 3 later on."""


def frame(boxes_N4: Sequence[Sequence[float]] | NDArray[np.float64], classes: Sequence[int] | None = None) -> Result:
    count = len(boxes_N4)
    return Result(
        source=Frame(),
        size=(100, 100),
        boxes_frac=np.array(boxes_N4, np.float32).reshape(count, 4),
        scores=np.ones(count, np.float32),
        class_ids=np.array(classes or [0] * count, np.int64),
        class_names=NAMES,
    )


def track_ids(tracker: Tracker, boxes_N4: Sequence[Sequence[float]], classes: Sequence[int] | None = None) -> list[int]:
    ids_N = tracker.update(frame(boxes_N4, classes)).track_ids
    assert ids_N is not None
    return [int(track_id) for track_id in ids_N]


def switches(seed: int, *, noise: float, miss_rate: float, frames: int = 100) -> tuple[int, int]:
    """Follow the made sequence, and return how often an object got another number, and how many numbers there were."""
    rng, tracker = np.random.default_rng(seed), Tracker()
    last_ids: dict[int, int] = {}
    count, numbers = 0, set()
    for time in range(frames):
        seen = [
            index
            for index in rng.permutation(len(MOVING_4_BOXES)).tolist()
            if time not in HIDDEN_FRAMES.get(index, ()) and rng.random() >= miss_rate
        ]
        boxes_N4 = MOVING_4_BOXES[seen] + np.pad(time * VELOCITIES[seen], ((0, 0), (0, 2)))
        boxes_N4 += rng.normal(0, noise, boxes_N4.shape) * np.tile(MOVING_4_BOXES[seen][:, 2:], 2)
        for index, track_id in zip(seen, track_ids(tracker, boxes_N4.tolist()), strict=True):
            count += last_ids.setdefault(index, track_id) != track_id
            last_ids[index] = track_id
            numbers.add(track_id)
    return count, len(numbers)


@pytest.mark.parametrize(
    ("noise", "miss_rate", "most_switches"),
    [
        pytest.param(0.0, 0.0, 0, id="exact"),
        pytest.param(0.03, 0.05, 2, id="usual detector"),
        pytest.param(0.08, 0.2, 8, id="poor detector"),
    ],
)
def test_crossings_and_occlusions_switch_few_numbers(noise: float, miss_rate: float, most_switches: int) -> None:
    """Of five sequences with four objects and 100 frames each; noise in shares of the box's side."""
    runs = [switches(seed, noise=noise, miss_rate=miss_rate) for seed in range(5)]
    assert sum(count for count, _ in runs) <= most_switches
    assert all(numbers <= 4 + count for count, numbers in runs)


def test_lost_objects_end_after_the_frames_they_may_be_missed() -> None:
    box = [(0.5, 0.5, 0.2, 0.2)]
    for missed, expected in ((3, 1), (4, 2)):
        tracker = Tracker(max_missed_frames=3)
        assert track_ids(tracker, box) == [1]
        for _ in range(missed):
            assert track_ids(tracker, []) == []
        assert track_ids(tracker, box) == [expected]


def test_classes_have_tracks_of_their_own_and_each_detection_one() -> None:
    tracker = Tracker()
    boxes = [(0.5, 0.5, 0.2, 0.2), (0.5, 0.5, 0.2, 0.2), (0.51, 0.5, 0.2, 0.2)]
    assert track_ids(tracker, boxes, classes=[0, 1, 0]) == [1, 2, 3]
    assert track_ids(tracker, boxes[::-1], classes=[0, 1, 0]) == [3, 2, 1]


def test_boxes_without_area_and_outside_the_image_are_followed_without_a_warning() -> None:
    tracker = Tracker()
    for _ in range(3):
        assert len(set(track_ids(tracker, [(0.5, 0.5, 0, 0), (-3, 9, 1e-9, 2), (0.5, 0.5, 0.1, 0.1)]))) == 3


def test_detect_numbers_what_it_follows_in_every_form() -> None:
    network = darkpy.load(
        "[net]\nwidth=32\nheight=32\nchannels=3\n[convolutional]\nfilters=7\nsize=3\nstride=16\npad=1\n"
        "activation=linear\n[yolo]\nmask=0\nanchors=16,16\nclasses=2\nnum=1\n",
        dialect="pjreddie",
    )
    generator = torch.Generator().manual_seed(3)
    for parameter in network.parameters():
        parameter.detach().uniform_(-1, 1, generator=generator)
    image = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)

    def camera() -> Iterator[NDArray[np.uint8]]:
        yield from (image, image, image)

    first, *others = darkpy.detect(network, camera(), NAMES, thresh=0.05, track=True, keep_images=True)
    assert first.track_ids is not None and sorted(first.track_ids) == list(range(1, len(first) + 1)) and len(first)
    assert all([detected.track_id for detected in result] == first.track_ids.tolist() for result in others)
    record = json.loads(first.to_json())
    assert [entry["track_id"] for entry in record["objects"]] == first.track_ids.tolist()
    assert [detected.track_id for detected in first] == first.track_ids.tolist()
    assert first[0].label == f"{first[0].name} #{first[0].track_id}"
    assert first.draw().tobytes() != next(darkpy.detect(network, [image], NAMES, thresh=0.05)).draw().tobytes()
    assert next(darkpy.detect(network, [image], NAMES, thresh=0.05)).track_ids is None
