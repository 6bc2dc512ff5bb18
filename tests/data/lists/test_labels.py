"""Label files: boxes of one image, and boxes of many images in one table."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from darkpy.data.lists import labels as labels_module
from darkpy.data.lists.labels import (
    MAX_FILE_BYTES,
    MAX_PROBLEMS_PER_FILE,
    read_label_table,
    read_labels,
    read_tags,
)
from darkpy.data.lists.paths import find_label
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(folder: Path, text: str | bytes, **options: bool) -> tuple[list[list[float]], list[str]]:
    """Boxes, and problems without the name of the file."""
    file = folder / "a.txt"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    labels = read_labels(file, 3, **options)
    assert all(problem.startswith(f"{file}:") for problem in labels.problems)
    return labels.boxes_N5.tolist(), [problem.removeprefix(f"{file}:") for problem in labels.problems]


class TestReadLabels:
    @pytest.mark.parametrize(
        "text",
        [
            "2 .5 0.25 0.125 1\n0 1 0 5e-1 .25",
            "\n  2\t.5 .25 .125 1.0 \r\n\r\n0 1 0 .5 .25\r\n\n",
            "\ufeff2.0 .5 .25 .125 1\n0 1 0 .5 .25\n",
        ],
    )
    def test_class_x_y_w_h_become_x_y_w_h_class(self, tmp_path: Path, text: str) -> None:
        assert read(tmp_path, text) == ([[0.5, 0.25, 0.125, 1, 2], [1, 0, 0.5, 0.25, 0]], [])

    @pytest.mark.parametrize("text", ["", "\n \n", b"\xef\xbb\xbf"])
    def test_an_empty_file_is_an_image_without_objects(self, tmp_path: Path, text: str | bytes) -> None:
        assert read(tmp_path, text) == ([], [])
        assert read_labels(tmp_path / "a.txt", 3).boxes_N5.shape == (0, 5)

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            ("cat .5 .5 .1 .1", "'cat .5 .5 .1 .1' is not `class x y w h`"),
            ("0 0,5 .5 .1 .1", "'0 0,5 .5 .1 .1' is not `class x y w h`"),
            ("0 .5 .5 .1", "'0 .5 .5 .1' is not `class x y w h`"),
            ("0 .1 .1 .2 .1 .2 .2 .1 .2", "9 numbers, where `class x y w h` are 5"),
            ("0 nan .5 .1 .1", "a number is non-finite (NaN or inf)"),
            ("0 .5 .5 inf .1", "a number is non-finite (NaN or inf)"),
            ("3 .5 .5 .1 .1", "class 3 is not from 0 to 2"),
            ("-1 .5 .5 .1 .1", "class -1 is not from 0 to 2"),
            ("1.5 .5 .5 .1 .1", "class 1.5 is not from 0 to 2"),
            ("0 .5 .5 0 .1", "w = 0, h = 0.1: the box has no size"),
            ("0 .5 .5 .1 -.1", "w = 0.1, h = -0.1: the box has no size"),
            ("0 0 0 .1 .1", "x = 0, y = 0: an object in the corner of the image, or a class without a box"),
            ("0 1.5 .5 .1 .1", "x = 1.5, y = 0.5, w = 0.1, h = 0.1: the box is outside the image"),
            ("0 214 310 99 80", "x = 214, y = 310, w = 99, h = 80: the box is outside the image"),
        ],
    )
    def test_a_wrong_line_is_left_out_and_the_others_stay(self, tmp_path: Path, line: str, problem: str) -> None:
        boxes, problems = read(tmp_path, f"1 .5 .5 .25 .25\n{line}\n2 .5 .5 .25 .25")
        assert boxes == [[0.5, 0.5, 0.25, 0.25, 1], [0.5, 0.5, 0.25, 0.25, 2]]
        assert problems == [f"2: {problem}"]

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            ("1 .5 .5 .25 .25 .9", "6 numbers, where `class x y w h` are 5; the last is ignored"),
            ("1 1.125 .5 .5 .5", "x = 1.125, y = 0.5, w = 0.5, h = 0.5: the box is cut off at the image's edge"),
            ("1 .5 .5 1.25 .5", "x = 0.5, y = 0.5, w = 1.25, h = 0.5: the box is cut off at the image's edge"),
        ],
    )
    def test_a_doubtful_line_is_used_and_reported(self, tmp_path: Path, line: str, problem: str) -> None:
        boxes, problems = read(tmp_path, line)
        assert boxes == [[float(number) for number in line.split()[1:5]] + [1]]
        assert problems == [f"1: {problem}"]

    def test_a_class_without_a_box_is_accepted_where_allowed(self, tmp_path: Path) -> None:
        assert read(tmp_path, "2 0 0 0 0", allow_class_only=True) == ([[0, 0, 0, 0, 2]], [])
        assert read(tmp_path, "2 0 0 0 0")[0] == []

    def test_a_file_of_another_kind_is_not_reported_line_by_line(self, tmp_path: Path) -> None:
        boxes, problems = read(tmp_path, "<annotation>\n" * (MAX_PROBLEMS_PER_FILE + 5))
        assert boxes == []
        assert len(problems) == MAX_PROBLEMS_PER_FILE + 1
        assert problems[-1] == " 5 more lines are wrong"

    def test_unreadable_file_is_an_error_that_names_it(self, tmp_path: Path) -> None:
        with pytest.raises(DarkpyError, match=r"none.txt: cannot be read: No such file or directory"):
            read_labels(tmp_path / "none.txt", 3)
        for data, message in (
            (b"\0" * 9, "b.txt: is a binary file"),
            (b" " * (MAX_FILE_BYTES + 1), "b.txt: is larger than any list of boxes"),
        ):
            (tmp_path / "b.txt").write_bytes(data)
            with pytest.raises(DarkpyError, match=re.escape(message)):
                read_labels(tmp_path / "b.txt", 3)

    @pytest.mark.parametrize(
        ("text", "lines", "problem"),
        [
            ("1 .5 .5 .2 .2 2 .25 .25 .1 .1", [1, 1], "1: boxes do not end with lines"),
            ("1 .5 .5 .2 .2 2 .25\n\n.25 .1 .1", [1, 1], "1: boxes do not end with lines"),
            ("1\n.5 .5\n.2 .2\n2 .25 .25 .1 .1", [1, 4], "1: boxes do not end with lines"),
            ("1 .5 .5 .2 .2 # cell\n2 .25 .25 .1 .1", [1, 2], "1: '# cell' behind the box is ignored"),
            ("1 .5 .5 .2 .2\n2 .25 .25 .1 .1 a bus", [1, 2], "2: 'a bus' behind the box is ignored"),
            ("1 .5 .5 .2 .2,\n2 .25 .25 .1 .1", [1, 2], "1: ',' behind the box is ignored"),
            ("1 .5 .5 .2 .2\r2 .25 .25 .1 .1\r", [1, 2], None),
        ],
    )
    def test_numbers_are_read_as_by_fscanf(
        self, tmp_path: Path, text: str, lines: list[int], problem: str | None
    ) -> None:
        (tmp_path / "a.txt").write_text(text, newline="")
        labels = read_labels(tmp_path / "a.txt", 3)
        table = read_label_table(["a.jpg"], tmp_path)
        expected = [[1, 0.5, 0.5, 0.2, 0.2], [2, 0.25, 0.25, 0.1, 0.1]]
        assert labels.boxes_N5[:, [4, 0, 1, 2, 3]].tolist() == torch.tensor(expected).tolist()
        assert np.column_stack([table.class_N, table.box_N4]).tolist() == expected
        assert list(labels.lines) == lines
        for problems in (labels.problems, table.problems):
            assert len(problems) == (problem is not None)
            assert problem is None or f"a.txt:{problem}" in problems[0]

    def test_numbers_of_thousands_of_digits_are_wrong_lines(self, tmp_path: Path) -> None:
        digits = "9" * 5000
        text = f"{digits} .5 .5 .1 .1\n0 {digits} .5 .1 .1\n1 .5 .5 .2 .2 {digits}\n1 .5 .5 .2 .2\n"
        boxes, problems = read(tmp_path, text)
        assert len(boxes) == 2 and len(problems) == 3
        assert len(read_label_table(["a.jpg"], tmp_path)) == 2
        assert read_tags(tmp_path / "a.txt", 3)[0] == (0, 1)

    def test_numbers_of_python_that_c_does_not_read_are_wrong_lines(self, tmp_path: Path) -> None:
        text = "0_1 .5 .5 .1 .1\n٣ .5 .5 .1 .1\n0 .5 .5 .1_0 .1\n1 .5 .5 .2 .2\n"
        boxes, problems = read(tmp_path, text)
        assert len(boxes) == 1 and len(problems) == 3
        assert len(read_label_table(["a.jpg"], tmp_path)) == 1


def test_tags_are_the_classes_of_a_file_once_each(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("4\n 0 4\n\n7 x\n-1")
    tags, problems = read_tags(tmp_path / "a.txt", 5)
    assert tags == (0, 4)
    assert [problem.rpartition("a.txt:")[2] for problem in problems] == [
        "4: '7' is not a class from 0 to 4",
        "4: 'x' is not a class from 0 to 4",
        "5: '-1' is not a class from 0 to 4",
    ]


def write(**texts: str) -> list[str]:
    for name, text in texts.items():
        Path(f"{name}.txt").write_text(text)
    return [f"{name}.jpg" for name in texts]


def test_boxes_come_in_the_order_of_the_list() -> None:
    table = read_label_table(write(a="1 .5 .25 .125 1\n", b="", c="\n0 .1 .2 .3 .4\r\n  2\t.5 .5 1e-1 1\n\n"), Path())
    assert table.image_N.tolist() == [0, 2, 2]
    assert table.class_N.tolist() == [1, 0, 2]
    assert table.box_N4.tolist() == [[0.5, 0.25, 0.125, 1], [0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.1, 1]]
    assert (table.files, table.missing, table.problems) == (("a.txt", "b.txt", "c.txt"), (), ())


GOOD = "0 .5 .5 .5 .5"


@pytest.mark.parametrize(
    ("line", "boxes", "problem"),
    [
        ("0 .5 .5 .5", 2, "'0 .5 .5 .5' is not `class x y w h`"),
        ("0 .5 .5 .5\n.5 .5 .5 .5 .5 .5", 3, "'0 .5 .5 .5' is not"),  # as many numbers as two boxes have
        ("0 .5 .5 .5 .5 .9", 3, "the last is ignored"),
        ("cat .5 .5 .5 .5", 2, "is not `class x y w h`"),
        ("0 .5 .5 .5 inf", 2, "non-finite"),
        ("0.5 .5 .5 .5 .5", 2, "class 0.5 is not from 0"),
        ("-1 .5 .5 .5 .5", 2, "class -1 is not from 0"),
        ("9999999999 .5 .5 .5 .5", 2, "class 9999999999 is not from 0"),
    ],
)
def test_wrong_line_is_left_out_and_reported(line: str, boxes: int, problem: str) -> None:
    if "\n" in line:
        boxes -= 1
    table = read_label_table(write(a=GOOD, b=f"{GOOD}\n{line}"), Path())
    assert len(table) == boxes
    assert table.problems[0].startswith("b.txt:2: ") and problem in table.problems[0]


def test_binary_and_huge_files_are_reported() -> None:
    names = write(a=GOOD)
    Path("b.txt").write_bytes(b"0 .5 .5 .5 .5\0")
    table = read_label_table([*names, "b.jpg"], Path())
    assert len(table) == 1 and table.problems[0].startswith("b.txt: is a binary file")
    Path("b.txt").write_bytes(b" " * (MAX_FILE_BYTES + 1))
    table = read_label_table(["b.jpg"], Path())
    assert table.missing == (0,) and table.problems == ("b.txt: is larger than any list of boxes, 4 MB",)


def test_image_without_labels_is_missing() -> None:
    Path("folder.txt").mkdir()
    table = read_label_table([*write(a=GOOD), "b.jpg", "folder.jpg", "song.mp3", "a\0.jpg"], Path())
    assert table.missing == (1, 2, 3, 4)
    assert table.files[1:4] == ("b.txt", "folder.txt", "song.mp3")
    assert len(table.problems) == 1 and table.problems[0].startswith("song.mp3: no label file belongs to it")


def test_labels_lie_where_either_dialect_looks_and_beside_the_list() -> None:
    Path("set/images").mkdir(parents=True)
    Path("set/labels").mkdir()
    Path("set/images/a.txt").write_text("1 .5 .5 .5 .5")
    Path("set/labels/a.txt").write_text("2 .5 .5 .5 .5")
    Path("set/labels/b.txt").write_text("3 .5 .5 .5 .5")

    def classes(image: str, dialect: Dialect | None = None) -> list[int]:
        class_ids: list[int] = read_label_table([image], Path("set"), dialect).class_N.tolist()
        return class_ids

    assert classes("set/images/a.jpg") == classes("images/a.jpg", Dialect.ALEXEYAB) == [1]
    assert classes("set/images/b.jpg") == classes("images/b.jpg") == [3]
    assert classes("images/a.jpg", Dialect.PJREDDIE) == [2]
    assert classes("images/b.jpg", Dialect.ALEXEYAB) == [3]
    assert find_label("set/images/b.jpg", Dialect.ALEXEYAB) == Path("set/labels/b.txt")
    assert find_label("set/images/a.jpg", Dialect.ALEXEYAB) == Path("set/images/a.txt")
    assert find_label("set/images/a.jpg", Dialect.PJREDDIE) == Path("set/labels/a.txt")
    assert find_label("set/images/none.jpg", Dialect.PJREDDIE) == Path("set/labels/none.txt")


NUMBERS = st.sampled_from(["0", "1", ".5", "-1", "1e-3", "x", "nan", "0x1", "1_0", "\x00", "\ufeff", "5."])
LINES = st.lists(st.lists(NUMBERS, max_size=7).map(" ".join), max_size=6).map("\n".join)


@given(texts=st.lists(LINES, min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_joined_and_line_by_line_parsing_agree(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("labels")
    for number, text in enumerate(texts):
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    images = [str(folder / f"{number}.jpg") for number in range(len(texts))]
    joined = read_label_table(images, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels_module, "_parse_joined", lambda texts: None)
        by_line = read_label_table(images, folder)
    assert joined.box_N4.tolist() == by_line.box_N4.tolist()
    assert joined.image_N.tolist() == by_line.image_N.tolist()
    assert joined.problems == by_line.problems


def test_label_file_that_cannot_be_read_is_a_problem_of_its_own(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    table = read_label_table(["a.jpg", "b.jpg"], tmp_path)
    assert len(table.problems) == 1
    assert table.problems[0].startswith("a.txt: cannot be read: ")
