"""Small text files."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkpy.data.lists import text_files as lines
from darkpy.data.lists.text_files import read_lines
from darkpy.errors import DarkpyError


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is an empty file"),
        (b"\n \r\n", "is an empty file"),
        (b"\xff\xd8\xff\xe0", "is a JPEG image"),
        ("Hund\n".encode("utf-16"), "is UTF-16 text"),
        (b"a\0b\n", "is a binary file"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes, told: str) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(DarkpyError, match=told) as caught:
        read_lines(tmp_path / "x", hint="a list of names")
    assert caught.value.hint in ("a list of names", "save it as UTF-8", "download the real file")


def test_large_files_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_SIZE_BYTES", 10)
    (tmp_path / "x").write_bytes(b"0123456789\n")
    with pytest.raises(DarkpyError, match="larger than"):
        read_lines(tmp_path / "x", hint="")


@pytest.mark.parametrize("name", ["missing", "", "a\0b", "x" * 5000])
def test_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DarkpyError, match="cannot be read"):
        read_lines(tmp_path / name, hint="")


def test_letters_of_another_encoding_do_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes("Hündin\nHund\n".encode("latin-1"))
    assert read_lines(tmp_path / "x", hint="")[1] == "Hund"
