"""The tree file: its content, and errors for a bad one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from darkpy.config import tree
from darkpy.config.tree import read_tree
from darkpy.errors import ConfigError

ANIMALS = "animal -1\nthing -1\ncat 0\ndog 0\nchair 1\nterrier 3\npoodle 3\ncorgi 3\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "some.tree"
    path.write_bytes(text.encode())
    return path


def faults_of(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        read_tree(path)
    assert all(finding.location.file == str(path) for finding in raised.value.findings)
    return [f"{finding.location.line}: {finding.message}" for finding in raised.value.findings]


def test_arrays_are_those_that_darknet_makes(tmp_path: Path) -> None:
    read = read_tree(written(tmp_path, ANIMALS))
    assert read.names == ("animal", "thing", "cat", "dog", "chair", "terrier", "poodle", "corgi")
    assert read.parent == (-1, -1, 0, 0, 1, 3, 3, 3)
    assert read.group == (0, 0, 1, 1, 2, 3, 3, 3)
    assert read.group_offset == (0, 2, 4, 5)
    assert read.group_size == (2, 2, 1, 3)
    assert read.child == (1, 2, -1, 3, -1, -1, -1, -1)
    assert read.leaf == (False, False, True, False, True, True, True, True)
    assert read.classes == 8


@pytest.mark.parametrize("text", [ANIMALS.replace("\n", "\r\n"), ANIMALS.removesuffix("\n"), "\ufeff" + ANIMALS])
def test_line_ends_and_byte_order_marks_change_nothing(tmp_path: Path, text: str) -> None:
    read = read_tree(written(tmp_path, text))
    assert (read.names[0], read.parent) == ("animal", (-1, -1, 0, 0, 1, 3, 3, 3))


def test_every_bad_line_is_named_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, "animal -1\ncat\ndog 0\n\nthing 9\nlate -2\npoodle x\ntoo many 0\n")
    assert faults_of(path) == [
        "2: 'cat' is not `name parent`",
        "4: '' is not `name parent`",
        "5: class 4, 'thing', has parent 9, which is not before it",
        "6: class 5, 'late', has parent -2, which is not before it",
        "7: 'poodle x' is not `name parent`",
        "8: 'too many 0' is not `name parent`",
    ]


def test_own_parent_and_a_first_class_with_a_parent_are_refused(tmp_path: Path) -> None:
    assert len(faults_of(written(tmp_path, "a 0\n"))) == 1
    assert len(faults_of(written(tmp_path, "a -1\nbb 1\n"))) == 1


def test_children_that_stand_apart_are_refused(tmp_path: Path) -> None:
    (finding,) = faults_of(written(tmp_path, "animal -1\ncat 0\nthing -1\n"))
    assert finding == "3: class 2, 'thing', is separated from the other children of -1"


def test_a_file_of_another_kind_is_one_short_message(tmp_path: Path) -> None:
    assert len(faults_of(written(tmp_path, "person\n" * 1000))) == 20


def test_holes_of_a_broken_download_are_found(tmp_path: Path) -> None:
    (finding,) = faults_of(written(tmp_path, "animal -1\nthing -1\0\0\0\ncat 0\n"))
    assert finding == "None: is a binary file, or damaged: a NUL byte in line 2"


def test_missing_file_is_named_with_the_places_searched(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"9k\.tree: cannot be read: No such file") as raised:
        read_tree(tmp_path / "9k.tree")
    assert "working directory" in str(raised.value)


def test_too_large_a_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.tree"
    with path.open("wb") as stream:
        stream.truncate(tree.MAX_SIZE + 1)
    assert "larger than" in faults_of(path)[0]


def test_folder_is_refused(tmp_path: Path) -> None:
    assert "not a regular file" in faults_of(tmp_path)[0]


def test_file_is_read_again_only_when_it_changed(tmp_path: Path) -> None:
    path = written(tmp_path, ANIMALS)
    first = read_tree(path)
    assert read_tree(path) is first
    path.write_text("one -1\ntwo -1\n")
    os.utime(path, ns=(1, 1))
    assert read_tree(path).classes == 2
