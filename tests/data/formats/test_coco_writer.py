"""Labels as COCO's JSON, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from darkpy.data.formats.coco import read_coco
from darkpy.data.formats.coco_writer import CocoContent, coco_content, image_ids
from darkpy.data.formats.darknet_reader import read_darknet
from darkpy.data.formats.darknet_writer import ImportStats, label_texts
from darkpy.data.lists.text_files import COCO_NAMES, COCO_ORIGINAL_NAMES
from darkpy.errors import DarkpyError


def write(folder: Path, size: tuple[int, int] = (64, 32), **texts: str) -> Path:
    """A `.data` file of images and their labels."""
    for name, text in texts.items():
        Image.new("L", size).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(text)
    return put_data(folder, *(folder / f"{name}.png" for name in texts))


def put_data(folder: Path, *images: Path, names: Sequence[str] = ("cat", "dog"), difficult: str = "") -> Path:
    (folder / "train.list").write_text("".join(f"{image}\n" for image in images))
    (folder / "x.names").write_text("".join(f"{name}\n" for name in names))
    (folder / "x.data").write_text(f"train={folder}/train.list\nnames={folder}/x.names\n{difficult}")
    return folder / "x.data"


def made(data: Path) -> CocoContent:
    dataset = read_darknet(data)
    return coco_content(dataset, dataset.splits["train"])


def parsed(coco: CocoContent) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(b"".join(coco.to_json()))
    return read


def test_boxes_are_in_pixels_from_the_upper_left(tmp_path: Path) -> None:
    coco = made(write(tmp_path, a="1 .5 .5 .25 .5\n0 .5 .5 0 1\n", b=""))
    assert parsed(coco) == {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 64, "height": 32},
            {"id": 2, "file_name": "b.png", "width": 64, "height": 32},
        ],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 2, "bbox": [24, 8, 16, 16], "area": 256, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    assert coco.empty == 1


def test_difficult_objects_are_crowds_and_unknown_classes_have_numbers(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    write(tmp_path / "more", a="3 .5 .5 1 1")
    write(tmp_path, a="0 .5 .5 1 1")
    data = put_data(tmp_path, tmp_path / "a.png", difficult=f"difficult_train={tmp_path}/more/train.list\n")
    coco = made(data)
    assert [(one["category_id"], one["iscrowd"]) for one in coco.annotations] == [(1, 0), (4, 1)]
    assert [one["name"] for one in coco.categories] == ["cat", "dog", "2", "3"]


def test_classes_of_one_name_are_one_category_and_image_listed_twice_is_one(tmp_path: Path) -> None:
    write(tmp_path, a="0 .5 .5 1 1\n1 .5 .5 1 1\n2 .5 .5 1 1\n")
    coco = made(put_data(tmp_path, *[tmp_path / "a.png"] * 2, names=("cat", "cat", "", "dog")))
    assert [one["name"] for one in coco.categories] == ["cat", "2", "dog"]
    assert [one["category_id"] for one in coco.annotations] == [1, 1, 2] and len(coco.images) == 1


@pytest.mark.parametrize("names", [COCO_NAMES, COCO_ORIGINAL_NAMES])
def test_cocos_classes_have_the_ids_of_coco(tmp_path: Path, names: tuple[str, ...]) -> None:
    write(tmp_path, a="79 .5 .5 1 1")
    coco = made(put_data(tmp_path, tmp_path / "a.png", names=names))
    assert coco.categories[-1]["id"] == coco.annotations[0]["category_id"] == 90


def test_images_that_are_called_by_numbers_have_them_for_ids() -> None:
    assert image_ids([Path("a/000000000139.jpg"), Path("b/7.png")]) == [139, 7]
    assert image_ids([Path("a/07.jpg"), Path("b/7.png")]) == [1, 2]
    assert image_ids([Path("a/x.jpg"), Path("b/7.png")]) == [1, 2]
    assert image_ids([Path(f"{1 << 60}.jpg")]) == [1]
    assert image_ids([Path(f"{'9' * 5000}.jpg")]) == [1]


def test_image_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    data = write(tmp_path, a="0 .5 .5 1 1", b="0 .5 .5 1 1")
    (tmp_path / "a.png").write_bytes(b"no image")
    coco = made(data)
    assert [one["file_name"] for one in coco.images] == ["b.png"] and len(coco.annotations) == 1
    assert "a.png" in read_darknet(data).losses["images cannot be read and are left out"][0]


def test_list_of_unreadable_images_is_reported_by_its_first_one(tmp_path: Path) -> None:
    data = write(tmp_path, a="", b="", c="", d="")
    (tmp_path / "valid.list").write_text(f"{tmp_path}/b.png\n{tmp_path}/c.png\n")
    data.write_text(f"{data.read_text()}valid={tmp_path}/valid.list\n")
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(b"no image")
    with pytest.raises(DarkpyError, match=r"no image of valid can be read; the first: .*/b\.png"):
        read_darknet(data)


def test_names_lead_from_the_common_folder(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, a="")
    coco = made(put_data(tmp_path, tmp_path / "x/a.png", tmp_path / "y/a.png"))
    assert [one["file_name"] for one in coco.images] == ["x/a.png", "y/a.png"]


SIDES = st.integers(1, 5000)
CENTS = st.integers(0, 500_000).map(lambda cents: cents / 100)


@given(size=st.tuples(SIDES, SIDES), boxes=st.lists(st.tuples(CENTS, CENTS, CENTS, CENTS), max_size=5))
@settings(max_examples=25, deadline=None)
def test_cocos_boxes_come_back_from_labels(
    tmp_path_factory: pytest.TempPathFactory, size: tuple[int, int], boxes: list[tuple[float, ...]]
) -> None:
    folder = tmp_path_factory.mktemp("set")
    w, h = size
    inside = [
        [x % w, y % h, min(box_w, w - x % w), min(box_h, h - y % h)]
        for x, y, box_w, box_h in boxes
        if min(box_w, w - x % w) > 0.01 and min(box_h, h - y % h) > 0.01
    ]
    content = {
        "images": [{"id": 3, "file_name": "a.png", "width": w, "height": h}],
        "annotations": [{"id": 1, "image_id": 3, "category_id": 1, "bbox": box} for box in inside],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (folder / "a.json").write_text(json.dumps(content))
    collection = read_coco(folder / "a.json", needs_images=False)
    text = label_texts(collection, ["cat"], ImportStats(), difficult="apart")["a"].plain
    back = parsed(made(write(folder, size, a=text)))
    assert [one["bbox"] for one in back["annotations"]] == [pytest.approx(box, abs=2e-6) for box in inside]


NUMBERS = st.integers(1, 10**6).map(lambda number: f"{number / 10**6:.6f}")


@given(lines=st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), max_size=5), side=st.integers(16, 3000))
@settings(max_examples=25, deadline=None)
def test_labels_of_six_decimals_come_back_from_coco(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, ...]], side: int
) -> None:
    folder = tmp_path_factory.mktemp("set")
    numbers = [(line, [(float(line[place]), float(line[place + 2])) for place in (0, 1)]) for line in lines]
    inside = [line for line, both in numbers if all(abs(at - 0.5) + length / 2 <= 0.5 for at, length in both)]
    data = write(folder, (side, side + 7), a="".join(f"0 {' '.join(line)}\n" for line in inside))
    (folder / "out.json").write_bytes(b"".join(made(data).to_json()))
    back = label_texts(read_coco(folder / "out.json"), ["cat"], ImportStats(), difficult="apart")["a"].plain
    assert [tuple(f"{float(word):.6f}" for word in line.split()[1:]) for line in back.splitlines()] == inside
