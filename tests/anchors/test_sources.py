"""The boxes of data sets in all formats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from darkpy.anchors.sources import read_sizes
from darkpy.data.formats.voc import Corners
from darkpy.errors import DarkpyError

XML = """<annotation><size><width>100</width><height>50</height></size><object><name>cup</name><difficult>{}</difficult>
<bndbox><xmin>1</xmin><ymin>11</ymin><xmax>{}</xmax><ymax>31</ymax></bndbox></object></annotation>"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_labels() -> None:
    Path("set").mkdir()
    for name, text in (("a", "0 .5 .5 .5 .4\n1 .5 .5 0 .1\n"), ("b", "1 .5 .5 .2 1.5\n")):
        Path(f"set/{name}.jpg").touch()
        Path(f"set/{name}.txt").write_text(text)
    Path("set/train.list").write_text("set/a.jpg\nset/b.jpg\nset/c.jpg\n")
    Path("set/my.names").write_text("cat\ndog\n")
    Path("my.data").write_text("train=set/train.list\nvalid=set/train.list\nnames=set/my.names\n")


@pytest.mark.parametrize(("source", "lost"), [("my.data", 1), ("set/train.list", 1), ("set", 0)])
def test_labels_are_read_and_boxes_without_a_size_left_out(source: str, lost: int) -> None:
    write_labels()
    boxes = read_sizes(Path(source))
    assert boxes.sizes_N2.tolist() == [[0.5, 0.4]]
    assert boxes.classes == ({"cat": 1, "dog": 0} if source == "my.data" else {"0": 1})
    assert boxes.images == 2 and len(boxes.problems) == lost + 2


def test_voc_and_coco_are_read_without_their_images() -> None:
    for folder in ("voc/Annotations", "flat"):
        Path(folder).mkdir(parents=True)
        for name, end, difficult in (("a", 41, 0), ("b", 21, 1), ("c", 1, 0), ("d", 151, 0)):
            Path(f"{folder}/{name}.xml").write_text(XML.format(difficult, end))
    for folder in ("voc", "flat"):
        boxes = read_sizes(Path(folder))
        np.testing.assert_allclose(boxes.sizes_N2, [(0.4, 0.4), (1, 0.4)])  # the last one ends with its image
        assert boxes.classes == {"cup": 2} and boxes.problems == ["c: a box (cup) without a size"]
    np.testing.assert_allclose(read_sizes(Path("flat"), corners=Corners.VOC).sizes_N2[0], (0.41, 0.42))
    image = {"id": 7, "file_name": "a.jpg", "width": 100, "height": 50}
    box = {"image_id": 7, "category_id": 3, "bbox": [10, 10, 40, 20]}
    annotations = [{"id": 1, **box}, {"id": 2, **box, "iscrowd": 1}]
    coco = {"images": [image], "annotations": annotations, "categories": [{"id": 3, "name": "cup"}]}
    Path("coco.json").write_text(json.dumps(coco))
    assert read_sizes(Path("coco.json")).sizes_N2.tolist() == [[0.4, 0.4]]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("nowhere.data", r"nowhere\.data: cannot be read"),
        ("nowhere.txt", r"nowhere\.txt: cannot be read"),
        ("nowhere.json", r"nowhere\.json: cannot be read"),
        ("empty", "no image in this folder"),
        ("lost.txt", "a.jpg: file not found, nor is any other image of the list"),
        ("no.data", r"no\.data: has no train="),
    ],
)
def test_source_with_nothing_in_it_is_an_error(source: str, told: str) -> None:
    Path("empty").mkdir()
    Path("lost.txt").write_text("a.jpg\n")
    Path("no.data").write_text("classes=2\n")
    with pytest.raises(DarkpyError, match=told):
        read_sizes(Path(source))
