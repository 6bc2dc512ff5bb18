"""YOLO data sets of other programs: data.yaml, exports, bare folders."""

from __future__ import annotations

from pathlib import Path

import PIL.Image
import pytest

from darkpy.data.formats.annotations import AnnotatedDataset, BoxPx, ImportReport
from darkpy.data.formats.darknet_reader import read_darknet
from darkpy.data.formats.data_yaml import read_data_yaml
from darkpy.data.formats.yolo_reader import read_yolo
from darkpy.errors import DarkpyError, DarkpyWarning

BOX = "0 .5 .5 .25 .5\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder whose path has no word that a label rule replaces."""
    folder = tmp_path / "data_set"
    folder.mkdir()
    return folder


def put(root: Path, **files: str) -> None:
    """Write texts, and images (of 40 x 20 pixels) for the empty ones, by path with `__` for `/` and `_dot_`."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".jpg", ".png"):
            PIL.Image.new("RGB", (40, 20)).save(path)
        else:
            path.write_text(text)


def boxes(dataset: AnnotatedDataset) -> dict[str, list[tuple[str, BoxPx]]]:
    return {key: [(item.name, item.box) for item in image.objects] for key, image in dataset.images.items()}


CENTER = BoxPx(15, 5, 25, 15)


@pytest.mark.parametrize(
    "names",
    [
        "names: [cat, 'black dog']",
        "names:\n  0: cat\n  1: black dog",
        'names:\n- cat\n- "black dog" # of the neighbour',
        "names: {1: black dog, 0: cat}",
        "names: ['cat',\n        'black dog',\n]",
    ],
)
def test_names_are_read_in_each_spelling(root: Path, names: str) -> None:
    put(root, data_dot_yaml=f"# a set\ntrain: images/train\n{names}\nnc: 2\ndownload: |\n  import os\n")
    content = read_data_yaml(root / "data.yaml", ImportReport())
    assert content.names == ("cat", "black dog") and content.splits == {"train": ["images/train"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [cat, [dog]]", ":1: names: has brackets within brackets"),
        ("names: [cat, dog", ":1: names: \\[ is not closed"),
        ("names: &all [cat]", ":1: names: '&all \\[cat\\]' uses more of YAML"),
        ("names:\n  0: cat\n  2: dog", ":1: names: has no class 1"),
        ("names:\n  cat: 0", "not the numbers of classes"),
        (f"names: {{{'9' * 5000}: cat}}", "not the numbers of classes"),
        ("names:\n  0:\n    cat", "nested"),
        ("names: [cat, cat]", "two classes are 'cat'"),
        ("names: [cat]\nnc: 3", ":2: nc: is 3, and names: has 1 classes"),
        ("nc: many", ":1: nc: 'many' is not a number"),
        ("train: {0: a}", ":1: train: is not a path"),
        ("train: a\ntrain: b", ":2: train: was given before, on line 1"),
        ("just words", ":1: 'just words' is not `key: value`"),
    ],
)
def test_yaml_beyond_what_data_sets_need_is_an_error_with_its_line(root: Path, text: str, message: str) -> None:
    put(root, data_dot_yaml=text)
    report = ImportReport()
    read_data_yaml(root / "data.yaml", report)
    assert len(report.faults) == 1
    with pytest.raises(DarkpyError, match=message):
        report.check("")


def test_all_faults_of_a_yaml_and_of_the_labels_that_it_leads_to_are_one_error(root: Path) -> None:
    yaml = "train: .\nval: nowhere\nnames:\n  0: &a cat\n  1: 'dog\n  mouse\n  1: hen\nnc: many\njust words\ntrain: b\n"
    put(root, data_dot_yaml=yaml, a_dot_jpg="", a_dot_txt="0 .5 .5\n7 .5 .5 .2 .2\n")
    with pytest.raises(DarkpyError) as info:
        read_yolo(root / "data.yaml")
    faults = [line.removeprefix(f"{root}/").partition(": ") for line in info.value.message.splitlines()]
    assert [(place, text[:28]) for place, _, text in faults] == [
        ("data.yaml:9", "'just words' is not `key: va"),
        ("data.yaml:10", "train: was given before, on "),
        ("data.yaml:4", "names: '&a cat' uses more of"),
        ("data.yaml:5", 'names: "\'dog" is not one quo'),
        ("data.yaml:6", "names: 'mouse' is neither `-"),
        ("data.yaml:7", "names: has '1' twice"),
        ("data.yaml:8", "nc: 'many' is not a number o"),
        ("data.yaml", "val: nowhere does not exist;"),
        ("a.txt:1", "3 numbers, where a box has 5"),
    ]


def test_ultralytics_layout_has_splits_names_and_boxes(root: Path) -> None:
    yaml = "path: coco8 # dataset root dir\ntrain: images/train\nval: images/val\ntest:\nnames:\n  0: cat\n  1: dog\n"
    put(root, data_dot_yaml=yaml, images__train__a_dot_jpg="", images__val__b_dot_png="", images__val__c_dot_png="")
    put(root, labels__train__a_dot_txt=BOX, labels__val__b_dot_txt="1 .5 .5 1 1\n")
    dataset = read_yolo(root / "data.yaml")
    assert dataset.splits == {"train": ["a"], "val": ["b", "c"]} and dataset.names == ("cat", "dog")
    assert boxes(dataset) == {"a": [("cat", CENTER)], "b": [("dog", BoxPx(0, 0, 40, 20))], "c": []}
    assert [len(places) for places in dataset.losses.values()] == [2, 1]  # both folders found elsewhere, c unlabelled
    assert read_yolo(root).images == dataset.images


def test_roboflow_names_its_folders_with_dots_and_all_images_alike(root: Path) -> None:
    yaml = "train: ../train/images\nval: ../valid/images\n\nnc: 1\nnames: ['cat']\n\nroboflow:\n  version: 1\n"
    put(root, data_dot_yaml=yaml, train__images__a_dot_jpg="", valid__images__a_dot_jpg="")
    put(root, train__labels__a_dot_txt=BOX, valid__labels__a_dot_txt="")
    dataset = read_yolo(root)
    assert dataset.splits == {"train": ["train_a"], "val": ["valid_a"]}
    assert boxes(dataset) == {"train_a": [("cat", CENTER)], "valid_a": []}


def test_roboflow_for_darknet_puts_its_names_into_each_split(root: Path) -> None:
    for split in ("train", "valid"):
        put(root / split, a_dot_jpg="", a_dot_txt=BOX)
        (root / split / "_darknet.labels").write_text("cat\n")
    dataset = read_yolo(root)
    assert dataset.splits == {"train": ["train_a"], "valid": ["valid_a"]} and dataset.names == ("cat",)


def test_cvat_lists_paths_relative_to_its_yaml_or_data_file(root: Path) -> None:
    put(root, new__data_dot_yaml="path: ./\ntrain: train.txt\nnames:\n  0: cat\n")
    put(root, new__train_dot_txt="images/train/a.jpg\n", new__images__train__a_dot_jpg="")
    put(root, new__labels__train__a_dot_txt=BOX)
    put(root, old__obj_dot_data="classes = 1\ntrain = train.txt\nnames = obj.names\n", old__obj_dot_names="cat\n")
    put(root, old__train_dot_txt="obj_train_data/a.jpg\n", old__obj_train_data__a_dot_jpg="")
    put(root, old__obj_train_data__a_dot_txt=BOX)
    for folder in ("new", "old"):
        assert boxes(read_yolo(root / folder)) == {"a": [("cat", CENTER)]}


def test_cvat_names_a_data_folder_that_its_exports_do_not_have(root: Path) -> None:
    put(root, obj_dot_data="classes = 1\ntrain = data/train.txt\nnames = data/obj.names\n", obj_dot_names="cat\n")
    put(root, train_dot_txt="data/obj_train_data/a.jpg\n", obj_train_data__a_dot_jpg="", obj_train_data__a_dot_txt=BOX)
    with pytest.warns(
        DarkpyWarning, match=r"train=data/train.txt is not on this computer; .*/data_set/train.txt is read"
    ):
        dataset = read_yolo(root)
    assert boxes(dataset) == {"a": [("cat", CENTER)]}
    with pytest.warns(DarkpyWarning, match="is read"):
        assert boxes(read_darknet(root / "obj.data")) == boxes(dataset)


def test_bare_folder_needs_no_list_and_may_have_names_and_splits(root: Path) -> None:
    put(root, a_dot_jpg="", a_dot_txt=BOX, sub__b_dot_jpg="", sub__b_dot_txt="0 .5 .5 1 1")
    assert read_yolo(root).names == ("0",) and read_yolo(root).splits == {}
    assert boxes(read_yolo(root, ["cat"]))["a"] == [("cat", CENTER)]
    put(root, classes_dot_txt="mouse\n", train_dot_txt="a.jpg\n", val_dot_txt="sub/b.jpg\nlost.jpg\n")
    dataset = read_yolo(root, ["cat"])
    assert dataset.names == ("mouse",) and dataset.splits == {"train": ["a"], "val": ["b"]}
    assert len(dataset.missing) == 1


def test_polygons_become_boxes_and_what_is_lost_is_said(root: Path) -> None:
    put(root, a_dot_jpg="", a_dot_txt="0 .375 .25 .625 .25 .625 .75\n0 .375 .25 .625 .25 .625 .75 .375 .75\n" + BOX)
    put(root, b_dot_jpg="", b_dot_txt="0 .5 .5 .25 .5 .9\n")
    dataset = read_yolo(root)
    assert boxes(dataset) == {"a": [("0", CENTER)] * 3, "b": [("0", CENTER)]}
    assert sorted(len(places) for places in dataset.losses.values()) == [1, 2]
    put(root, data_dot_yaml="train: .\nkpt_shape: [2, 2]\nnc: 1\n", a_dot_txt="0 .5 .5 .25 .5 .1 .1 .2 .2\n")
    dataset = read_yolo(root)
    assert boxes(dataset)["a"] == [("0", CENTER)] and "objects lose their key points" in dataset.losses


@pytest.mark.parametrize("entry", ["/", "/.", "//", "/usr/.."])
def test_whole_file_system_is_not_searched_for_images(root: Path, entry: str) -> None:
    put(root, data_dot_yaml=f"train: {entry}\nnames: [cat]\n")
    with pytest.raises(DarkpyError, match="is the root of the file system"):
        read_yolo(root / "data.yaml")


def test_faults_of_all_label_files_are_one_error(root: Path) -> None:
    put(root, data_dot_yaml="train: .\nnames: [cat]\n", a_dot_jpg="", b_dot_jpg="", c_dot_jpg="")
    put(root, a_dot_txt="0 .5 .5\n0 x .5 .5 .5\n", b_dot_txt="1 .5 .5 .5 .5\n0 20 10 8 8\n0 nan .5 .5 .5\n")
    (root / "c.jpg").write_text("no image")
    with pytest.raises(DarkpyError) as info:
        read_yolo(root / "data.yaml")
    assert [line.removeprefix(f"{root}/") for line in info.value.message.splitlines()[:5]] == [
        "a.txt:1: 3 numbers, where a box has 5 and a polygon an odd number from 7",
        "a.txt:2: '0 x .5 .5 .5' is not numbers",
        "b.txt:1: class 1 is not from 0 to 0",
        "b.txt:2: 20 is not a fraction of the image",
        "b.txt:3: nan is not a fraction of the image",
    ]
    assert info.value.message.count("\n") == 5 and "c.jpg" in info.value.message.splitlines()[5]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"data_dot_yaml": "train: nowhere\nval: too\nnames: [a]"}, "(?s)train: nowhere does not exist.*val: too does"),
        ({"data_dot_yaml": "names: [a]"}, "names no images"),
        ({"a_dot_txt": BOX}, "no image in this folder"),
        ({"a_dot_jpg": ""}, "no image has labels; those of the first"),
        ({"train_dot_txt": "lost.jpg\n"}, "none of its 1 images exists"),
        ({"a_dot_yaml": "", "b_dot_yaml": ""}, "has a.yaml and b.yaml"),
    ],
)
def test_source_without_images_or_labels_is_an_error(root: Path, files: dict[str, str], message: str) -> None:
    put(root, **files)
    with pytest.raises(DarkpyError, match=message):
        read_yolo(root)
