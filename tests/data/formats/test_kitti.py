"""KITTI's detection data."""

from __future__ import annotations

from pathlib import Path

import PIL.Image
import pytest

from darkpy.data.formats.kitti import read_kitti
from darkpy.errors import DarkpyError

CAR = "Car 0.00 0 -1.59 10 5 30 15 1.36 1.69 3.38 0.28 2.08 17.74 -1.58"
VAN = "Van 0.50 3 2.13 -2.5 0 8.25 20 1.59 1.72 4.12 -11.33 2.28 26.92 1.59 0.98"
DONT_CARE = "DontCare -1 -1 -10 3 1 9 7 -1 -1 -1 -1000 -1000 -1000 -10"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "kitti"
    put(folder, "training", a=f"{CAR}\n{DONT_CARE}\n", b=f"{VAN}\n", c="")
    return folder


def put(root: Path, split: str, labels: str = "label_2", images: str = "image_2", **texts: str) -> None:
    for folder in (labels, images):
        (root / split / folder).mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (root / split / labels / f"{name}.txt").write_text(text)
        PIL.Image.new("RGB", (40, 20)).save(root / split / images / f"{name}.png")


@pytest.mark.parametrize("place", ["", "training", "training/label_2"])
def test_boxes_are_read_and_regions_that_are_not_labeled_left_out(root: Path, place: str) -> None:
    dataset = read_kitti(root / place)
    objects = {key: [(item.name, item.box) for item in image.objects] for key, image in dataset.images.items()}
    assert objects == {"a": [("Car", (10, 5, 30, 15))], "b": [("Van", (-2.5, 0, 8.25, 20))], "c": []}
    assert dataset.splits == {} and sorted(len(places) for places in dataset.losses.values()) == [1, 2]


def test_folders_and_lists_are_splits(root: Path) -> None:
    put(root, "testing", z=CAR)
    assert read_kitti(root).splits == {"testing": ["z"], "training": ["a", "b", "c"]}
    (root / "training/ImageSets").mkdir()
    for name, text in {"train": "a\nc\n", "val": "b\n", "trainval": "a\nb\nc\n"}.items():
        (root / f"training/ImageSets/{name}.txt").write_text(text)
    assert read_kitti(root / "training").splits == {"train": ["a", "c"], "val": ["b"]}


def test_taos_and_bare_folders_and_types_of_two_words_are_read(root: Path) -> None:
    put(root, "tao", "labels", "images", a=CAR.replace("Car", "Road sign"))
    assert read_kitti(root / "tao").images["a"].objects[0].name == "Road sign"
    put(root, "flat", "x", "x", a=CAR)
    assert list(read_kitti(root / "flat/x").images) == ["a"]
    assert list(read_kitti(root / "tao/labels", root / "training/image_2").images) == ["a"]


def test_images_without_labels_and_labels_without_images_are_said(root: Path) -> None:
    (root / "training/image_2/b.png").unlink()
    (root / "training/label_2/c.txt").unlink()
    dataset = read_kitti(root)
    assert list(dataset.images) == ["a"] and dataset.missing == (str(root / "training/label_2/b.txt"),)
    assert dataset.losses["images without a label file are left out"] == [str(root / "training/image_2/c.png")]


def test_faults_of_all_files_are_one_error(root: Path) -> None:
    put(root, "training", a="Car 0 0\nCar 0.00 0 -1.59 x 5 30 15 1 1 1 1 1 1 1\n", b=f"0 7 {CAR}\n{CAR}{CAR}\n")
    (root / "training/image_2/c.png").write_text("no image")
    with pytest.raises(DarkpyError) as info:
        read_kitti(root)
    lines = [line.removeprefix(f"{root}/training/") for line in info.value.message.splitlines()]
    assert [line.partition(": ")[0] for line in lines] == [
        *("label_2/a.txt:1", "label_2/a.txt:2", "label_2/b.txt:1", "label_2/b.txt:2", "label_2/c.txt"),
    ]
    assert "a frame and a track" in lines[2] and "size of the image is unknown" in lines[4]
    with pytest.raises(DarkpyError, match="no label file"):
        read_kitti(root / "training/image_2")
