"""`darkpy dataset`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run, write_image

XML = """<annotation><size><width>64</width><height>32</height></size><object><name>{}</name>
<difficult>{}</difficult><bndbox><xmin>3</xmin><ymin>3</ymin><xmax>19</xmax><ymax>11</ymax></bndbox></object>
</annotation>"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_voc(count: int = 5) -> None:
    Path("voc").mkdir()
    for number in range(count):
        Path(f"voc/{number}.xml").write_text(XML.format(("cat", "dog")[number % 2], int(number == 1)))
        write_image(Path(f"voc/{number}.jpg"), 64, 32)


def test_voc_becomes_a_set_to_train_on(run: Run) -> None:
    write_voc()
    code, out, err = run("dataset", "from-voc", "voc", "pets", "--valid", ".4", "-seed", "2")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "pets: 5 images (train 3, valid 2)",
        "4 boxes: cat 3, dog 1",
        "1 difficult objects in separate label files",
        "pets/pets.data: train=train.txt, valid=valid.txt. Train with:",
        "  darkpy train CFG pets/pets.data",
    ]
    assert Path("pets/pictures/0.txt").read_text() == "0 0.15625 0.1875 0.25 0.25\n"


def test_yolo_set_is_converted_and_losses_are_warned_about(run: Run) -> None:
    Path("export/images").mkdir(parents=True)
    for name in ("a", "b"):
        write_image(Path(f"export/images/{name}.jpg"), 64, 32)
    Path("export/labels").mkdir()
    Path("export/labels/a.txt").write_text("0 .25 .25 .75 .25 .75 .75\n1 .5 .5 .25 .25\n")
    Path("export/data.yaml").write_text("train: images\nnames: [cat, dog]\n")
    code, out, err = run("dataset", "from-yolo", "export", "pets")
    assert code == 0 and out.splitlines()[:2] == ["pets: 2 images (train 2)", "2 boxes: cat 1, dog 1"]
    assert "polygons become the boxes around them" in err and "without a label file" in err
    assert Path("pets/pictures/a.txt").read_text() == "0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.25 0.25\n"
    assert Path("pets/pets.names").read_text() == "cat\ndog\n"


def test_set_becomes_voc_and_yolo_and_what_they_do_not_hold_is_said(run: Run) -> None:
    write_voc()
    assert run("dataset", "from-voc", "voc", "pets", "--difficult", "apart").code == 0
    Path("pets/pictures/0.jpg").unlink()
    code, out, err = run("dataset", "to-voc", "pets/pets.data", "back", "--corners", "voc")
    assert code == 0 and out == "back: 4 images, 4 boxes\n" and "cannot be read and are left out" in err
    xml = Path("back/Annotations/1.xml").read_text()
    assert "<name>dog</name><difficult>1</difficult>" in xml
    assert "<xmin>3</xmin><ymin>3</ymin><xmax>18</xmax><ymax>10</ymax>" in xml
    code, out, err = run("dataset", "to-yolo", "pets/pets.data", "yolo", "--copy")
    assert code == 0 and out == "yolo/data.yaml: 4 images, 4 boxes\n" and "1 difficult objects become ordinary" in err
    assert Path("yolo/data.yaml").read_text() == (
        'train: images/train\nval: images/val\nnames:\n  0: "cat"\n  1: "dog"\n'
    )
    assert run("dataset", "to-yolo", "pets/pets.data", "yolo").code == 2
    assert run("dataset", "to-yolo", "pets/pets.data", "yolo", "--force").code == 0


def test_names_tell_the_classes_and_their_order(run: Run) -> None:
    write_voc()
    Path("own.names").write_text("mouse\ncat\n")
    code, out, err = run("dataset", "from-voc", "voc", "pets", "--names", "own.names")
    assert code == 0 and "3 boxes: mouse 0, cat 3" in out
    assert err == "warning: 2 objects of class 'dog', which is not in the names, are left out\n"


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ("<annotation>", "voc/bad.xml:1: is not XML"),
        ('<!DOCTYPE a [<!ENTITY x "x">]><annotation/>', "voc/bad.xml: declares a document type"),
    ],
)
def test_bad_annotation_is_one_error_and_nothing_is_written(run: Run, bad: str, told: str) -> None:
    write_voc()
    Path("voc/bad.xml").write_text(bad)
    code, out, err = run("dataset", "from-voc", "voc", "pets")
    assert (code, out) == (2, "") and told in err and err.startswith("error: ") and err.count("error") == 1
    assert not Path("pets").exists()


def write_coco(names: str = "ab") -> list[str]:
    """train.json and val.json, each with an image; the one for validation shows a crowd, too."""
    files = []
    for name, split in zip(names, ("train", "val"), strict=False):
        Path("shots").mkdir(exist_ok=True)
        write_image(Path(f"shots/{name}.jpg"), 64, 32)
        box = {"image_id": 7, "category_id": 18, "bbox": [2, 2, 16, 8]}
        content = {
            "images": [{"id": 7, "file_name": f"{name}.jpg", "width": 64, "height": 32}],
            "annotations": [{"id": 1, **box}, {"id": 2, **box, "iscrowd": split == "val"}],
            "categories": [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}],
        }
        Path(f"{split}.json").write_text(json.dumps(content))
        files.append(f"{split}.json")
    return files


def test_coco_becomes_a_set_and_comes_back(run: Run) -> None:
    code, out, err = run("dataset", "from-coco", *write_coco(), "pets", "--images", "shots")
    assert (code, err) == (0, "")
    assert out.splitlines()[:3] == [
        "pets: 2 images (train 1, val 1)",
        "3 boxes: cat 0, dog 3",
        "1 difficult objects in separate label files",
    ]
    assert Path("pets/pictures/a.txt").read_text() == "1 0.15625 0.1875 0.25 0.25\n" * 2
    code, out, err = run("dataset", "to-coco", "pets/pets.data", "back")
    assert (code, err) == (0, "")
    assert out == "back/train.json: 1 images, 2 boxes\nback/valid.json: 1 images, 2 boxes\n"
    back = json.loads(Path("back/valid.json").read_text())
    assert [one["iscrowd"] for one in back["annotations"]] == [0, 1]
    assert back["annotations"][0]["bbox"] == [2, 2, 16, 8]
    code, out, err = run("dataset", "to-coco", "pets/pets.data", "back")
    assert code == 2 and "back/train.json: already exists" in err
    assert run("dataset", "to-coco", "pets/pets.data", "back", "--force").code == 0
    assert run("dataset", "to-coco", "pets/pictures", "one.json").out == "one.json: 2 images, 3 boxes\n"


def test_difficult_objects_of_every_list_come_back(run: Run) -> None:
    write_voc(6)
    for number in range(0, 6, 2):
        Path(f"voc/{number}.xml").write_text(XML.format("cat", 1))
    Path("voc/ImageSets/Main").mkdir(parents=True)
    for number, split in enumerate(("train", "val", "test")):
        Path(f"voc/ImageSets/Main/{split}.txt").write_text(f"{2 * number}\n{2 * number + 1}\n")
    assert "4 difficult objects in separate label files" in run("dataset", "from-voc", "voc", "pets").out
    assert run("dataset", "to-coco", "pets/pets.data", "out").code == 0
    files = [f"out/{key}.json" for key in ("train", "valid", "test")]
    crowds = [[one["iscrowd"] for one in json.loads(Path(file).read_text())["annotations"]] for file in files]
    assert crowds == [[1, 1], [1, 0], [1, 0]]
    assert (
        "4 difficult objects in separate label files"
        in run("dataset", "from-coco", *files, "back", "--images", "pets/pictures").out
    )
    for file in (*Path("pets/pictures").glob("*.txt"), *Path("pets/difficult").glob("*.txt")):
        assert Path("back", *file.parts[1:]).read_text() == file.read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("from-coco", "train.json", "copy.json", "pets", "--images", "shots"), "1 images are in another file too"),
        (("from-coco", "train.json", "pets", "--images", "voc"), "none of the annotated images exists"),
        (("from-coco", "bad.json", "pets"), "bad.json: is not JSON"),
        (("from-coco", "pets"), "missing argument"),
        (("to-coco", "shots", "out.json"), "no image of the list has labels"),
        (("to-coco", "nothing.data", "out"), "nothing.data: names no list of images"),
        (("from-voc", "nowhere", "pets"), "nowhere: holds no VOC annotations"),
        (("from-coco", "train.json", "raw", "--images", "shots"), "one of the darknets would not find labels"),
    ],
)
def test_mistake_is_one_message_and_nothing_is_written(run: Run, words: tuple[str, ...], told: str) -> None:
    write_coco()
    Path("bad.json").write_text("{")
    Path("copy.json").write_text(Path("train.json").read_text().replace("16, 8", "16, 9"))
    Path("nothing.data").write_text("classes=2\n")
    before = sorted(Path().rglob("*"))
    code, out, err = run("dataset", *words)
    assert code == 2 and told in err and out == "" and err.count("error: ") == 1
    assert sorted(Path().rglob("*")) == before


def test_files_of_other_classes_are_no_one_set(run: Run) -> None:
    write_coco()
    content = json.loads(Path("val.json").read_text())
    content["categories"][1]["name"] = "mouse"
    Path("val.json").write_text(json.dumps(content))
    code, _, err = run("dataset", "from-coco", "train.json", "val.json", "pets", "--images", "shots")
    assert code == 2 and "val.json: has other categories than train.json" in err


def test_dataset_starts_without_torch() -> None:
    write_voc()
    code = "import sys; from darkpy.__main__ import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    words = [sys.executable, "-c", code, "dataset", "from-voc", "voc", "pets"]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.endswith("0 False\n")
