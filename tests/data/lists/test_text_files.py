"""Text files of a data set: every encoding and every kind of file, for every reader."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from darkpy.config.classmap import read_class_map
from darkpy.config.tree import read_tree
from darkpy.data.lists import text_files
from darkpy.data.lists.image_list import open_list
from darkpy.data.lists.labels import read_label_table, read_labels, read_tags
from darkpy.data.lists.paths import read_image_list, read_list_lines
from darkpy.data.lists.text_files import read_data, read_lines, read_names
from darkpy.errors import DarkpyError, DarkpyWarning

READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "names": ("cat\nb\u00fcrd\n", read_names),
    "data": ("train=b\u00fcrd.txt\n", lambda file: dict(read_data(file).entries)),
    "image list": ("b\u00fcrd.jpg\n", read_list_lines),
    "images": ("b\u00fcrd.jpg\n", read_image_list),
    "source": ("b\u00fcrd.jpg\n", lambda file: open_list(file).images),
    "tree": ("cat -1\nb\u00fcrd 0\n", lambda file: read_tree(file).names),
    "map": ("0\n2\n1\n", lambda file: read_class_map(file, 3)),
    "labels": ("0 .5 .5 .5 .5\n", lambda file: read_labels(file, 1).boxes_N5.tolist()),
    "tags": ("1 2\n", lambda file: read_tags(file, 3)[0]),
    "table": ("0 .5 .5 .5 .5\n", lambda file: _table(file)),
}


def _table(file: Path) -> object:
    table = read_label_table([str(file.with_suffix(".jpg"))], file.parent)
    if not len(table):
        raise DarkpyError(table.problems[0] if table.problems else f"{table.missing} labels missing", hint="none")
    return table.box_N4.tolist()


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be-sig", "crlf", "cr", "utf-16-crlf", "no final newline"]
)
@pytest.mark.filterwarnings("ignore:.*UTF-16:darkpy.errors.DarkpyWarning")
def test_encodings_that_are_certain_are_read(tmp_path: Path, name: str, encoding: str) -> None:
    text, read = READERS[name]
    (tmp_path / "plain.txt").write_text(text, encoding="utf-8")
    data = {
        "utf-16-be-sig": b"\xfe\xff" + text.encode("utf-16-be"),
        "crlf": text.replace("\n", "\r\n").encode(),
        "cr": text.replace("\n", "\r").encode(),
        "utf-16-crlf": text.replace("\n", "\r\n").encode("utf-16"),
        "no final newline": text.rstrip("\n").encode(),
    }
    (tmp_path / "file.txt").write_bytes(data.get(encoding) or text.encode(encoding))
    assert read(tmp_path / "file.txt") == read(tmp_path / "plain.txt")


OTHER_FILES: dict[str, tuple[Callable[[str], bytes], str]] = {
    "UTF-16 LE": (lambda text: text.encode("utf-16-le"), "is UTF-16 text without a byte order mark"),
    "UTF-16 BE": (lambda text: text.encode("utf-16-be"), "is UTF-16 text without a byte order mark"),
    "cut UTF-16": (lambda text: text.encode("utf-16")[:-1], "is damaged UTF-16 text"),
    "UTF-32": (lambda text: text.encode("utf-32"), "is UTF-32 text"),
    "NUL": (
        lambda text: text.replace("\n", " ").encode() + b"\n" * 9 + b"a\0b\n",
        ": is a binary file, or damaged: a NUL byte in line 10",
    ),
    "binary": (lambda text: bytes(range(1, 256)) * 9, "is a binary file"),
    "cp1252": (lambda text: text.encode("cp1252") + b"h\xfcnd\n", "is not UTF-8"),
    "JPEG": (lambda text: b"\xff\xd8\xff\xe0", "is a JPEG image"),
    "zip": (lambda text: b"PK\x03\x04", "is a zip archive"),
    "HTML": (lambda text: b"<!DOCTYPE html><html>", "is a web page"),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", OTHER_FILES)
def test_other_files_are_refused(tmp_path: Path, name: str, kind: str) -> None:
    if (name, kind) == ("data", "cp1252"):
        pytest.skip("paths are bytes")
    text, read = READERS[name]
    make, message = OTHER_FILES[kind]
    (tmp_path / "file.txt").write_bytes(make(text))
    with pytest.raises(DarkpyError, match=re.escape(message)) as caught:
        read(tmp_path / "file.txt")
    assert "file.txt" in str(caught.value) and "hint: " in str(caught.value)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_only_regular_files_are_read(tmp_path: Path, name: str, kind: str) -> None:
    if kind == "folder":
        (tmp_path / "file.txt").mkdir()
    elif kind == "pipe":
        os.mkfifo(tmp_path / "file.txt")  # a reader that opens it would wait forever
    else:
        (tmp_path / "file.txt").symlink_to("/dev/zero")
    message = "labels missing" if (name, kind) == ("table", "folder") else rf"file\.txt: .*is a {kind}, not"
    if name == "source" and kind == "folder":
        message = "no image in this folder"
    with pytest.raises(DarkpyError, match=message):
        READERS[name][1](tmp_path / "file.txt")


def test_archive_in_the_place_of_a_text_is_no_weight_file(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"PK\x03\x04" + bytes(60))
    with pytest.raises(DarkpyError, match="is a zip archive") as caught:
        read_lines(tmp_path / "x.txt", hint="a list")
    assert caught.value.hint == "a list"


def test_utf_16_is_warned_about_once(tmp_path: Path) -> None:
    (tmp_path / "x.names").write_text("Hund\nK\u00e4fer\n", encoding="utf-16")
    with pytest.warns(DarkpyWarning, match="is UTF-16 text, which no darknet reads") as caught:
        assert read_names(tmp_path / "x.names") == ("Hund", "K\u00e4fer")
    assert len(caught) == 1


@pytest.mark.parametrize("data", [b"", b"\n \r\n"])
def test_empty_file_is_an_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(DarkpyError, match="is an empty file"):
        read_lines(tmp_path / "x", hint="a list of names")


@pytest.mark.parametrize(
    "text", ["a.jpg b.jpg c.jpg", "a.jpg,b.jpg", "a.jpg 10,20,30,40,0\nb.jpg 1,2,3,4,0\n", "a.jpg 3\n", "x" * 5000]
)
def test_list_with_more_than_a_path_on_a_line_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "train.txt").write_text(text)
    with pytest.raises(DarkpyError, match="path 1 of the list is more than a path"):
        read_list_lines(tmp_path / "train.txt")


def test_names_of_files_in_another_encoding_are_found(tmp_path: Path) -> None:
    image = tmp_path / os.fsdecode(b"h\xfcnd.jpg")
    image.touch()
    (tmp_path / "train.txt").write_bytes(b"h\xfcnd.jpg\n")
    assert read_image_list(tmp_path / "train.txt") == [image]
    (tmp_path / "a b.jpg c.jpg").touch()
    (tmp_path / "blanks.txt").write_text("a b.jpg c.jpg\n")
    assert read_image_list(tmp_path / "blanks.txt") == [tmp_path / "a b.jpg c.jpg"]


def test_large_files_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "MAX_SIZE_BYTES", 10)
    (tmp_path / "x").write_bytes(b"0123456789\n")
    with pytest.raises(DarkpyError, match="larger than"):
        read_lines(tmp_path / "x", hint="")


@pytest.mark.parametrize("name", ["missing", "a\0b", "x" * 5000])
def test_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DarkpyError, match="cannot be read"):
        read_lines(tmp_path / name, hint="")
