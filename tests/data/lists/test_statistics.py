"""Statistics of a list of images."""

from __future__ import annotations

from pathlib import Path

from darkpy.data.lists.image_list import ImageList
from darkpy.data.lists.statistics import count_list, shared_images, text_lines


def write(folder: Path, **texts: str) -> ImageList:
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text)
    return ImageList(tuple(str(folder / f"{name}.jpg") for name in texts), folder, ("cat", "dog"))


def test_everything_is_counted(tmp_path: Path) -> None:
    listed = write(
        tmp_path,
        a="0 .5 .5 .2 .4\n0 .5 .5 .4 .2\n1 .5 .5 .4 .2\n1 .5 .5 .4 .2\n",
        b="",
        c="1 .5 .5 0 .1\n1 2 .5 .1 .1\n1 .95 .5 .2 .1\n1 .9 .5 .200001 .1\nword\n",
    )
    more = ImageList((*listed.images, listed.images[0], str(tmp_path / "lost.jpg")), tmp_path, ("cat", "dog", "cow"))
    one = count_list(more, more.read_labels())
    assert (one.images, one.unlabeled, one.empty, one.repeated, one.boxes) == (5, 1, 1, 1, 12)
    assert one.classes == {"cat": (4, 2), "dog": (8, 3), "cow": (0, 0)}
    assert (one.sizeless, one.outside, one.cut, one.doubled) == (1, 1, 1, 2)
    assert one.per_image[0] == 0 and one.per_image[-1] == 4
    assert (one.width[0], one.width[3], one.width[-1]) == (0.1, 0.4, 0.4)
    assert len(one.problems) == 1 and one.problems[0].startswith(f"{tmp_path / 'c.txt'}:5: ")


def test_text_and_record_say_the_same(tmp_path: Path) -> None:
    listed = write(tmp_path, a="0 .5 .5 .2 .4\n0 .5 .5 0 .4\n")
    one = count_list(listed, listed.read_labels())
    lines = list(text_lines("train", one))
    assert lines[0] == "train: 1 images, 2 boxes"
    assert lines[1].split() == ["cat", "2", "boxes", "on", "1", "images"]
    assert lines[-1] == "  1 boxes without a size"
    record = one.as_record()
    assert record["classes"] == {"cat": {"boxes": 2, "images": 1}, "dog": {"boxes": 0, "images": 0}}
    assert record["width"]["50%"] == 0.2 and record["sizeless"] == 1


def test_lists_without_boxes_are_counted_too(tmp_path: Path) -> None:
    listed = write(tmp_path, a="", b="")
    one = count_list(listed, listed.read_labels())
    assert (one.images, one.boxes, one.empty, one.width) == (2, 0, 2, ())
    assert list(text_lines("x", one))[-1] == "  2 images with a label file and without a box"


def test_images_in_two_lists_are_found_whatever_they_are_called(tmp_path: Path) -> None:
    write(tmp_path, a="", b="", c="")
    first = ImageList((str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")), tmp_path)
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.jpg").touch()
    second, third = ImageList(("b.jpg", "c.jpg"), tmp_path), ImageList(("c.jpg",), tmp_path)
    assert shared_images({"train": first, "valid": second, "test": third}) == {
        ("train", "valid"): 1,
        ("valid", "test"): 1,
    }
