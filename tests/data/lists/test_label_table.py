"""The labels of many images at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkpy.data.lists import label_table
from darkpy.data.lists.label_table import MAX_SIZE, read_table
from darkpy.dialect import Dialect


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(**texts: str) -> list[str]:
    for name, text in texts.items():
        Path(f"{name}.txt").write_text(text)
    return [f"{name}.jpg" for name in texts]


def test_boxes_come_in_the_order_of_the_list() -> None:
    table = read_table(write(a="1 .5 .25 .125 1\n", b="", c="\n0 .1 .2 .3 .4\r\n  2\t.5 .5 1e-1 1\n\n"), Path())
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
        ("0 .5 .5 .5 inf", 2, "not finite"),
        ("0.5 .5 .5 .5 .5", 2, "class 0.5 is not from 0"),
        ("-1 .5 .5 .5 .5", 2, "class -1 is not from 0"),
        ("9999999999 .5 .5 .5 .5", 2, "class 9999999999 is not from 0"),
    ],
)
def test_wrong_line_is_left_out_and_told(line: str, boxes: int, problem: str) -> None:
    if "\n" in line:
        boxes -= 1
    table = read_table(write(a=GOOD, b=f"{GOOD}\n{line}"), Path())
    assert len(table) == boxes
    assert table.problems[0].startswith("b.txt:2: ") and problem in table.problems[0]


def test_binary_and_huge_files_are_told() -> None:
    names = write(a=GOOD)
    Path("b.txt").write_bytes(b"0 .5 .5 .5 .5\0")
    table = read_table([*names, "b.jpg"], Path())
    assert len(table) == 1 and table.problems == ("b.txt: is a binary file",)
    Path("b.txt").write_bytes(b" " * (MAX_SIZE + 1))
    table = read_table(["b.jpg"], Path())
    assert table.missing == (0,) and table.problems == ("b.txt: is a binary file or larger than any list of boxes",)


def test_image_without_labels_is_missing() -> None:
    Path("folder.txt").mkdir()
    table = read_table([*write(a=GOOD), "b.jpg", "folder.jpg", "song.mp3", "a\0.jpg"], Path())
    assert table.missing == (1, 2, 3, 4)
    assert table.files[1:4] == ("b.txt", "folder.txt", "song.mp3")
    assert len(table.problems) == 1 and table.problems[0].startswith("song.mp3: no label file belongs to it")


def test_labels_lie_where_either_fork_looks_and_beside_the_list() -> None:
    Path("set/images").mkdir(parents=True)
    Path("set/labels").mkdir()
    Path("set/images/a.txt").write_text("1 .5 .5 .5 .5")
    Path("set/labels/a.txt").write_text("2 .5 .5 .5 .5")
    Path("set/labels/b.txt").write_text("3 .5 .5 .5 .5")

    def classes(image: str, dialect: Dialect | None = None) -> list[int]:
        found: list[int] = read_table([image], Path("set"), dialect).class_N.tolist()
        return found

    assert classes("set/images/a.jpg") == classes("images/a.jpg", Dialect.ALEXEYAB) == [1]
    assert classes("set/images/b.jpg") == classes("images/b.jpg") == [3]
    assert classes("images/a.jpg", Dialect.PJREDDIE) == [2]
    assert classes("images/b.jpg", Dialect.ALEXEYAB) == []


NUMBERS = st.sampled_from(["0", "1", ".5", "-1", "1e-3", "x", "nan", "0x1", "1_0", "\x00", "\ufeff", "5."])
LINES = st.lists(st.lists(NUMBERS, max_size=7).map(" ".join), max_size=6).map("\n".join)


@given(texts=st.lists(LINES, min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_together_or_one_by_one_is_the_same(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("labels")
    for number, text in enumerate(texts):
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    images = [str(folder / f"{number}.jpg") for number in range(len(texts))]
    together = read_table(images, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_table, "_parse_together", lambda texts: None)
        apart = read_table(images, folder)
    assert together.box_N4.tolist() == apart.box_N4.tolist()
    assert together.image_N.tolist() == apart.image_N.tolist()
    assert together.problems == apart.problems
