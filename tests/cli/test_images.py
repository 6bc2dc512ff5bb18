"""Images that come in by name and drawings that go out."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from darkpy.cli.load import ask_paths, drawing_path, open_folder, write_drawing
from darkpy.errors import DarkpyError
from darkpy.evaluation.result import Result
from darkpy.files import protect_inputs
from darkpy.sources.frames import Frame


def result(w: int = 20, h: int = 10) -> Result:
    return Result(source=Frame(np.zeros((h, w, 3), np.uint8), "a.png"), size=(w, h))


@pytest.mark.parametrize(
    ("name", "drawn", "kind"),
    [
        ("a.jpg", "a.jpg", "JPEG"),
        ("a.JPEG", "a.JPEG", "JPEG"),
        ("a.png", "a.png", "PNG"),
        ("a.bmp", "a.bmp", "BMP"),
        ("a.webp", "a.webp", "WEBP"),
        ("a.tif", "a.tif", "TIFF"),
        ("a.gif", "a.gif.jpg", "JPEG"),
        ("a", "a.jpg", "JPEG"),
    ],
)
def test_drawing_keeps_name_and_kind_where_it_can(tmp_path: Path, name: str, drawn: str, kind: str) -> None:
    target = drawing_path(f"somewhere/{name}", tmp_path)
    assert target == tmp_path / drawn
    write_drawing(result(), target)
    with Pillow.open(target) as drawing:
        assert (drawing.format, drawing.size) == (kind, (20, 10))


def test_nothing_is_written_over_that_was_given(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    with protect_inputs(), pytest.raises(DarkpyError, match="is an input of this command"):
        open_folder(tmp_path / "link", [tmp_path / "a.png"], overwrite=False)
    with protect_inputs(), pytest.raises(DarkpyError, match="is an input of this command"):
        write_drawing(replace(result(), source=Frame.of_file(tmp_path / "a.png")), tmp_path / "link" / "a.png")
    assert (tmp_path / "a.png").stat().st_size == 0


def test_image_may_be_given_twice(tmp_path: Path) -> None:
    open_folder(tmp_path / "drawn", [Path("a.png"), Path("b.png"), Path("a.png")], overwrite=False)


def test_size_that_the_format_has_no_room_for_is_an_error_that_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(DarkpyError, match="cannot be drawn"):
        write_drawing(result(w=70_000, h=1), tmp_path / "a.jpg")
    assert not list(tmp_path.iterdir())


def test_folder_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DarkpyError, match="--out"):
        open_folder(tmp_path / "file", [], overwrite=False)


def test_paths_are_asked_for_one_by_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = io.StringIO("a b.png\r\n\nc.png")
    monkeypatch.setattr(sys, "stdin", lines)
    paths = ask_paths()
    assert next(paths) == "a b.png"
    assert lines.readline() == "\n", "nothing is read before it is wanted"
    assert list(paths) == ["c.png"]
    assert capsys.readouterr().out.count("Enter Image Path: ") == 3


def test_path_in_quotes_is_asked_for_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Terminals write the file that is dropped on them in quotes."""
    monkeypatch.chdir(tmp_path)
    Path('"b".png').touch()
    monkeypatch.setattr(sys, "stdin", io.StringIO('\'a b.png\'\n"C:\\a.png"\n"b".png\n'))
    assert list(ask_paths()) == ["a b.png", "C:\\a.png", '"b".png']


def test_path_may_start_like_a_video(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("RIFF_images/a.png\n"))
    assert list(ask_paths()) == ["RIFF_images/a.png"]


def test_encoding_of_standard_input_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\ufeffa.png\n"))
    assert list(ask_paths()) == ["a.png"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\udcff\udcfea\0.\0p\0n\0g\0\n"))
    with pytest.raises(DarkpyError, match="standard input: is UTF-16 text"):
        list(ask_paths())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html>\n<html>\n", "is a web page"),
        (b"\x89PNG\r\n\x1a\n", "is a PNG image"),
        (b"\x1f\x8b\x08\0\n", "is a gzip archive"),
        (b"a.png b.png c.png\n", "line 1 is more than a path: a.png b.png c.png"),
        (b"caf\xe9.png\n", "is not UTF-8, and no file has the name that it gives as caf\u00e9.png"),
        (b"none.png\ncaf\xe9.png\n", "is not UTF-8"),
    ],
)
def test_other_files_as_standard_input_are_one_error(
    monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", errors="surrogateescape")
    monkeypatch.setattr(sys, "stdin", text)
    with pytest.raises(DarkpyError, match=f"standard input: {message}"):
        list(ask_paths())
