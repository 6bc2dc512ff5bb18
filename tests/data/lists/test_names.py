"""Class names."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkpy.data.lists.text_files import COCO_NAMES, VOC_NAMES, names_for, read_names
from darkpy.errors import DarkpyError, DarkpyNote, DarkpyWarning


def test_lists_have_darknets_spelling_and_order() -> None:
    assert (len(COCO_NAMES), len(set(COCO_NAMES))) == (80, 80)
    assert (COCO_NAMES[0], COCO_NAMES[9], COCO_NAMES[79]) == ("person", "traffic light", "toothbrush")
    assert (len(VOC_NAMES), VOC_NAMES[0], VOC_NAMES[19]) == (20, "aeroplane", "tvmonitor")
    assert list(VOC_NAMES) == sorted(VOC_NAMES)


@pytest.mark.parametrize("data", [b"a\nb c\n\nd", b"a\r\nb c\r\n\r\nd\r\n", b"\xef\xbb\xbfa\nb c\n\nd\n\n \n"])
def test_lines_are_classes_except_blank_ones_at_the_end(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.names").write_bytes(data)
    assert read_names(tmp_path / "x.names") == ("a", "b c", "", "d")


def test_without_a_file_the_number_of_classes_decides() -> None:
    with pytest.warns(DarkpyNote, match="the 80 classes are named as COCO's"):
        assert names_for(80) == COCO_NAMES
    with pytest.warns(DarkpyNote, match="the 20 classes are named as VOC's"):
        assert names_for(20) == VOC_NAMES
    with pytest.warns(DarkpyWarning, match="3 classes"):
        assert names_for(3) == ("0", "1", "2")


def test_fewer_names_than_classes_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.names").write_text("a\nb\n")
    with pytest.raises(DarkpyError, match=r"x.names: holds 2 names, the network has 3 classes"):
        names_for(3, tmp_path / "x.names")


def test_more_names_than_classes_are_reported_and_dropped(tmp_path: Path) -> None:
    (tmp_path / "x.names").write_text("a\nb\nc\n")
    with pytest.warns(DarkpyWarning, match=r"holds 3 names, the network has 2 classes; the last 1 are not used"):
        assert names_for(2, tmp_path / "x.names") == ("a", "b")
