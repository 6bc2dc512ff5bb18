"""Open Images' CSV."""

from __future__ import annotations

from pathlib import Path

import PIL.Image
import pytest

from darkpy.data.formats.annotations import BoxPx
from darkpy.data.formats.openimages import read_openimages
from darkpy.errors import DarkpyError

HEADER = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
ROWS = (
    "0a,xclick,/m/01yrx,1,0.25,0.75,0.25,0.5,0,1,0,0,0",
    "0a,xclick,/m/0bt9lr,1,0,1,0,1,-1,0,1,0,0",
    "ff,xclick,/m/0bt9lr,1,0,0.5,0,0.5,0,0,0,0,0",
    "0b,xclick,/m/0bt9lr,1,0,0.5,0,0.5,0,0,0,0,0",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "oi"
    (folder / "photos").mkdir(parents=True)
    for name in ("0a", "0b", "0c"):
        PIL.Image.new("RGB", (40, 20)).save(folder / f"photos/{name}.jpg")
    put(folder / "train-annotations-bbox.csv", *ROWS)
    (folder / "class-descriptions-boxable.csv").write_text('/m/0bt9lr,Dog\n/m/01yrx,"Cat, small"\n/m/0cmf2,Airplane\n')
    return folder


def put(file: Path, *rows: str, header: str = HEADER) -> Path:
    file.write_text("\n".join([header, *rows, ""]))
    return file


def test_boxes_of_the_images_that_are_there_are_read(root: Path) -> None:
    dataset = read_openimages([root / "train-annotations-bbox.csv"], root / "photos")
    objects = {key: [(item.name, item.box) for item in image.objects] for key, image in dataset.images.items()}
    assert objects == {
        "0a": [("Cat, small", (10, 5, 30, 10)), ("Dog", (0, 0, 40, 20))],
        "0b": [("Dog", (0, 0, 20, 10))],
    }
    assert dataset.names == ("Dog", "Cat, small") and dataset.missing == ("ff",) and not dataset.splits
    assert [item.is_difficult for item in dataset.images["0a"].objects] == [False, True]
    assert {text.split(" ")[0]: len(places) for text, places in dataset.losses.items()} == {"objects": 1, "groups": 1}


def test_files_are_splits_and_columns_may_stand_in_any_order(root: Path) -> None:
    (root / "class-descriptions-boxable.csv").unlink()
    other = put(
        root / "oidv6-validation-annotations-bbox.csv",
        "0.5,0,1,0,/m/x,0c.jpg",
        header="YMax,YMin,XMax,XMin,LabelName,ImageID",
    )
    dataset = read_openimages([root / "train-annotations-bbox.csv", other])
    assert dataset.splits == {"train": ["0a", "0b"], "validation": ["0c"]}
    assert dataset.images["0c"].objects[0].box == BoxPx(0, 0, 40, 10) and dataset.names[-1] == "/m/x"
    masks = put(
        root / "m.csv",
        "m.png,0a,/m/x,b1,0,0.5,0,0.5,0.9,",
        header="MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks",
    )
    assert read_openimages([masks]).images["0a"].objects[0].box == (0, 0, 20, 10)


def test_only_named_classes_are_read(root: Path) -> None:
    (root / "own.csv").write_text("LabelName,DisplayName\n/m/01yrx,Katze\n/m/0bt9lr,Hund\n")
    dataset = read_openimages([root / "train-annotations-bbox.csv"], root / "photos", root / "own.csv", ["Katze"])
    assert [[item.name for item in image.objects] for image in dataset.images.values()] == [["Katze"], []]


def test_faults_of_all_files_are_one_error(root: Path) -> None:
    first = put(root / "a.csv", "0a,x,/m/x,1,a,1,0,1,0,0,0,0,0", "0a,x", ROWS[0], *["0a,,,,nan,,,,,,,,"] * 30)
    second = put(root / "b.csv", header="ImageID,LabelName,XMin,XMax,YMin")
    (root / "c.csv").write_bytes(HEADER.encode() + b"\n\xff\xfe\n")
    (root / "photos/0b.jpg").write_text("no image")
    with pytest.raises(DarkpyError) as info:
        read_openimages([first, second, root / "c.csv", root / "none.csv"], root / "photos")
    lines = info.value.message.splitlines()
    assert f"{first}:2: '0a,x,/m/x,1,a,1,0,1,0,0,0,0,0' has no box" in lines[0] and f"{first}:3" in lines[1]
    assert lines[-1] == "... and 4 more"  # 12 lines of the first file are counted, and three files are wrong
    with pytest.raises(DarkpyError, match=r"b\.csv: has no column YMax"):
        read_openimages([second], root / "photos")
    with pytest.raises(DarkpyError, match=r"c\.csv: is not UTF-8 text"):
        read_openimages([root / "c.csv"], root / "photos")
    with pytest.raises(DarkpyError, match="the size of the image is unknown"):
        read_openimages([root / "train-annotations-bbox.csv"], root / "photos")


def test_of_columns_of_one_name_the_first_is_read(root: Path) -> None:
    header = "ImageID,LabelName,XMin,XMax,YMin,YMax,XMin,IsGroupOf"
    file = put(root / "a.csv", "0a,/m/x,0,0.5,0,1,0.25,0", "0b,/m/x,0,0.5,0,1,0.25", header=header)
    with pytest.raises(DarkpyError, match=r"a\.csv:3: '0b,/m/x,0,0.5,0,1,0.25' has no box"):
        read_openimages([file], root / "photos")
    dataset = read_openimages([put(file, "0a,/m/x,0,0.5,0,1,0.25,0", header=header)], root / "photos")
    assert dataset.images["0a"].objects[0].box == BoxPx(0, 0, 20, 20)


def test_wrong_class_file_is_an_error_with_its_line(root: Path) -> None:
    (root / "class-descriptions-boxable.csv").write_text("/m/01yrx,Cat\n/m/0bt9lr\n")
    with pytest.raises(DarkpyError, match=r"boxable\.csv:2: '/m/0bt9lr' is not a class and its name"):
        read_openimages([root / "train-annotations-bbox.csv"], root / "photos")
