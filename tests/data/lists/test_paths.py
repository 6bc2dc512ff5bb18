"""Paths of images and of their label files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from darkpy.data.lists.paths import (
    expand_paths,
    find_image,
    label_path,
    label_path_text,
    listed_folder,
    read_image_list,
    read_list_lines,
)
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError


@pytest.mark.parametrize(
    ("image", "pjreddie", "alexeyab"),
    [
        ("a.jpg", "a.txt", "a.txt"),
        ("/d/images/a.jpg", "/d/labels/a.txt", "/d/images/a.txt"),
        ("/d/images/train2017/a.jpg", "/d/labels/train2017/a.txt", "/d/labels/train2017/a.txt"),
        ("/d/images/val2014/a.png", "/d/labels/val2014/a.txt", "/d/labels/val2014/a.txt"),
        ("/d/images/val2015/a.png", "/d/labels/val2015/a.txt", "/d/images/val2015/a.txt"),
        ("/d/VOC/JPEGImages/a.JPG", "/d/VOC/labels/a.txt", "/d/VOC/labels/a.txt"),
        ("C:\\d\\JPEGImages\\a.jpg", "C:\\d\\labels\\a.txt", "C:\\d\\labels\\a.txt"),
        ("C:\\d\\images\\train2014\\a.jpg", "C:\\d\\labels\\train2014\\a.txt", "C:\\d\\labels\\train2014\\a.txt"),
        ("/d/my_images_raw/a.jpg", "/d/my_labels_labels/a.txt", "/d/my_images_raw/a.txt"),
        ("/d/draw/a.jpg", "/d/dlabels/a.txt", "/d/draw/a.txt"),
        ("/d/images/images.png", "/d/labels/images.txt", "/d/images/images.txt"),
        ("/d/a.jpg.d/a.JPEG", "/d/a.txt.d/a.txt", "/d/a.jpg.d/a.txt"),
        (" a.jpg", " a.txt", "a.txt"),
        ("a.jpeg", "a.txt", "a.txt"),
        ("a.bmp", "a.txt", "a.txt"),
        ("a.webp", "a.txt", "a.txt"),
        ("a.Jpg", "a.txt", "a.txt"),
    ],
)
def test_each_dialect_has_its_rule(image: str, pjreddie: str, alexeyab: str) -> None:
    assert label_path(image, Dialect.PJREDDIE) == Path(pjreddie)
    assert label_path(image, Dialect.ALEXEYAB) == Path(alexeyab)


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("image", ["a", "a.txt", "folder/", "a.weights", ""])
def test_other_files_have_no_labels(image: str, dialect: Dialect) -> None:
    with pytest.raises(DarkpyError, match="no label file belongs to it"):
        label_path(image, dialect)


def test_name_of_the_label_file_is_not_normalized() -> None:
    assert label_path_text("./d//a.jpg", Dialect.PJREDDIE) == "./d//a.txt"
    assert label_path("./d//a.jpg", Dialect.PJREDDIE) == Path("d/a.txt")


@pytest.mark.parametrize("name", ["set", "a b", "höhle"])
def test_folder_is_listed_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert listed_folder(Path(name), "train/a.jpg") == f"{tmp_path.as_posix()}/{name}"


@pytest.mark.parametrize("name", ["images", "raw", "drawn", "a.jpg", "line\nbreak", "x/images/y"])
def test_folder_where_a_darknet_would_not_find_labels_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(DarkpyError, match="one of the darknets would not find labels"):
        listed_folder(tmp_path / name, "train/a.jpg")


def test_list_has_names_as_bytes(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa\xff.jpg\r\n\n  b.jpg \n")
    (tmp_path / os.fsdecode(b"a\xff.jpg")).touch()
    assert [os.fsencode(line) for line in read_list_lines(tmp_path / "list.txt")] == [b"a\xff.jpg", b"b.jpg"]
    assert find_image(Path("b.jpg"), tmp_path) == Path("b.jpg")
    (tmp_path / "b.jpg").touch()
    assert find_image(Path("b.jpg"), tmp_path) == tmp_path / "b.jpg"


class TestExpandPaths:
    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        images = tmp_path / "images"
        (images / "deeper").mkdir(parents=True)
        for name in ("b.JPG", "a.png", "notes.txt", ".hidden.jpg", "deeper/c.jpg"):
            (images / name).write_bytes(b"")
        return images

    def test_a_folder_stands_for_the_images_directly_in_it_by_name(self, folder: Path) -> None:
        assert expand_paths([folder]) == [folder / "a.png", folder / "b.JPG"]

    def test_arguments_keep_their_order_and_missing_files_are_kept_for_load_image(self, folder: Path) -> None:
        missing = Path("none.jpg")
        assert expand_paths([missing, folder / "b.JPG", folder]) == [missing, folder / "b.JPG", *expand_paths([folder])]

    def test_a_list_is_read_with_bom_cr_and_blank_lines(self, folder: Path) -> None:
        (folder / "train.txt").write_bytes(b"\xef\xbb\xbfimages/a.png\r\n\r\n  images/b.JPG \r\n\n" + b"\xff.jpg")
        Path("\udcff.jpg").touch()
        expected = [Path("images/a.png"), Path("images/b.JPG"), Path("\udcff.jpg")]
        assert read_image_list(folder / "train.txt") == expand_paths([folder / "train.txt"]) == expected

    def test_a_listed_path_is_found_from_here_first_then_beside_the_list(self, folder: Path) -> None:
        (folder / "x.list").write_text(f"a.png\nimages/b.JPG\nnone.jpg\n{folder / 'a.png'}\n{'long' * 100}\n")
        expected = [folder / "a.png", Path("images/b.JPG"), Path("none.jpg"), folder / "a.png", Path("long" * 100)]
        assert read_image_list(folder / "x.list") == expected
        Path("a.png").write_bytes(b"")
        assert read_image_list(folder / "x.list")[0] == Path("a.png")

    @pytest.mark.parametrize(
        ("text", "message", "hint"),
        [
            ('{"images": []}\n', 'path 1 is {"images": []}', "one image path on each line"),
            ("000001\n000002\n", "path 1 is 000001", "darkpy dataset from-voc"),
        ],
    )
    def test_text_without_paths_of_images_is_no_list(self, folder: Path, text: str, message: str, hint: str) -> None:
        (folder / "x.list").write_text(text)
        with pytest.raises(DarkpyError, match=re.escape(f"is not a list of images: {message}")) as info:
            read_image_list(folder / "x.list")
        assert hint in str(info.value.hint)

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda folder: [], "no images given"),
            (lambda folder: [folder / "none.txt"], "none.txt: cannot be read: No such file"),
            (lambda folder: [folder / "notes.txt"], "notes.txt: names no image"),
            (lambda folder: [folder / "a.png", folder.parent], "no image in this folder"),
        ],
    )
    def test_arguments_without_images_are_errors(
        self, folder: Path, make: Callable[[Path], list[Path]], message: str
    ) -> None:
        with pytest.raises(DarkpyError, match=re.escape(message)):
            expand_paths(make(folder))


# What darkpy sees otherwise than the stb of the matrix's last column, and why.
