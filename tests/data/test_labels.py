"""Where the labels of an image lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkpy.data.labels import label_path
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError


@pytest.mark.parametrize(
    ("image", "pjreddie", "alexeyab"),
    [
        ("a.jpg", "a.txt", "a.txt"),
        ("/d/images/a.jpg", "/d/labels/a.txt", "/d/images/a.txt"),
        ("/d/images/train2017/a.jpg", "/d/labels/train2017/a.txt", "/d/labels/train2017/a.txt"),
        ("/d/images/val2014/a.png", "/d/labels/val2014/a.txt", "/d/labels/val2014/a.txt"),
        ("/d/images/val2015/a.png", "/d/labels/val2015/a.txt", "/d/images/val2015/a.txt"),
        ("/d/VOC/JPEGImages/a.JPG", "/d/VOC/labels/a.txt", "/d/VOC/labels/a.txt"),
        ("C:\\d\\JPEGImages\\a.jpg", "C:\\d\\labels\\a.txt", "C:\\d\\labels\\a.txt"),
        ("C:\\d\\images\\train2014\\a.jpg", "C:\\d\\labels\\train2014\\a.txt", "C:\\d\\labels\\train2014\\a.txt"),
        ("/d/my_images_raw/a.jpg", "/d/my_labels_labels/a.txt", "/d/my_images_raw/a.txt"),
        ("/d/draw/a.jpg", "/d/dlabels/a.txt", "/d/draw/a.txt"),
        ("/d/images/images.png", "/d/labels/images.txt", "/d/images/images.txt"),
        ("/d/a.jpg.d/a.JPEG", "/d/a.txt.d/a.txt", "/d/a.jpg.d/a.txt"),
        (" a.jpg", " a.txt", "a.txt"),
        ("a.jpeg", "a.txt", "a.txt"),
        ("a.bmp", "a.txt", "a.txt"),
        ("a.webp", "a.txt", "a.txt"),
        ("a.Jpg", "a.txt", "a.txt"),
    ],
)
def test_each_fork_has_its_rule(image: str, pjreddie: str, alexeyab: str) -> None:
    assert label_path(image, Dialect.PJREDDIE) == Path(pjreddie)
    assert label_path(image, Dialect.ALEXEYAB) == Path(alexeyab)


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("image", ["a", "a.txt", "folder/", "a.weights", ""])
def test_what_is_no_image_has_no_labels(image: str, dialect: Dialect) -> None:
    with pytest.raises(DarkpyError, match="no label file belongs to it"):
        label_path(image, dialect)
