"""PASCAL VOC's XML."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkpy.data.formats.annotations import BoxPx
from darkpy.data.formats.voc import Corners, read_voc
from darkpy.data.loading.decoding import read_image_layout
from darkpy.data.loading.images import load_image
from darkpy.errors import DarkpyError

OBJECT = """<object><name>{name}</name>{more}
<bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>"""


def annotation(*objects: str, size: str = "<size><width>100</width><height>50</height></size>", file: str = "") -> str:
    return f"<annotation><filename>{file}</filename>{size}{''.join(objects)}</annotation>"


def thing(*edges: object, name: str = "cup", more: str = "") -> str:
    return OBJECT.format(*edges, name=name, more=more)


def write(folder: Path, **annotations: str) -> None:
    """A folder as VOC has it, with an empty image for each annotation."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, text in annotations.items():
        (folder / f"Annotations/{name}.xml").write_text(text)
        (folder / f"JPEGImages/{name}.jpg").touch()


def test_objects_have_names_boxes_and_difficulty(tmp_path: Path) -> None:
    part = "<part><name>handle</name><bndbox><xmin>1</xmin></bndbox></part><difficult>1</difficult>"
    write(tmp_path, a=annotation(thing(11, 6, 21, 16), thing(1, "2.5", 3, 4, name=" Teddy\n bear\n", more=part)))
    (image,) = read_voc(tmp_path).images.values()
    assert (image.w, image.h, image.file) == (100, 50, tmp_path / "JPEGImages/a.jpg")
    assert [(one.name, one.is_difficult) for one in image.objects] == [("cup", False), ("Teddy bear", True)]
    assert image.objects[1].box == BoxPx(0, 1.5, 2, 3)


@pytest.mark.parametrize(
    ("corners", "box"),
    [
        (Corners.DARKNET, (10, 5, 20, 15)),  # voc_label.py: x = 16 - 1, w = 10
        (Corners.VOC, (10, 5, 21, 16)),  # pixels 11..21 of pixels that count from 1
        (Corners.EDGES, (11, 6, 21, 16)),
    ],
)
def test_corners_follow_the_option(tmp_path: Path, corners: Corners, box: BoxPx) -> None:
    write(tmp_path, a=annotation(thing(11, 6, 21, 16)))
    assert read_voc(tmp_path, corners).images["a"].objects[0].box == box


def test_splits_are_the_lists_of_names_and_not_those_of_classes(tmp_path: Path) -> None:
    write(tmp_path, a=annotation(), b=annotation(), c=annotation())
    main = tmp_path / "ImageSets/Main"
    (main / "train.txt").write_text("# a comment\na\n\nc\n")
    (main / "val.txt").write_text("b\r\nlost\r\n")
    (main / "cup_train.txt").write_text("a  1\nc -1\n")
    (main / "test.txt").write_text("")
    read = read_voc(tmp_path)
    assert read.splits == {"train": ["a", "c"], "val": ["b"]}
    assert read.missing == ("lost",)


def test_images_lie_beside_the_annotations_or_are_named_in_them(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(annotation())
    (tmp_path / "b.xml").write_text(annotation(file="other.PNG"))
    (tmp_path / "c.xml").write_text(annotation(file="nowhere.jpg"))
    for name in ("a.jpg", "other.png"):
        (tmp_path / name).touch()
    read = read_voc(tmp_path)
    assert {name: image.file.suffix for name, image in read.images.items()} == {"a": ".jpg", "b": ".png"}
    assert read.missing == ("c",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (annotation(size=""), r"size is \? x \?, and boxes cannot be scaled"),
        (annotation(size="<size><width>0</width><height>5</height></size>"), "size is 0 x 5"),
        (annotation(size="<size><width>5</width><height>nan</height></size>"), r"size is 5 x \?"),
        (annotation(size="<size><width>5</width><height>1e9</height></size>"), r"size is 5 x 1e\+09"),
        (annotation(thing(1, 2, "x", 4)), "object 1, 'cup', has a box that is not four numbers"),
        (annotation(thing(1, 2, 3, "inf")), "object 1, 'cup', has a box that is not four numbers"),
        (annotation(thing(1, 2, 3, 4, name="")), "object 1 has no <name>"),
        ("<html/>", "begins with <html>"),
    ],
)
def test_annotation_that_says_too_little_is_one_error(tmp_path: Path, text: str, told: str) -> None:
    write(tmp_path, a=text)
    with pytest.raises(DarkpyError, match=told) as caught:
        read_voc(tmp_path)
    assert "a.xml: " in caught.value.message


def test_faults_of_all_files_are_one_error(tmp_path: Path) -> None:
    write(
        tmp_path, a=annotation(thing(1, 2, "x", 4), thing(1, 2, 3, 4, name="")), b="<annotation>", c=annotation(size="")
    )
    with pytest.raises(DarkpyError) as info:
        read_voc(tmp_path)
    lines = info.value.message.split("\n")
    assert [line[len(str(tmp_path)) :].split(":")[0] for line in lines] == [
        *("/Annotations/a.xml", "/Annotations/a.xml", "/Annotations/b.xml", "/Annotations/c.xml")
    ]
    write(tmp_path, **{f"x{number}": "no xml" for number in range(30)})
    with pytest.raises(DarkpyError, match=r"\.\.\. and 14 more\n"):
        read_voc(tmp_path)


def draw_image(path: Path, w: int, h: int, orientation: int = 1) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.new("RGB", (w, h)).save(path, exif=exif)


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>", "<size/>"])
def test_size_that_is_missing_is_the_image_files(tmp_path: Path, size: str) -> None:
    write(tmp_path, a=annotation(thing(11, 6, 21, 16), size=size))
    draw_image(tmp_path / "JPEGImages/a.jpg", 100, 50)
    read = read_voc(tmp_path)
    assert (read.images["a"].w, read.images["a"].h) == (100, 50)
    assert list(read.losses.values()) == [[str(tmp_path / "Annotations/a.xml")]]


def test_swapped_size_is_the_image_files(tmp_path: Path) -> None:
    write(tmp_path, a=annotation(thing(11, 6, 21, 16)), b=annotation(thing(11, 6, 21, 16)))
    draw_image(tmp_path / "JPEGImages/a.jpg", 50, 100)
    draw_image(tmp_path / "JPEGImages/b.jpg", 400, 200)  # resized after it was annotated
    read = read_voc(tmp_path, Corners.EDGES)
    assert [(image.w, image.h) for image in read.images.values()] == [(50, 100), (100, 50)]
    assert read.images["a"].objects[0].box == BoxPx(11, 6, 21, 16)
    (loss,) = read.losses
    assert "swapped" in loss


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_turn_with_an_image_that_was_annotated_before_it_was_turned(tmp_path: Path, orientation: int) -> None:
    """A white patch stays inside its box."""
    write(tmp_path, a=annotation(thing(10, 5, 30, 25)))
    pixels = np.zeros((50, 100, 3), np.uint8)
    pixels[5:25, 10:30] = 255
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "JPEGImages/a.jpg").unlink()
    PIL.Image.fromarray(pixels).save(tmp_path / "JPEGImages/a.png", exif=exif)
    layout = read_image_layout(tmp_path / "JPEGImages/a.png")
    upright = load_image(tmp_path / "JPEGImages/a.png").pixels_HWC
    assert (layout.w, layout.h) == (upright.shape[1], upright.shape[0])
    box = layout.to_upright((10, 5, 30, 25))
    if orientation >= 5:
        assert read_voc(tmp_path, Corners.EDGES).images["a"].objects[0].box == box
    left, top, right, bottom = map(int, box)
    assert upright[top:bottom, left:right].min() == 255 and upright.sum() == 400 * 3 * 255


def test_polygons_become_boxes_and_objects_without_either_are_left_out(tmp_path: Path) -> None:
    points = "<polygon><x1>5</x1><y1>6</y1><x2>9</x2><y2>3</y2><x3>7</x3><y3>8</y3></polygon>"
    text = annotation(f"<object><name>cup</name>{points}</object>", "<object><name>cup</name></object>")
    write(tmp_path, a=text)
    read = read_voc(tmp_path)
    assert [item.box for item in read.images["a"].objects] == [(5, 3, 9, 8)]
    places = [str(tmp_path / f"Annotations/a.xml: object {number}, 'cup'") for number in (1, 2)]
    assert dict(read.losses) == {
        "objects without a box get the one around their polygon": places[:1],
        "objects without a box are left out": places[1:],
    }


def test_folder_without_annotations_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DarkpyError, match="holds no VOC annotations"):
        read_voc(tmp_path)


def test_bccd_is_read_as_it_is_described(shared: Path) -> None:
    read = read_voc(shared / "data/bccd")
    objects = [one for image in read.images.values() for one in image.objects]
    empty = [one for one in objects if one.box.left == one.box.right or one.box.top == one.box.bottom]
    assert (len(read.images), len(objects), len(empty)) == (364, 4888, 2)
    assert read.class_names() == ("Platelets", "RBC", "WBC")
    assert {split: len(names) for split, names in read.splits.items()} == {
        "test": 72,
        "train": 205,
        "trainval": 292,
        "val": 87,
    }


@given(
    place=st.sampled_from(["width", "height", "xmin", "ymax", "name", "difficult", "size", "bndbox", "filename"]),
    odd=st.one_of(
        st.text(st.characters(exclude_characters="<&>"), max_size=6), st.sampled_from(["-1", "1e400", "NaN", "<x/>"])
    ),
)
@settings(max_examples=120, deadline=None)
def test_odd_values_anywhere_are_read_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, place: str, odd: str
) -> None:
    text = annotation(thing(1, 2, 3, 4, more="<difficult>0</difficult>"), file="a.jpg")
    start, end = text.index(f"<{place}>") + len(place) + 2, text.index(f"</{place}>")
    folder = tmp_path_factory.mktemp("voc")
    (folder / "a.xml").write_text(text[:start] + odd + text[end:], encoding="utf-8", errors="replace")
    try:
        read_voc(folder, needs_images=False)
    except DarkpyError as error:
        assert error.message.startswith(f"{folder / 'a.xml'}:")
