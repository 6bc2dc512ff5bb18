"""Exports of Label Studio: JSON and JSON-MIN, addresses of images, several annotations, rotated and other regions."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from darkpy.data.formats.annotations import AnnotatedDataset
from darkpy.data.formats.labelstudio import read_labelstudio
from darkpy.errors import DarkpyError

W, H = 200, 100
RECTANGLE = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["cat"]}
BOX = (20, 20, 80, 60)


def region(value: dict[str, Any], *, kind: str = "rectanglelabels", **more: object) -> dict[str, Any]:
    size = {"original_width": W, "original_height": H, "image_rotation": 0}
    return {"value": value, "type": kind, "from_name": "label", "to_name": "image", **size, **more}


def task(*regions: dict[str, Any], image: str = "/data/upload/1/0a1b2c3d-a.jpg", **more: Any) -> dict[str, Any]:
    return {"id": 5, "data": {"image": image}, "annotations": [{"result": list(regions)}], "predictions": [], **more}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    (folder / "nested").mkdir(parents=True)
    for name in ("a.jpg", "nested/b c.jpg", "d.png"):
        PIL.Image.new("RGB", (W, H)).save(folder / name)
    return folder


def read(root: Path, *tasks: object) -> AnnotatedDataset:
    (root / "export.json").write_text(json.dumps(tasks))
    return read_labelstudio(root / "export.json")


def boxes(dataset: AnnotatedDataset, key: str = "a") -> list[tuple[str, tuple[float, ...]]]:
    return [(item.name, tuple(round(edge, 4) for edge in item.box)) for item in dataset.images[key].objects]


def test_rectangles_in_percent_become_pixels(root: Path) -> None:
    dataset = read(root, task(region(RECTANGLE)))
    assert boxes(dataset) == [("cat", BOX)] and not dataset.losses
    assert (dataset.images["a"].w, dataset.images["a"].h) == (W, H)
    value = {**RECTANGLE, "original_width": W, "original_height": H}
    record = {"image": "/data/upload/0a1b2c3d-a.jpg", "id": 5, "label": [value], "annotator": 1, "annotation_id": 2}
    assert read(root, record).images == dataset.images
    (root / "export.json").write_text(json.dumps(task(region(RECTANGLE))))  # a single task
    assert read_labelstudio(root / "export.json").images == dataset.images


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("/data/upload/1/0a1b2c3d-a.jpg", "a"),
        ("/data/upload/0a1b2c3d-a.jpg", "a"),
        ("http://localhost:8080/data/upload/1/a.jpg", "a"),
        ("/data/local-files/?d=nested/b%20c.jpg", "b c"),
        ("/data/local-files/?d=some/where/b+c.jpg", "b c"),
        ("/data/local-files/?d=C%3A%5Cimg%5Cb%20c.jpg", "b c"),
        ("s3://bucket/folder/nested/b c.jpg", "b c"),
        ("https://bucket.example/d.png?X-Amz-Expires=3600&X-Amz-Signature=0", "d"),
        ("d.png", "d"),
        ("/files/d", "d"),
    ],
)
def test_image_is_found_by_its_address(root: Path, address: str, key: str) -> None:
    assert boxes(read(root, task(region(RECTANGLE), image=address)), key) == [("cat", BOX)]


@pytest.mark.parametrize(
    "address", ["../../secret.jpg", "file:///etc/secret.jpg", "/data/local-files/?d=../secret.jpg"]
)
def test_address_leads_to_no_file_outside_the_folder(root: Path, address: str) -> None:
    PIL.Image.new("RGB", (W, H)).save(root.parent / "secret.jpg")
    assert read(root, task(image=address)).missing == (address,)


TURNED = {**RECTANGLE, "rotation": 90}  # clockwise around its upper left corner, in pixels: 60 x 40 become 40 x 60


@pytest.mark.parametrize(
    ("value", "box"),
    [
        (TURNED, (-20, 20, 20, 80)),
        ({**RECTANGLE, "rotation": 180}, (-40, -20, 20, 20)),
        ({**RECTANGLE, "rotation": 45}, (20 - 40 * 0.5**0.5, 20, 20 + 60 * 0.5**0.5, 20 + 100 * 0.5**0.5)),
        ({"points": [[10, 10], [30, 50], [20, 5]], "polygonlabels": ["cat"]}, (20, 5, 60, 50)),
        ({"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "rotation": 0, "ellipselabels": ["cat"]}, (80, 30, 120, 70)),
        ({"x": 50, "y": 50, "radiusX": 5, "radiusY": 20, "rotation": 90, "ellipselabels": ["cat"]}, (80, 40, 120, 60)),
    ],
)
def test_other_regions_become_the_boxes_around_them(root: Path, value: dict[str, Any], box: Sequence[float]) -> None:
    dataset = read(root, task(region(value)))
    ((name, edges),) = boxes(dataset)
    assert name == "cat" and edges == pytest.approx(tuple(box), abs=1e-3)
    assert [len(places) for places in dataset.losses.values()] == [1]


def bits(value: int, count: int) -> str:
    return format(value, f"0{count}b")


def encoded(alpha: Sequence[int]) -> list[int]:
    """Encode a mask: RGBA of each pixel, every second run of equal alphas written out instead of repeated."""
    values = [value for pixel in alpha for value in (0, 0, 0, pixel)]
    text = bits(len(values), 32) + bits(7, 5) + "".join(bits(size - 1, 4) for size in (3, 4, 8, 16))
    start = 0
    while start < len(values):
        if values[start : start + 2] == [255, 255]:
            raise AssertionError
        length = min(len(values) - start, 7 if start % 3 else 200)
        run = values[start : start + length]
        repeated = len(set(run)) == 1
        text += ("1" if repeated else "0") + ("11" + bits(length - 1, 16))
        text += bits(run[0], 8) if repeated else "".join(bits(value, 8) for value in run)
        start += length
    text += "0" * (-len(text) % 8)
    return [int(text[index : index + 8], 2) for index in range(0, len(text), 8)]


def test_brush_masks_become_the_boxes_around_them(root: Path) -> None:
    alpha = [0] * (W * H)
    for row in range(30, 44):
        alpha[row * W + 17 : row * W + 120] = [200] * 103
    alpha[29 * W + 60] = 1
    value = {"format": "rle", "rle": encoded(alpha), "brushlabels": ["cat"]}
    assert boxes(read(root, task(region(value)))) == [("cat", (17, 29, 120, 44))]
    empty = read(root, task(region({**value, "rle": encoded([0] * (W * H))})))
    assert boxes(empty) == [] and "regions without a size" in next(iter(empty.losses))
    for rle, message in (
        (value["rle"][:20], "the mask ends early"),
        ([1] * 9, "not of 200 x 100"),
        ("x", "list of bytes"),
    ):
        with pytest.raises(DarkpyError, match=f"task 5: region 1: .*{message}"):
            read(root, task(region({**value, "rle": rle})))


def test_ground_truth_counts_else_the_latest_annotation(root: Path) -> None:
    entries = [
        {"result": [region({**RECTANGLE, "rectanglelabels": [name]})], "updated_at": time, "was_cancelled": name == "d"}
        for name, time in (("a", "2026-01-02T00:00:00Z"), ("b", "2026-01-03T00:00:00Z"), ("c", "2026-01-01T00:00:00Z"))
    ]
    cancelled = {"result": [], "updated_at": "2026-02-01T00:00:00Z", "was_cancelled": True}
    dataset = read(root, {**task(), "annotations": [*entries, cancelled]})
    assert boxes(dataset) == [("b", BOX)] and "several annotations" in next(iter(dataset.losses))
    entries[2]["ground_truth"] = True
    assert boxes(read(root, {**task(), "annotations": entries})) == [("c", BOX)]
    records = [{"image": "a.jpg", "label": [RECTANGLE], "updated_at": "1"}, {"image": "a.jpg", "updated_at": "2"}]
    assert boxes(read(root, *records)) == []


def test_skipped_and_unannotated_tasks_are_left_out_and_empty_annotations_are_not(root: Path) -> None:
    skipped = {**task(image="d.png"), "annotations": [{"result": [], "was_cancelled": True}]}
    predicted = {**task(image="b c.jpg"), "annotations": [], "predictions": [{"result": [region(RECTANGLE)]}]}
    old = {"id": 1, "data": {"img": "a.jpg"}, "completions": [{"result": [], "created_at": 1600000000}]}
    dataset = read(root, skipped, predicted, old)
    assert list(dataset.images) == ["a"] and boxes(dataset) == []
    assert [text.split(" ")[:3] for text in dataset.losses] == [["tasks", "that", "were"], ["tasks", "without", "an"]]


def test_shape_and_labels_of_one_id_are_a_region_and_others_are_said(root: Path) -> None:
    shape = {key: value for key, value in RECTANGLE.items() if key != "rectanglelabels"}
    pair = [region(shape, id="x", kind="rectangle"), region({**shape, "labels": ["cat", "pet"]}, id="x", kind="labels")]
    others = [
        region({"x": 1, "y": 2, "width": 0.5, "keypointlabels": ["nose"]}, id="k"),
        region({"choices": ["night"]}, id="c"),
        region(shape, id="none"),
        {"type": "relation", "from_id": "x", "to_id": "k"},
    ]
    dataset = read(root, task(*pair, *others))
    assert boxes(dataset) == [("cat", BOX), ("pet", BOX)]
    assert sorted(len(places) for places in dataset.losses.values()) == [1, 1, 3]


def test_several_images_of_a_task_have_their_own_regions(root: Path) -> None:
    regions = [region(RECTANGLE, item_index=1), region({**RECTANGLE, "rectanglelabels": ["dog"]}, item_index=0)]
    dataset = read(root, {**task(*regions), "data": {"images": ["a.jpg", "d.png"]}})
    assert boxes(dataset) == [("dog", BOX)] and boxes(dataset, "d") == [("cat", BOX)]


def test_size_that_is_missing_is_the_images(root: Path) -> None:
    bare = {"value": RECTANGLE, "type": "rectanglelabels"}
    assert boxes(read(root, task(bare))) == [("cat", BOX)]
    assert boxes(read(root, task({**bare, "original_width": 0, "original_height": None}))) == [("cat", BOX)]


@pytest.mark.parametrize(
    ("size", "box"), [((H, W), (10, 40, 40, 120)), ((W, H), (40, 20, 80, 80)), ((0, 0), (10, 40, 40, 120))]
)
def test_boxes_are_of_the_image_as_exif_turns_it(root: Path, size: tuple[int, int], box: tuple[int, ...]) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turned clockwise: 200 x 100 pixels are shown as 100 x 200
    PIL.Image.new("RGB", (W, H)).save(root / "a.jpg", exif=exif)
    turned = {**region(RECTANGLE), "original_width": size[0], "original_height": size[1]}
    dataset = read(root, task(turned))
    assert (dataset.images["a"].w, dataset.images["a"].h) == (H, W) and boxes(dataset) == [("cat", box)]


def test_faults_of_all_tasks_are_one_error(root: Path) -> None:
    wrong = [
        task(region({**RECTANGLE, "x": "1"}), region({**RECTANGLE, "width": math.nan})),
        task(region({"points": [[1]], "polygonlabels": ["cat"]}), image="d.png"),
        {"id": 7, "data": {"text": "words"}, "annotations": []},
        {"id": 8, "data": {"image": "b c.jpg"}, "annotations": [{"result": "none"}]},
    ]
    with pytest.raises(DarkpyError) as info:
        read(root, *wrong)
    lines = [line.partition("export.json: ")[2] for line in info.value.message.splitlines()]
    assert lines == [
        "task 7: names no image",
        "task 8: an annotation has the result 'none'",
        "task 5: region 1: its x, y, width, height are not four numbers",
        "task 5: region 2: its x, y, width, height are not four numbers",
        "task 5: region 1: its points are [[1]]",
    ]


@pytest.mark.parametrize("text", ["[]", "7", '["a"]', "{", '{"images": []}'])
def test_other_files_are_not_exports(root: Path, text: str) -> None:
    (root / "x.json").write_text(text)
    with pytest.raises(DarkpyError, match=r"export|is not JSON|names no image"):
        read_labelstudio(root / "x.json")
