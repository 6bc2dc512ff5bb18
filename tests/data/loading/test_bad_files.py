"""bad.list and bad_label.list: everything bad is counted, and listed once."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkpy.data.loading.bad_files import BadLists, Problem
from darkpy.errors import DarkpyWarning

IMAGE = Problem(False, "a.jpg", "a.jpg: truncated")
LABEL = Problem(True, "a.txt:1: class 9 is not from 0 to 2", "a.txt:1: class 9 is not from 0 to 2")


def test_each_problem_is_counted_each_time_and_listed_once(tmp_path: Path) -> None:
    (tmp_path / "bad.list").write_text("of an earlier run\n")
    lists = BadLists(tmp_path)
    assert lists.add([IMAGE, LABEL, IMAGE]) == [IMAGE, LABEL]
    assert lists.add([LABEL, IMAGE._replace(entry="\udcff.jpg")]) == [IMAGE._replace(entry="\udcff.jpg")]
    assert dict(lists.files) == {"a.jpg": 2, "\udcff.jpg": 1}
    assert dict(lists.labels) == {LABEL.entry: 2}
    assert (tmp_path / "bad.list").read_bytes() == b"of an earlier run\na.jpg\n\xff.jpg\n"
    assert (tmp_path / "bad_label.list").read_text() == f"{LABEL.entry}\n"


def test_without_problems_there_are_no_lists(tmp_path: Path) -> None:
    assert BadLists(tmp_path).add([]) == []
    assert BadLists(None).add([IMAGE]) == [IMAGE]
    assert list(tmp_path.iterdir()) == []


def test_a_list_that_cannot_be_written_does_not_stop_training(tmp_path: Path) -> None:
    lists = BadLists(tmp_path / "none")
    with pytest.warns(DarkpyWarning, match=r"bad.list: cannot be written"):
        assert lists.add([IMAGE]) == [IMAGE]
    assert lists.add([IMAGE, LABEL]) == [LABEL]
    assert lists.files["a.jpg"] == 2
