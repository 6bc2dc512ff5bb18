"""Result files of `detector valid`."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch

import darkpy
from darkpy.data.lists.text_files import COCO_IDS
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, DarkpyWarning
from darkpy.evaluation.detect import ImageStatus
from darkpy.evaluation.detection_store import DetectionStore
from darkpy.evaluation.result_files import (
    check_names,
    coco_image_id,
    distinct_file_names,
    image_name,
    valid_options,
    write_results,
)
from darkpy.ops.boxes import Detections

PJ, AX = Dialect.PJREDDIE, Dialect.ALEXEYAB
IMAGES = [ImageStatus(0, "val2017/000000000139.jpg", (64, 32)), ImageStatus(1, "val2017/000000000285.jpg", (64, 32))]
NAMES = ("person", "traffic light")


@pytest.fixture
def detections() -> DetectionStore:
    """A person and something of both classes on the second image, the latter cut off."""
    boxes_M4 = torch.tensor([(0.5, 0.5, 0.25, 0.5), (0.0, 0.5, 0.5, 0.5)])
    prob_MK = torch.tensor([(0.75, 0.0), (0.5, 0.25)])
    store = DetectionStore()
    store.add(Detections(torch.tensor([1, 1]), boxes_M4, torch.ones(2), prob_MK))
    return store


def texts(
    kind: str, folder: Path, detections: DetectionStore, names: tuple[str, ...] = NAMES, stem: str | None = None
) -> dict[str, str]:
    written = write_results(kind, folder / "made", detections, IMAGES, names, AX, stem)
    return {path.relative_to(folder / "made").as_posix(): path.read_text() for path in written}


def test_voc_has_a_file_for_each_class_and_counts_pixels_from_one(tmp_path: Path, detections: DetectionStore) -> None:
    assert texts("voc", tmp_path, detections) == {
        "comp4_det_test_person.txt": (
            "000000000285 0.750000 25.000000 9.000000 41.000000 25.000000\n"
            "000000000285 0.500000 1.000000 9.000000 17.000000 25.000000\n"
        ),
        "comp4_det_test_traffic light.txt": "000000000285 0.250000 1.000000 9.000000 17.000000 25.000000\n",
    }


def test_coco_is_darknets_json(tmp_path: Path, detections: DetectionStore) -> None:
    (text,) = texts("coco", tmp_path, detections).values()
    assert text == (
        "[\n"
        '{"image_id":285, "category_id":1, "bbox":[24.000000, 8.000000, 16.000000, 16.000000], "score":0.750000},\n'
        '{"image_id":285, "category_id":1, "bbox":[0.000000, 8.000000, 16.000000, 16.000000], "score":0.500000},\n'
        '{"image_id":285, "category_id":2, "bbox":[0.000000, 8.000000, 16.000000, 16.000000], "score":0.250000}\n'
        "]\n"
    )
    assert len(json.loads(text)) == 3


def test_imagenet_counts_images_and_classes_from_one(tmp_path: Path, detections: DetectionStore) -> None:
    (text,) = texts("imagenet", tmp_path, detections).values()
    assert text.split("\n")[2] == "2 2 0.250000 0.000000 8.000000 16.000000 24.000000"


def test_bdd_is_json_by_name(tmp_path: Path, detections: DetectionStore) -> None:
    (text,) = texts("bdd", tmp_path, detections).values()
    assert json.loads(text)[2] == {
        "name": "000000000285",
        "category": "bus",
        "bbox": [0.0, 8.0, 16.0, 24.0],
        "score": 0.25,
    }


def test_kitti_has_a_file_for_each_image(tmp_path: Path, detections: DetectionStore) -> None:
    files = texts("kitti", tmp_path, detections)
    assert files["kitti_results/data/000000000139.txt"] == ""
    assert files["kitti_results/data/000000000285.txt"].split("\n")[2] == (
        "pedestrian -1 -1 -10 0.000000 8.000000 16.000000 24.000000 -1 -1 -1 -1000 -1000 -1000 -10 0.250000"
    )


@pytest.mark.parametrize("kind", ["coco", "bdd"])
def test_nothing_found_is_an_empty_list(tmp_path: Path, kind: str) -> None:
    (text,) = texts(kind, tmp_path, DetectionStore()).values()
    assert json.loads(text) == []


def test_stem_takes_the_place_of_darknets_name(tmp_path: Path, detections: DetectionStore) -> None:
    assert list(texts("coco", tmp_path, detections, stem="mine")) == ["mine.json"]
    assert "mineperson.txt" in texts("voc", tmp_path, detections, stem="mine")


def test_coco_ids_leave_out_what_coco_leaves_out() -> None:
    assert (len(COCO_IDS), COCO_IDS[0], COCO_IDS[11], COCO_IDS[-1]) == (80, 1, 13, 90)


def test_more_classes_than_cocos_are_counted_from_one(tmp_path: Path, detections: DetectionStore) -> None:
    detections.add(Detections(torch.tensor([0]), torch.full((1, 4), 0.5), torch.ones(1), torch.eye(81)[80:]))
    (text,) = texts("coco", tmp_path, detections, names=tuple(map(str, range(81)))).values()
    assert [one["category_id"] for one in json.loads(text)] == [1, 1, 2, 81]


@pytest.mark.parametrize(
    ("path", "pjreddie", "alexeyab"),
    [
        ("val2017/000000000139.jpg", 139, 139),
        ("val2014/COCO_val2014_000000000042.jpg", 42, 42),
        ("12_34.jpg", 34, 12),
        ("my_data/7.jpg", 7, 7),
        ("C:\\photos\\8.jpg", 8, 8),
        ("dog.jpg", None, None),
    ],
)
def test_image_id_is_the_number_that_the_dialect_reads(path: str, pjreddie: int | None, alexeyab: int | None) -> None:
    assert (coco_image_id(path, PJ), coco_image_id(path, AX)) == (pjreddie, alexeyab)


def test_image_name_ends_at_its_first_dot() -> None:
    assert image_name("a.b/c.d.jpg") == "c"


@pytest.mark.parametrize(
    ("paths", "message"),
    [(("a/1.jpg", "b/1.jpg"), "2 images of the list have the same"), (("dog.jpg",), "without a number")],
)
def test_ids_that_are_no_good_are_warned_of(tmp_path: Path, paths: tuple[str, ...], message: str) -> None:
    statuses = [ImageStatus(number, path, (1, 1)) for number, path in enumerate(paths)]
    with pytest.warns(DarkpyWarning, match=message):
        write_results("coco", tmp_path, DetectionStore(), statuses, NAMES, AX)


def test_good_ids_are_not_warned_of(tmp_path: Path, detections: DetectionStore) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        texts("coco", tmp_path, detections)


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("a", "a", "b"), ["a", "a-1", "b"]),
        (("Cat", "cat", "CAT"), ["Cat", "cat-1", "CAT-2"]),
        (("a", "a", "a-1"), ["a", "a-1-", "a-1"]),
        (("dog", "../up"), ["dog", ".._up"]),
        (("a_b", "a/b", "a\0b"), ["a_b", "a_b-1", "a_b-2"]),
        (("a/b", "a_b"), ["a_b-0", "a_b"]),
        (("a", "", "\x1b[2J\u202e\n"), ["a", "-1", "_[2J__"]),
        (("x" * 300, "x" * 301, "é" * 150), ["x" * 200, "x" * 198 + "-1", "é" * 100]),
        (("straße", "STRASSE"), ["straße", "STRASSE-1"]),
    ],
)
def test_names_of_files_are_distinct_and_possible(
    tmp_path: Path, names: tuple[str, ...], parts: list[str], detections: DetectionStore
) -> None:
    with pytest.warns(DarkpyWarning, match="names that repeat or that no file can have") as caught:
        assert distinct_file_names(names, "class") == parts
        files = texts("voc", tmp_path, detections, names=names)
    assert len(caught) == 2 and len(files) == len(names)
    assert [len(text.splitlines()) for text in files.values()] == [2, 1, 0][: len(names)]


def test_images_of_one_name_have_a_kitti_file_each(tmp_path: Path, detections: DetectionStore) -> None:
    images = [ImageStatus(index, f"{folder}/1.jpg", (64, 32)) for index, folder in enumerate("ab")]
    with pytest.warns(DarkpyWarning, match="image '1' is in the file named '1-1'"):
        empty, full = write_results("kitti", tmp_path, detections, images, NAMES, AX)
    assert (empty.name, full.name) == ("1.txt", "1-1.txt") and len(full.read_text().splitlines()) == 3


def test_more_classes_than_the_format_has_are_refused_before_the_work() -> None:
    with pytest.raises(DarkpyError, match="takes at most 3 classes, the network has 4"):
        check_names("kitti", tuple("abcd"))


def test_options_are_the_dialects() -> None:
    cfg = "[net]\nwidth=32\nheight=32\nchannels=18\n{}[yolo]\nmask=0\nclasses=13\nanchors=8,8\nnum=1\n"
    plain, boxed = darkpy.load(cfg.format("")), darkpy.load(cfg.format("letter_box=1\n"), dialect="alexeyab")
    stretched = darkpy.load(cfg.format(""), dialect="alexeyab")
    assert [(one.thresh, one.nms, one.letterbox) for one in map(valid_options, (plain, stretched, boxed))] == [
        (0.005, 0.45, True),
        (0.001, 0.6, False),
        (0.001, 0.6, True),
    ]
    assert valid_options(stretched, letterbox=True).letterbox
