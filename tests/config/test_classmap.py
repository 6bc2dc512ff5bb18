"""Maps of classes: one number a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkpy.config.classmap import MAX_SIZE, read_class_map
from darkpy.errors import DarkpyError


def test_lines_are_the_classes_of_the_labels(tmp_path: Path) -> None:
    path = tmp_path / "some.map"
    path.write_bytes(b"\xef\xbb\xbf5\r\n0\r\n7\r\n")
    assert read_class_map(path, 8) == (5, 0, 7)


@pytest.mark.parametrize(("text", "said"), [
    ("5\n8\n", ":2: names class 8, but classes=8"), ("5\n-1\n", ":2: '-1' is not a class index"),
    ("5\ncat\n", ":2: 'cat' is not a class index"), ("", "is an empty file"), ("1" * (MAX_SIZE + 1), "larger than"),
])  # fmt: skip
def test_other_files_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "some.map"
    path.write_text(text)
    with pytest.raises(DarkpyError, match=said):
        read_class_map(path, 8)


def test_a_map_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DarkpyError, match=r"none\.map: cannot be read"):
        read_class_map(tmp_path / "none.map", 8)


def test_a_map_that_has_changed_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "some.map"
    path.write_text("5\n")
    assert read_class_map(path, 8) == (5,)
    path.write_text("6\n7\n")
    assert read_class_map(path, 8) == (6, 7)
