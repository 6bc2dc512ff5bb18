"""COCO's JSON."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkpy.data.formats.annotations import AnnotatedObject, BoxPx
from darkpy.data.formats.coco import read_coco, read_coco_splits
from darkpy.errors import DarkpyError

GOOD: dict[str, Any] = {
    "images": [
        {"id": 5, "file_name": "a.jpg", "width": 100, "height": 50},
        {"id": 6, "file_name": "sub/b.png", "width": 10, "height": 20},
    ],
    "annotations": [
        {"id": 1, "image_id": 5, "category_id": 9, "bbox": [1, 2.5, 3, 4]},
        {"id": 2, "image_id": 5, "category_id": 2, "bbox": [0, 0, 1, 1], "iscrowd": 1},
    ],
    "categories": [{"id": 9, "name": "zebra"}, {"id": 2, "name": "cat"}, {"id": 11, "name": "dog"}],
}


def write(folder: Path, content: object, name: str = "instances_val.json") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def test_images_boxes_and_classes_are_read(tmp_path: Path) -> None:
    for name in ("a.jpg", "sub/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    read = read_coco(write(tmp_path, GOOD))
    assert read.class_names() == ("cat", "zebra", "dog")  # in the order of their ids
    assert list(read.images) == ["a", "b"] and read.missing == ()
    a = read.images["a"]
    assert (a.file, a.w, a.h) == (tmp_path / "a.jpg", 100, 50)
    assert a.objects == (
        AnnotatedObject("zebra", BoxPx(1, 2.5, 4, 6.5)),
        AnnotatedObject("cat", BoxPx(0, 0, 1, 1), is_difficult=True),
    )


def test_images_of_key_points_lie_in_the_folder_of_the_split(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD, "annotations/person_keypoints_val.json")
    (tmp_path / "images/val").mkdir(parents=True)
    (tmp_path / "images/val/a.jpg").touch()
    assert list(read_coco(file).images) == ["a"]


@pytest.mark.parametrize("place", ["annotations/../val", "images/val", "images", "annotations", "annotations/val"])
def test_images_lie_where_cocos_or_other_peoples_do(tmp_path: Path, place: str) -> None:
    file = write(tmp_path, GOOD, "annotations/instances_val.json")
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    (tmp_path / place / "a.jpg").touch()
    read = read_coco(file)
    assert list(read.images) == ["a"] and read.missing == ("sub/b.png",)
    assert len(read_coco(file, needs_images=False).images) == 2


def test_images_lie_in_the_folder_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/a.jpg").touch()
    assert list(read_coco(write(tmp_path, GOOD), tmp_path / "other").images) == ["a"]


@pytest.mark.parametrize(
    ("part", "change", "told"),
    [
        ("images", {"width": None}, r"image 5: the image.s size is \? x 50"),
        ("images", {"height": 0}, "image 5: the image.s size is 100 x 0"),
        ("images", {"width": 1e99}, r"image 5: the image.s size is \? x 50"),
        ("images", {"file_name": 7}, "5 has no file_name"),
        ("images", {"file_name": "."}, "is not a file in the folder"),
        ("images", {"file_name": "../../secret.jpg"}, "is not a file in the folder"),
        ("images", {"file_name": "/etc/secret.jpg"}, "is not a file in the folder"),
        ("images", {"file_name": "C:\\secret.jpg"}, "is not a file in the folder"),
        ("images", {"file_name": "sub/b.png"}, "two images have the name"),
        ("images", {"id": 6}, "1 images have the id of another one"),
        ("images", {"id": None}, "has no id"),
        ("annotations", {"bbox": [1, 2, 3]}, "annotation 1 has no bbox of four numbers"),
        ("annotations", {"bbox": [1, 2, 3, float("nan")]}, "annotation 1 has no bbox"),
        ("annotations", {"bbox": [1, 2, 3, "4"]}, "annotation 1 has no bbox"),
        ("annotations", {"image_id": 99}, "for image 99, category 9, which does not exist"),
        ("annotations", {"category_id": [1]}, "which does not exist"),
        ("categories", {"name": ""}, "9 has no name"),
    ],
)
def test_wrong_content_is_an_error_that_names_the_file(
    tmp_path: Path, part: str, change: dict[str, Any], told: str
) -> None:
    content = deepcopy(GOOD)
    content[part][0].update(change)
    with pytest.raises(DarkpyError, match=told) as caught:
        read_coco(write(tmp_path, content), needs_images=False)
    assert "instances_val.json: " in caught.value.message


def test_faults_of_all_files_are_one_error(tmp_path: Path) -> None:
    content = deepcopy(GOOD)
    content["annotations"][0]["bbox"] = [1]
    content["annotations"][1]["image_id"] = 99
    content["categories"][2]["name"] = ""
    files = [write(tmp_path, content), write(tmp_path, "{", "other.json")]
    with pytest.raises(DarkpyError) as info:
        read_coco_splits(files)
    assert [line.split(":")[0] for line in info.value.message.split("\n")] == [*[str(files[0])] * 3, str(files[1])]


COUNTS = [27, 5, 7, 5, 7, 9, 3, 5, 7, 5, 28]
"""Runs down the columns of 12 x 9 pixels, of which 3:8, 2:7 and 5:12, 4 are set."""


@pytest.mark.parametrize(
    ("segmentation", "box"),
    [
        ([[2, 3, 10, 3, 10, 12], [1, 4, 2, 20.5, 1, 1]], (1, 1, 10, 20.5)),
        ({"size": [12, 9], "counts": COUNTS}, (2, 3, 7, 12)),
        ({"size": [12, 9], "counts": "k057004LL40e0"}, (2, 3, 7, 12)),
        ({"size": [4, 3], "counts": [3, 2, 7]}, (0, 0, 2, 4)),  # a run over the end of a column
    ],
)
def test_annotation_without_a_box_gets_the_one_around_its_segmentation(
    tmp_path: Path, segmentation: object, box: BoxPx
) -> None:
    content = deepcopy(GOOD)
    content["annotations"][0] = {"id": 1, "image_id": 5, "category_id": 9, "segmentation": segmentation}
    content["annotations"][1] = {"id": 2, "image_id": 5, "category_id": 9, "keypoints": [1, 2, 2]}
    read = read_coco(file := write(tmp_path, content), needs_images=False)
    assert [item.box for item in read.images["a"].objects] == [box]
    losses = {text: places for text, places in read.losses.items() if not text.startswith("files have")}
    assert losses == {
        "annotations without a box get the one around their segmentation": [f"{file}: annotation 1"],
        "annotations without a box are left out": [f"{file}: annotation 2"],
    }


@pytest.mark.parametrize(
    "segmentation",
    [
        *([1, 2, 3], [[]], [["x", 1]], "x", {"size": [3, 3]}, {"size": [0, 3], "counts": [0]}, {"counts": [9]}),
        *({"size": [3, 3], "counts": counts} for counts in ([9], [1, 2], [-1, 10], [1, 2**70], "\0", "o" * 20, [])),
    ],
)
def test_malformed_segmentation_is_a_fault(tmp_path: Path, segmentation: object) -> None:
    content = deepcopy(GOOD)
    content["annotations"][0] = {"id": 1, "image_id": 5, "category_id": 9, "segmentation": segmentation}
    with pytest.raises(DarkpyError, match="annotation 1 has no bbox, and a segmentation that is neither"):
        read_coco(write(tmp_path, content), needs_images=False)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "is not COCO's JSON"),
        ('{"images": [], "annotations": [], "categories": {}}', "is not COCO's JSON"),
        ('{"images": [1], "annotations": [], "categories": []}', "is not COCO's JSON"),
    ],
)
def test_other_files_are_not_cocos(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(DarkpyError, match=told):
        read_coco(write(tmp_path, text))


ODD = st.recursive(
    st.one_of(st.none(), st.booleans(), st.sampled_from([-1, 0, 7, 2**70, 10**400]), st.floats(), st.text(max_size=4)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "name", "bbox"]), inner),
    max_leaves=4,
)


@given(
    part=st.sampled_from([*GOOD]),
    number=st.integers(0, 1),
    key=st.text(max_size=3) | st.none(),
    odd=ODD,
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_odd_values_anywhere_are_read_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, part: str, number: int, key: str | None, odd: object, data: st.DataObject
) -> None:
    content = deepcopy(GOOD)
    entry = content[part][number]
    if key is None:
        content[part][number] = odd
    else:
        entry[data.draw(st.sampled_from([*entry, key]))] = odd
    file = write(tmp_path_factory.mktemp("coco"), content)
    try:
        read_coco(file, needs_images=False)
    except DarkpyError as error:
        assert error.message.startswith(f"{file}: ")
