"""XML from unknown sources."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from darkpy.data.formats.xml import MAX_DEPTH, MAX_FILE_BYTES, read_xml
from darkpy.errors import DarkpyError

BOMB = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;">]><a>&y;</a>'
FILE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BOMB, "declares a document type, which may hold entities"),
        (FILE, "declares a document type"),
        ('<!DOCTYPE a SYSTEM "http://example.com/a.dtd"><a/>', "declares a document type"),
        ("<a>&x;</a>", "a.xml:1: is not XML: undefined entity"),
        ("<a>\n<b></a>", "a.xml:2: is not XML: mismatched tag"),
        ("", "a.xml:1: is not XML: no element found"),
        ("<a>" * (MAX_DEPTH + 1), f"more than {MAX_DEPTH} deep"),
        ('<?xml version="1.0" encoding="klingon"?><a/>', "encoding"),
        ("<a/>" + " " * MAX_FILE_BYTES, "larger than any annotation"),
    ],
)
def test_unsafe_or_broken_xml_is_an_error(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "a.xml"
    path.write_text(text)
    with pytest.raises(DarkpyError, match=told) as caught:
        read_xml(path)
    assert str(path) in caught.value.message


def test_any_bytes_are_a_tree_or_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    good = b'<?xml version="1.0"?><a b="c"><d>text</d></a>'
    for number in range(200):
        damaged = bytearray(good)
        damaged[number % len(good)] = os.urandom(1)[0]
        path.write_bytes(damaged[: len(good) - number % 7])
        try:
            read_xml(path)
        except DarkpyError as error:
            assert error.message.startswith(str(path))


def test_encodings_that_xml_names_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes('<?xml version="1.0" encoding="ISO-8859-1"?><a>Bär</a>'.encode("latin-1"))
    assert read_xml(path).text == "Bär"
    path.write_bytes("<a>Bär</a>".encode("utf-16"))
    assert read_xml(path).text == "Bär"


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DarkpyError, match=r"a\.xml: cannot be read: No such file"):
        read_xml(tmp_path / "a.xml")
