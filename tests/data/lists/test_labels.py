"""What is read from label files."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkpy.data.lists.label_table import MAX_SIZE
from darkpy.data.lists.labels import MAX_PROBLEMS, read_labels, read_tags
from darkpy.errors import DarkpyError


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
            ("0 nan .5 .1 .1", "a number is not finite"),
            ("0 .5 .5 inf .1", "a number is not finite"),
            ("3 .5 .5 .1 .1", "class 3 is not from 0 to 2"),
            ("-1 .5 .5 .1 .1", "class -1 is not from 0 to 2"),
            ("1.5 .5 .5 .1 .1", "class 1.5 is not from 0 to 2"),
            ("0 .5 .5 0 .1", "w = 0, h = 0.1: the box has no size"),
            ("0 .5 .5 .1 -.1", "w = 0.1, h = -0.1: the box has no size"),
            ("0 0 0 .1 .1", "x = 0, y = 0: an object in the corner of the image, or without a place"),
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

    def test_a_class_without_a_place_is_kept_where_that_means_something(self, tmp_path: Path) -> None:
        assert read(tmp_path, "2 0 0 0 0", allow_class_only=True) == ([[0, 0, 0, 0, 2]], [])
        assert read(tmp_path, "2 0 0 0 0")[0] == []

    def test_a_file_of_another_kind_is_not_complained_of_line_by_line(self, tmp_path: Path) -> None:
        boxes, problems = read(tmp_path, "<annotation>\n" * (MAX_PROBLEMS + 5))
        assert boxes == []
        assert len(problems) == MAX_PROBLEMS + 1
        assert problems[-1] == " 5 more lines are wrong"

    def test_what_cannot_be_read_is_an_error_that_names_the_file(self, tmp_path: Path) -> None:
        with pytest.raises(DarkpyError, match=r"none.txt: cannot be read: No such file or directory"):
            read_labels(tmp_path / "none.txt", 3)
        for data in (b"\0" * 9, b" " * (MAX_SIZE + 1)):
            (tmp_path / "b.txt").write_bytes(data)
            with pytest.raises(DarkpyError, match=r"b.txt: is a binary file or larger"):
                read_labels(tmp_path / "b.txt", 3)


def test_tags_are_the_classes_of_a_file_once_each(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("4\n 0 4\n\n7 x\n-1")
    tags, problems = read_tags(tmp_path / "a.txt", 5)
    assert tags == (0, 4)
    assert [problem.rpartition("a.txt:")[2] for problem in problems] == [
        "4: '7' is no class from 0 to 4",
        "4: 'x' is no class from 0 to 4",
        "5: '-1' is no class from 0 to 4",
    ]
