"""The sequences on which trackers are compared, and darkpy's switches beside those of its peers."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from tools import compare_trackers
from tools.compare_trackers import crossings, crowd, darkpy_tracker, norfair_tracker, score, trackers_tracker


@pytest.mark.parametrize(("sequence", "count"), [(crossings, 4), (crowd, 15)])
def test_exact_boxes_switch_no_number(monkeypatch: pytest.MonkeyPatch, sequence: object, count: int) -> None:
    monkeypatch.setattr(compare_trackers, "SEQUENCES", 2)
    assert score(darkpy_tracker, sequence, 0.0, 0.0) == (0, 2 * count, 1.0)


def test_objects_behind_others_are_not_detected() -> None:
    frames = list(crowd(np.random.default_rng(0), 0.0, 0.0))
    assert len(frames) == compare_trackers.FRAMES
    assert 0 < sum(15 - len(objects) for objects, _ in frames) < 15 * len(frames) / 3
    assert all(corners_N4.shape == (len(objects), 4) for objects, corners_N4 in frames)


@pytest.mark.slow
@pytest.mark.skipif(not (find_spec("trackers") and find_spec("norfair")), reason="trackers and norfair are not there")
@pytest.mark.parametrize("sequence", [crossings, crowd])
def test_a_poor_detector_switches_fewer_numbers_than_with_sort(sequence: object) -> None:
    own = score(darkpy_tracker, sequence, 0.08, 0.2)
    assert own.switches < score(trackers_tracker("SORTTracker"), sequence, 0.08, 0.2).switches
    assert own.numbered == 1 > score(norfair_tracker, sequence, 0.08, 0.2).numbered
