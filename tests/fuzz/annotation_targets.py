"""Readers of annotation tools' files, each with sound files of a small project."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from darkpy.data.formats.annotations import AnnotatedDataset
from darkpy.data.formats.darknet_writer import ImportStats, label_texts
from darkpy.data.formats.kitti import read_kitti
from darkpy.data.formats.labelme import read_labelme
from darkpy.data.formats.labelstudio import read_labelstudio
from darkpy.data.formats.openimages import read_openimages
from tests.fuzz.harness import Target

SHAPES = [
    {"label": "cat", "points": [[1, 2], [20, 30]], "shape_type": "rectangle", "group_id": None, "flags": {"old": True}},
    {"label": "dog", "points": [[9, 9], [4, 4]], "shape_type": "circle", "group_id": 1, "difficult": True},
    {"label": "dog", "points": [[1, 2], [3, 4], [5, 1]], "shape_type": "mask", "group_id": 1, "mask": "iVBORw0KGgo="},
]
LABELME = {
    "version": "5.5.0",
    "flags": {},
    "shapes": SHAPES,
    "imagePath": "p0.png",
    "imageWidth": 32,
    "imageHeight": 32,
}
VALUES = [
    {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 30, "rectanglelabels": ["cat"]},
    {"x": 50, "y": 50, "radiusX": 5, "radiusY": 20, "rotation": 90, "ellipselabels": ["cat", "dog"]},
    {"points": [[10, 10], [30, 50], [20, 5]], "polygonlabels": ["dog"]},
    {"format": "rle", "rle": [0, 0, 16, 0, 57, 27, 191, 255, 255], "brushlabels": ["dog"]},
]
RESULT = [
    {"id": f"r{index}", "type": "x", "value": value, "original_width": 32, "original_height": 32, "item_index": 0}
    for index, value in enumerate(VALUES)
]
TASKS = [
    {
        "id": 1,
        "data": {"image": "/data/upload/1/0a1b2c3d-p0.png"},
        "annotations": [{"result": RESULT, "updated_at": "1"}],
    },
    {"id": 2, "data": {"image": "/data/local-files/?d=p0.png"}, "annotations": [{"result": [], "was_cancelled": True}]},
]
RECORDS = [{"id": 1, "image": "p0.png", "label": VALUES, "annotation_id": 1, "updated_at": "1"}]
KITTI = (
    b"Car 0.00 0 -1.59 10 5 30 15 1.36 1.69 3.38 0.28 2.08 17.74 -1.58\n"
    b"DontCare -1 -1 -10 3 1 9 7 -1 -1 -1 -1 -1 -1 -1\n"
)
OPENIMAGES = (
    b"ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
    b"p0,xclick,/m/01yrx,1,0.25,0.75,0.25,0.5,0,1,1,0,0\n"
)


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


def checked(read: Callable[[Path], AnnotatedDataset]) -> Callable[[Path], None]:
    """Read files, and convert what they hold to labels."""

    def convert(folder: Path) -> None:
        dataset = read(folder)
        label_texts(dataset, dataset.class_names(), ImportStats(), difficult="apart")

    return convert


def annotation_targets(project: Mapping[str, bytes]) -> dict[str, Callable[[Path], Target]]:
    """Return a target for each reader. project: files that lie beside the damaged ones, the image p0.png among them."""
    embedded = {**LABELME, "imagePath": "lost.png", "imageData": base64.b64encode(project["p0.png"]).decode()}
    readers: dict[str, tuple[str, dict[str, list[bytes]], Callable[[Path], AnnotatedDataset]]] = {
        "labelme": ("json", {"a.json": [as_json(LABELME), as_json(embedded)]}, read_labelme),
        "labelstudio": (
            "json",
            {"export.json": [as_json(TASKS), as_json(RECORDS)]},
            lambda folder: read_labelstudio(folder / "export.json"),
        ),
        "kitti": ("text", {"p0.txt": [KITTI]}, read_kitti),
        "openimages": (
            "text",
            {"boxes.csv": [OPENIMAGES], "class-descriptions.csv": [b"/m/01yrx,Cat\n"]},
            lambda folder: read_openimages([folder / "boxes.csv"]),
        ),
    }
    images = {name: data for name, data in project.items() if name.endswith(".png")}

    def target(name: str) -> Callable[[Path], Target]:
        kinds, files, read = readers[name]
        return lambda _: Target(
            name=name, files=files, fixed=images, kinds=kinds, read=checked(read), quick=25, thorough=4_000
        )

    return {name: target(name) for name in readers}
