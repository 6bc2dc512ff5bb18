"""Where the labels of an image lie."""

from __future__ import annotations

import os
import re
from pathlib import Path

from darkpy.data.images import IMAGE_SUFFIXES
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError

_PJREDDIE_WORDS = (
    *(("images", "labels"), ("JPEGImages", "labels"), ("raw", "labels")),
    *((".jpg", ".txt"), (".png", ".txt"), (".JPG", ".txt"), (".JPEG", ".txt")),
)
_ALEXEYAB_FOLDERS = re.compile(r"([/\\])(?:images(?=\1(?:train|val)20(?:14|17)\1)|JPEGImages(?=\1))")


def label_path(image_path: str | os.PathLike[str], dialect: Dialect) -> Path:
    """The label file of an image.

    pjreddie replaces the first `images`, `JPEGImages`, `raw` and extension wherever they stand in the path; AlexeyAB
    only the folders of COCO and VOC, and the extension at the end.

    Raises:  DarkpyError when the name does not end as images do.
    Source:  pjreddie/darknet src/data.c fill_truth_detection; AlexeyAB/darknet src/utils.c replace_image_to_label
    Differs: images of other kinds than darknet reads have labels, too.
    """
    image = os.fspath(image_path)
    text = _replace_words(image) if dialect is Dialect.PJREDDIE else _replace_folders(image)
    label = Path(text)
    if label.suffix.lower() in IMAGE_SUFFIXES:
        label = label.with_suffix(".txt")
    if label.suffix != ".txt" or label == Path(image):
        raise DarkpyError(f"{image}: no label file belongs to it", hint="an image's name ends in .jpg, .png, ...")
    return label


def _replace_words(path: str) -> str:
    for word, replacement in _PJREDDIE_WORDS:
        path = path.replace(word, replacement, 1)
    return path


def _replace_folders(path: str) -> str:
    return _ALEXEYAB_FOLDERS.sub(r"\1labels", path).strip()
