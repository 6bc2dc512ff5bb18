"""Data sets as both darknets read them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from darkpy.data.formats.annotations import AnnotatedDataset, AnnotatedImage, AnnotatedObject, BoxPx
from darkpy.data.formats.darknet_writer import DarknetSet, ImportStats, LabelTexts, label_texts, write_set
from darkpy.data.lists.paths import label_path, read_image_list
from darkpy.data.lists.text_files import read_data
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError


def labels(
    *objects: AnnotatedObject, difficult: str = "apart", names: tuple[str, ...] = ("cat", "dog")
) -> tuple[LabelTexts, ImportStats]:
    stats = ImportStats()
    collection = AnnotatedDataset({"a": AnnotatedImage(Path("a.jpg"), 200, 100, objects)}, {})
    return label_texts(collection, names, stats, difficult=difficult)["a"], stats


def made(folder: Path, **texts: tuple[str, str]) -> DarknetSet:
    folder.mkdir(exist_ok=True)
    for name in texts:
        (folder / f"{name}.jpg").write_text(name)
    return DarknetSet(
        images={name: folder / f"{name}.jpg" for name in texts},
        labels={name: LabelTexts(*both) for name, both in texts.items()},
        splits={"train": list(texts)[:-1], "val": list(texts)[-1:]},
        names=("cat",),
    )


def test_boxes_are_centers_and_sizes_in_fractions() -> None:
    told, stats = labels(AnnotatedObject("dog", BoxPx(20, 10, 60, 30)))
    assert told.plain == "1 0.2 0.2 0.2 0.2\n"
    assert stats.boxes == {"dog": 1}


def test_bad_boxes_are_counted_and_not_written() -> None:
    told, stats = labels(
        AnnotatedObject("cat", BoxPx(5, 5, 5, 9)),
        AnnotatedObject("cat", BoxPx(9, 5, 5, 9)),
        AnnotatedObject("cat", BoxPx(300, 5, 310, 9)),
        AnnotatedObject("cow", BoxPx(1, 1, 2, 2)),
    )
    assert told == ("", "")
    assert (stats.empty, stats.outside) == (["a (cat)"] * 2, ["a (cat)"])
    assert stats.unnamed == {"cow": 1} and not stats.boxes


def test_boxes_end_at_the_edge_and_a_pixel_more_is_no_news() -> None:
    told, stats = labels(AnnotatedObject("cat", BoxPx(-1, -1, 200, 101)))
    assert told.plain == "0 0.5 0.5 1 1\n"
    assert stats.cut == 0
    assert labels(AnnotatedObject("cat", BoxPx(-2, 0, 200, 100)))[1].cut == 1


@pytest.mark.parametrize(("difficult", "lines"), [("apart", (1, 1)), ("keep", (2, 0)), ("drop", (1, 0))])
def test_difficult_objects_go_where_they_are_wanted(difficult: str, lines: tuple[int, int]) -> None:
    box = BoxPx(20, 10, 60, 30)
    told, _ = labels(AnnotatedObject("cat", box), AnnotatedObject("cat", box, is_difficult=True), difficult=difficult)
    assert (told.plain.count("\n"), told.difficult.count("\n")) == lines


def test_both_dialects_find_the_labels_and_the_data_file_names_the_lists(tmp_path: Path) -> None:
    out = tmp_path / "out"
    one = made(tmp_path / "in", a=("0 .5 .5 1 1\n", ""), raw_images=("", ""), c=("", "0 .1 .1 .1 .1\n"))
    assert [path.name for path in write_set(one, out)] == ["a.jpg", "raw_images.jpg", "c.jpg"]
    data = read_data(out / "out.data")
    lists = {key: data.find(key) for key in ("train", "valid", "difficult")}
    paths = {key: read_image_list(file) for key, file in lists.items() if file}
    assert [path.name for path in paths["train"]] == ["a.jpg", "raw_images.jpg"]
    assert [path.read_text() for path in paths["train"]] == ["a", "raw_images"]
    for dialect in Dialect:
        assert label_path(paths["train"][0], dialect).read_text() == "0 .5 .5 1 1\n"
        assert label_path(paths["train"][1], dialect).read_text() == ""
        assert label_path(paths["difficult"][0], dialect).read_text() == "0 .1 .1 .1 .1\n"
    assert [path.name for path in paths["difficult"]] == [path.name for path in paths["valid"]] == ["c.jpg"]
    assert (out / "backup").is_dir() and (out / "out.names").read_text() == "cat\n"


def test_files_are_links_or_copies(tmp_path: Path) -> None:
    one = made(tmp_path / "in", a=("", ""), b=("", ""))
    linked, copied = (list(write_set(one, tmp_path / name, copy=name == "copied")) for name in ("linked", "copied"))
    assert linked[0].samefile(tmp_path / "in/a.jpg") and not copied[0].samefile(tmp_path / "in/a.jpg")
    list(write_set(one, tmp_path / "linked", copy=True, overwrite=True))
    assert not linked[0].is_symlink() and linked[0].read_text() == "a"
    assert (tmp_path / "in/a.jpg").read_text() == "a"


@pytest.mark.parametrize("copy", [False, True])
def test_source_is_never_lost_where_it_is_its_own_target(tmp_path: Path, copy: bool) -> None:
    one = made(tmp_path / "pictures", a=("1", ""), b=("", ""))
    list(write_set(one, tmp_path, copy=copy, overwrite=True))
    for name in "ab":
        image = tmp_path / f"pictures/{name}.jpg"
        assert image.read_text() == name and not image.is_symlink()
    assert (tmp_path / "pictures/a.txt").read_text() == "1"


def test_nothing_is_written_over_without_force(tmp_path: Path) -> None:
    one = made(tmp_path / "in", a=("", ""), b=("", ""))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(DarkpyError, match="is not empty"):
        list(write_set(one, tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    list(write_set(one, tmp_path / "out", overwrite=True))
    assert (tmp_path / "out/mine.txt").read_text() == "mine"


def test_two_files_with_one_label_file_are_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    one = made(tmp_path / "in", raw=("", ""), labels=("", ""))
    with pytest.raises(DarkpyError, match=r"labels\.txt: would be the label file of two images, raw and labels"):
        list(write_set(one, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("splits", "chosen"),
    [
        (["test", "train", "trainval", "val"], ("train", "val")),
        (["test", "trainval"], ("trainval", "test")),
        (["train2017", "val2017"], ("train2017", "val2017")),
        (["a", "b"], ("a", "a")),
    ],
)
def test_train_and_valid_splits_are_chosen_by_name(splits: list[str], chosen: tuple[str, str]) -> None:
    one = DarknetSet(images={}, labels={}, splits={name: [] for name in splits}, names=())
    assert (one.train, one.valid) == chosen


@pytest.mark.parametrize("taken", [("difficult",), ("difficult", "difficult_objects"), ("train", "difficult_train")])
def test_list_of_difficult_objects_has_another_name_than_every_split(tmp_path: Path, taken: tuple[str, ...]) -> None:
    set_ = made(tmp_path / "in", a=("0 .5 .5 1 1\n", "0 .2 .2 .1 .1\n"), b=("", "0 .1 .1 .1 .1\n"))
    splits = {key: ["a"] for key in taken} | {"val": ["b"]}
    list(write_set(dataclasses.replace(set_, splits=splits), tmp_path / "out"))
    data = read_data(tmp_path / "out/out.data")
    for split in splits:
        assert "/pictures/" in (tmp_path / f"out/{split}.txt").read_text()
    for key in ("difficult", "difficult_train"):
        listed = data.find(key)
        assert listed is not None and "/difficult/" in listed.read_text()


@pytest.mark.parametrize("name", ["a\nb", "a\r", "\na"])
def test_name_with_a_line_break_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(DarkpyError, match="cannot stand in a list"):
        list(write_set(made(tmp_path / "in", **{name: ("", ""), "b": ("", "")}), tmp_path / "out"))
    assert not (tmp_path / "out").exists()
