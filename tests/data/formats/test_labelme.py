"""LabelMe's JSON: shapes become boxes, images are found or are in the file."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from darkpy.__main__ import main
from darkpy.data.formats.annotations import AnnotatedDataset, BoxPx, EmbeddedImage
from darkpy.data.formats.labelme import read_labelme
from darkpy.errors import DarkpyError

MASK = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAAAAADhFlsJAAAAC0lEQVR4nGNkYAQAAAYAAmuvtPcAAAAASUVORK5CYII="


def shape(*points: tuple[float, float], kind: str | None = "rectangle", name: str = "cat", **more: object) -> Any:
    return {"label": name, "points": list(map(list, points)), "shape_type": kind, **more}


def png(w: int, h: int, **options: Any) -> bytes:
    stream = io.BytesIO()
    PIL.Image.new("RGB", (w, h)).save(stream, options.pop("format", "PNG"), **options)
    return stream.getvalue()


def put(
    file: Path, *shapes: object, image: str | None = "a.png", size: tuple[int, int] | None = (40, 20), **more: Any
) -> None:
    """Write a file of the current version, and its image of 40 x 20 pixels unless `image` leads nowhere."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": image, "imageData": None, **more}
    if size:
        content |= {"imageWidth": size[0], "imageHeight": size[1]}
    file.write_text(json.dumps(content))


def objects(dataset: AnnotatedDataset) -> dict[str, list[tuple[str, BoxPx]]]:
    return {key: [(item.name, item.box) for item in image.objects] for key, image in dataset.images.items()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "a.png").write_bytes(png(40, 20))
    return folder


@pytest.mark.parametrize(
    ("item", "box", "is_changed"),
    [
        (shape((30, 15), (10, 5)), (10, 5, 30, 15), False),
        (shape((10, 5), (30, 5), (30, 15), (10, 15)), (10, 5, 30, 15), False),
        (shape((10, 5), (30, 5), (20, 15), kind=None), (10, 5, 30, 15), True),  # of a first version: a polygon
        (shape((10, 5), (30, 15), (20, 2), kind="polygon"), (10, 2, 30, 15), True),
        (shape((20, 10), (23, 14), kind="circle"), (15, 5, 25, 15), True),
        (shape((20, 5), (25, 10), (20, 15), (15, 10), kind="oriented_rectangle"), (15, 5, 25, 15), True),
        (shape((1, 2), (3, 9), (5, 1), kind="linestrip"), (1, 1, 5, 9), True),
        (shape((10, 5), (11, 5), kind="mask", mask=MASK), (10, 5, 12, 6), True),
    ],
)
def test_shapes_become_the_boxes_around_them(root: Path, item: object, box: BoxPx, is_changed: bool) -> None:
    put(root / "a.json", item)
    dataset = read_labelme(root)
    assert objects(dataset) == {"a": [("cat", box)]} and bool(dataset.losses) == is_changed


def test_groups_are_one_object_and_what_is_lost_is_said(root: Path) -> None:
    group = [shape((1, 1), (5, 5), group_id=7), shape((11, 3), (15, 9), group_id=7)]
    others = [shape((2, 2), (3, 3), name="dog", group_id=7), shape((4, 4), (6, 6), difficult=True, flags={"old": True})]
    points = [shape((1, 1), kind="point"), shape((1, 1), (2, 2), kind="points")]
    put(root / "a.json", *group, *others, *points, flags={"blurred": True, "night": False})
    dataset = read_labelme(root)
    boxes = [("cat", (1, 1, 15, 9)), ("dog", (2, 2, 3, 3)), ("cat", (4, 4, 6, 6))]
    assert objects(dataset) == {"a": boxes}
    assert [item.is_difficult for item in dataset.images["a"].objects] == [False, False, True]
    assert sorted(len(places) for places in dataset.losses.values()) == [1, 1, 1, 2]


@pytest.mark.parametrize(
    "path", ["../shots/b c.png", "..\\shots\\b c.png", "C:\\Users\\me\\shots\\b c.png", "/home/me/b c.png"]
)
def test_image_is_found_by_the_end_of_its_path(root: Path, path: str) -> None:
    (root / "shots").mkdir()
    (root / "shots/b c.png").write_bytes(png(40, 20))
    put(root / "json/b.json", shape((1, 2), (3, 4)), image=path)
    assert objects(read_labelme(root / "json", root)) == {"b c": [("cat", (1, 2, 3, 4))]}
    if ".." in path:
        assert list(read_labelme(root).images) == ["b c"]


def test_image_in_the_file_is_written_and_gives_its_size(root: Path) -> None:
    data = base64.b64encode(png(40, 20)).decode()
    put(root / "b.json", shape((10, 5), (30, 15)), image="lost.bmp", size=None, imageData=data)
    jpeg = base64.b64encode(png(40, 20, format="JPEG")).decode()
    put(root / "c.json", image="other/lost.tif", imageData=jpeg)
    dataset = read_labelme(root)
    assert objects(dataset) == {"b": [("cat", (10, 5, 30, 15))], "c": []} and not dataset.losses
    assert isinstance(dataset.images["b"].file, EmbeddedImage)
    out = root.parent / "out"
    assert main(["dataset", "from-labelme", str(root), str(out)]) == 0
    assert (out / "pictures/b.png").read_bytes() == png(40, 20) and PIL.Image.open(out / "pictures/c.jpg").size == (
        40,
        20,
    )
    assert (out / "pictures/b.txt").read_text() == "0 0.5 0.5 0.5 0.5\n"


def test_faults_of_all_files_are_one_error(root: Path) -> None:
    put(root / "a.json", shape((1, 2), (3, 4)))
    put(root / "b.json", shape((1, 2), (3, 4)))  # of the same image
    put(root / "c.json", shape((1, 2), (3, 4), name=""), shape(), shape((1, "x")), 7, image="lost.png")  # type: ignore[arg-type]
    (root / "d.json").write_text("{")
    put(root / "e.json", image="lost.png", imageData="###")
    (root / "settings.json").write_text("{}")
    with pytest.raises(DarkpyError) as info:
        read_labelme(root)
    faults = [line.removeprefix(f"{root}/") for line in info.value.message.splitlines()]
    assert [fault.partition(":")[0] for fault in faults] == ["b.json", *["c.json"] * 4, "d.json", "e.json"]
    assert "is also that of" in faults[0] and "label ''" in faults[1] and "shape 4 is 7" in faults[4]
    assert "imageData is not an image" in faults[6]


def test_files_without_shapes_are_not_labelmes(root: Path) -> None:
    (root / "coco.json").write_text('{"images": []}')
    with pytest.raises(DarkpyError, match="is not LabelMe's JSON: no file has shapes"):
        read_labelme(root)
    put(root / "a.json")
    assert list(read_labelme(root).images) == ["a"] and len(read_labelme(root).losses) == 1


def test_file_that_names_itself_is_of_the_image_in_it_or_with_its_name(root: Path) -> None:
    put(root / "a.json", image="a.json")
    put(root / "b.json", image="b.json", imageData=base64.b64encode(png(40, 20)).decode())
    assert list(read_labelme(root).images) == ["a", "b"]


def test_path_leads_to_no_file_outside_the_folders(root: Path) -> None:
    secret = root.parent.parent / "secret.png"
    secret.write_bytes(png(40, 20))
    for path in ("../../secret.png", str(secret), "../../../../etc/passwd", "\0"):
        put(root / "z.json", image=path)
        assert read_labelme(root).missing == (str(root / "z.json"),)
    secret.unlink()
