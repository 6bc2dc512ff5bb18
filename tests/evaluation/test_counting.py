"""Counts: crossings of lines, and objects in zones, on sequences whose counts are known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

import darkpy
from darkpy.errors import DarkpyError
from darkpy.evaluation import counting
from darkpy.evaluation.counting import ObjectCounter, Region
from darkpy.evaluation.result import Result
from darkpy.evaluation.tracker import Tracker
from darkpy.sources.frames import Frame

NAMES = ("cat", "dog")
LINE = "line:0,50,100,50"
"""From left to right through the middle: its right-hand side is the lower half."""


def frame(
    centers_N2: Sequence[tuple[float, float]] | NDArray[np.float64],
    classes: Sequence[int] | None = None,
    track_ids: Sequence[int] | None = None,
    side: float = 4.0,
) -> Result:
    """Boxes of `side` pixels on an image of 100 x 100."""
    count = len(centers_N2)
    boxes_N4 = np.column_stack((np.array(centers_N2, float).reshape(count, 2), np.full((count, 2), side))) / 100
    return Result(
        source=Frame(np.zeros((100, 100, 3), np.uint8)),
        size=(100, 100),
        boxes_frac=boxes_N4.astype(np.float32),
        scores=np.ones(count, np.float32),
        class_ids=np.array(classes or [0] * count, np.int64),
        class_names=NAMES,
        track_ids=np.array(track_ids if track_ids is not None else range(1, count + 1), np.int64),
    )


def crossings(*ways: Sequence[tuple[float, float]], line: str = LINE, side: float = 4.0) -> tuple[int, int]:
    """Count objects that go along these ways: to the left, to the right."""
    counter = ObjectCounter(line)
    for centers in zip(*ways, strict=True):
        counter.update(frame(centers, side=side))
    (count,) = counter.line_counts
    return sum(count.to_left.values()), sum(count.to_right.values())


@pytest.mark.parametrize(
    ("ways", "expected"),
    [
        pytest.param([[(50, y) for y in range(10, 91, 10)]], (0, 1), id="down"),
        pytest.param([[(50, y) for y in range(90, 9, -10)]], (1, 0), id="up"),
        pytest.param([[(20, 10), (20, 90)], [(80, 90), (80, 10)], [(10, 10), (90, 40)]], (1, 1), id="three objects"),
        pytest.param([[(50, 10), (50, 90), (50, 10), (50, 90)]], (1, 2), id="to and fro"),
        pytest.param([[(50, 45), (50, 50), (50, 55)]], (0, 1), id="a stop on the line"),
        pytest.param([[(50, 45), (50, 50), (50, 45)]], (0, 0), id="back from the line"),
        pytest.param([[(50, 50), (50, 55), (50, 60)]], (0, 0), id="begun on the line"),
        pytest.param([[(50, 49.8), (50, 50.2)] * 9], (0, 0), id="trembling on the line"),
        pytest.param([[(50, 40), (50, 49.8), (50, 50.2), (50, 49.8), (50, 50.2), (50, 60)]], (0, 1), id="hesitating"),
    ],
)
def test_a_line_is_crossed_once_per_way(ways: list[list[tuple[float, float]]], expected: tuple[int, int]) -> None:
    assert crossings(*ways) == expected


def test_a_way_past_the_ends_of_a_line_crosses_nothing() -> None:
    short = "line:40,50,60,50"
    assert crossings([(20, 10), (20, 90)], [(80, 90), (80, 10)], line=short) == (0, 0)
    assert crossings([(39, 10), (39, 90)], [(61, 10), (61, 90)], [(50, 10), (50, 90)], line=short) == (0, 1)


def test_of_lines_with_a_common_end_one_is_crossed_there() -> None:
    counter = ObjectCounter("line:0,50,50,50", "line:50,50,100,50")
    for y in (10, 90):
        counter.update(frame([(50, y)]))
    assert sum(sum(count.to_right.values()) for count in counter.line_counts) == 1


def test_slanted_lines_count_by_the_side_of_who_looks_along_them() -> None:
    diagonal = "line:0,0,100,100"
    assert crossings([(80, 20), (20, 80)], line=diagonal) == (0, 1)
    assert crossings([(80, 20), (20, 80)], line="line:100,100,0,0") == (1, 0)


def test_a_crossing_while_the_object_is_hidden_counts() -> None:
    counter = ObjectCounter(LINE)
    for centers in ([(50, 40)], *[[]] * 20, [(50, 60)]):
        counter.update(frame(centers))
    assert counter.line_counts[0].to_right == {"cat": 1}


def test_classes_are_counted_apart_and_hidden_ones_not() -> None:
    counter = ObjectCounter(LINE)
    for y in (20, 80):
        shown = counter.update(frame([(20, y), (40, y), (60, 100 - y)], classes=[0, 1, 1]))
    (count,) = shown.counts
    assert (count.to_left, count.to_right) == ({"dog": 1}, {"cat": 1, "dog": 1})
    assert str(count) == "to the left: 1 dog; to the right: 1 cat, 1 dog"
    only_dogs = ObjectCounter(LINE)
    for y in (20, 80):
        only_dogs.update(frame([(20, y), (40, y)], classes=[0, 1]).filter("dog"))
    assert only_dogs.line_counts[0].to_right == {"dog": 1}


def test_many_tracked_objects_with_noise_are_counted_exactly() -> None:
    """Twenty go down and ten up, in columns of their own, with a noise of 3 % of the box's side."""
    rng, tracker, counter = np.random.default_rng(0), Tracker(), ObjectCounter(LINE)
    x_N = np.linspace(3, 97, 30)
    for time in range(80):
        y_N = np.where(np.arange(30) < 20, 10 + time, 90 - time)
        centers_N2 = np.column_stack((x_N, y_N)) + rng.normal(0, 0.12, (30, 2))
        seen_N = rng.random(30) > 0.05
        counter.update(tracker.update(frame(centers_N2[seen_N])))
    assert (counter.line_counts[0].to_left, counter.line_counts[0].to_right) == ({"cat": 10}, {"cat": 20})


def test_a_zone_counts_the_centers_inside_in_each_frame() -> None:
    counter = ObjectCounter("zone:10,10,50,10,50,90,30,40,10,90")  # a dent from below, up to (30, 40)
    assert not counter.needs_tracks
    shown = counter.update(frame([(20, 20), (30, 30), (30, 60), (60, 20), (12, 70)], classes=[0, 1, 1, 0, 1]))
    assert shown.counts[0].inside == {"cat": 1, "dog": 2}
    assert counter.update(frame([])).counts[0].inside == {}
    assert str(counter.update(frame([])).counts[0]) == "inside: 0"


def test_a_point_on_the_edge_of_two_zones_is_in_one() -> None:
    left, right = Region.parse("zone:0,0,50,0,50,100,0,100"), Region.parse("zone:50,0,100,0,100,100,50,100")
    points_N2 = np.array([(50.0, 20.0), (50.0, 0.0), (0.0, 5.0), (99.0, 99.0)])
    assert (left.contains(points_N2).astype(int) + right.contains(points_N2)).tolist() == [1, 1, 1, 1]


def test_counts_are_in_the_record_and_the_drawing() -> None:
    counter = ObjectCounter(LINE, [(10, 10), (90, 10), (50, 45)])
    plain = frame([(50, 20)])
    shown = counter.update(plain)
    assert json.loads(shown.to_json())["counts"] == [
        {"line": [0, 50, 100, 50], "to_left": {}, "to_right": {}},
        {"zone": [10, 10, 90, 10, 50, 45], "inside": {"cat": 1}},
    ]
    drawn, without = np.asarray(shown.draw()), np.asarray(plain.draw())
    assert not np.array_equal(drawn[50], without[50]) and not np.array_equal(drawn[10], without[10])
    assert np.array_equal(drawn[90:], without[90:])
    assert not np.array_equal(drawn, np.asarray(shown.draw(labels=False)))
    assert shown[:0].counts == shown.counts and "counts" not in json.loads(plain.to_json())


def test_detections_without_tracks_cannot_cross_a_line() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    cfg = "[net]\nwidth=32\nheight=32\nchannels=3\n[convolutional]\nfilters=7\nsize=32\nstride=32\nactivation=linear\n"
    cfg += "[yolo]\nmask=0\nanchors=16,16\nclasses=2\nnum=1\n"
    network = darkpy.load(cfg, dialect="pjreddie")

    def camera() -> Iterator[NDArray[np.uint8]]:
        yield from (image, image)

    with pytest.raises(DarkpyError, match="tracks") as caught:
        list(map(ObjectCounter(LINE).update, darkpy.detect(network, camera(), NAMES)))
    assert "track=True" in (caught.value.hint or "")
    results = list(map(ObjectCounter(LINE).update, darkpy.detect(network, camera(), NAMES, track=True)))
    assert [len(result.counts) for result in results] == [1, 1]


def test_memory_does_not_grow_with_the_tracks_that_have_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "FORGOTTEN_AFTER_FRAMES", 20)
    counter = ObjectCounter(LINE)
    for number in range(60):
        counter.update(frame([(50, 20)], track_ids=[number + 1]))
    assert len(counter._ids_T) <= 22


@pytest.mark.parametrize(
    "region",
    [
        "",
        "line",
        "line:",
        "line:1,2,3",
        "line:1,2,3,4,5",
        "line:1,2,3,4,5,6",
        "zone:1,2,3,4",
        "line:1,1,1,1",
        "zone:0,0,5,5,9,9",
        "line:0,0,nan,1",
        "line:0,0,inf,1",
        "line:0,0,1e9,1",
        "Line:0,0,5,5",
        ":0,0,5,5",
        "0,0,5,5",
        "square:0,0,5,5",
        "zone:" + ",".join("1" * 300),
        [(1, 2)],
        [],
        [(1, 2, 3), (4, 5, 6)],
        7,
        None,
        [("a", "b"), (1, 2)],
    ],
)
def test_what_is_no_region_is_one_error_with_the_form(region: object) -> None:
    with pytest.raises(DarkpyError) as caught:
        ObjectCounter(region)  # type: ignore[arg-type]
    assert "line:X1,Y1,X2,Y2" in (caught.value.hint or "")
