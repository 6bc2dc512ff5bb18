"""Labels as COCO's JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from darkpy.data.lists.image_list import ImageList, names_from_common_folder
from darkpy.data.lists.labels import LabelTable
from darkpy.data.lists.names import COCO_IDS, COCO_NAMES, COCO_ORIGINAL_NAMES
from darkpy.data.loading.decoding import read_image_size
from darkpy.errors import ImageError

DIGITS = 6
"""Decimals of a pixel."""
_MAX_ID = 1 << 53  # what every reader of JSON can count to


@dataclass(slots=True)
class CocoSet:
    """One JSON file in the making. bad: why images are not in it; empty: boxes without a size, which are not."""

    categories: list[dict[str, Any]]
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    empty: int = 0

    def to_json(self) -> Iterator[bytes]:
        """The text of the file, in pieces, one entry a line."""
        parts = {"images": self.images, "annotations": self.annotations, "categories": self.categories}
        for number, (name, entries) in enumerate(parts.items()):
            yield f'{"," if number else "{"}\n"{name}": ['.encode()
            for place, entry in enumerate(entries):
                yield f"{',' if place else ''}\n{json.dumps(entry)}".encode()
            yield b"\n]"
        yield b"\n}\n"


def start_coco(listed: ImageList, *tables: LabelTable) -> CocoSet:
    """A file with categories and nothing else: the names that are known, and the numbers of classes without a name.

    Classes that are COCO's 80 have the ids that they have there, all others count from 1.
    """
    most = max((int(table.class_N.max()) for table in tables if len(table)), default=-1)
    names = [listed.name(number) for number in range(max(most + 1, len(listed.names)))]
    ids = COCO_IDS if tuple(names) in (COCO_NAMES, COCO_ORIGINAL_NAMES) else range(1, len(names) + 1)
    return CocoSet([{"id": number, "name": name} for number, name in zip(ids, names, strict=True)])


def fill_coco(made: CocoSet, listed: ImageList, plain: LabelTable, crowds: LabelTable | None = None) -> Iterator[Path]:
    """Put the images of a list and their boxes, in pixels, into a file.

    crowds: the labels of AlexeyAB's difficult=, of the same list.
    An image whose name is a number has that for its id, as COCO's own, if all have one and no two the same.
    Yields: the path of each image when it is done.
    """
    files = [listed.file(number) for number in range(len(listed.images))]
    names = names_from_common_folder(files)
    tables = [(plain, _first_boxes(plain, len(files)), 0)]
    if crowds is not None:
        tables.append((crowds, _first_boxes(crowds, len(files)), 1))
    for number, (file, name, image_id) in enumerate(zip(files, names, image_ids(files), strict=True)):
        try:
            w, h = read_image_size(file)
        except ImageError as error:
            made.bad.append(error.message)
        else:
            made.images.append({"id": image_id, "file_name": name, "width": w, "height": h})
            for table, first, is_crowd in tables:
                rows = slice(first[number], first[number + 1])
                boxes = zip(table.class_N[rows].tolist(), table.box_N4[rows].tolist(), strict=True)
                for class_id, box in boxes:
                    _add(made, image_id, class_id, _pixels(box, w, h), is_crowd)
        yield file


def image_ids(files: Sequence[Path]) -> list[int]:
    """The numbers that the images are called by, or those of their places."""
    numbers = [int(file.stem) if file.stem.isascii() and file.stem.isdecimal() else -1 for file in files]
    is_known = len(set(numbers)) == len(numbers) and all(0 <= number < _MAX_ID for number in numbers)
    return numbers if is_known else list(range(1, len(files) + 1))


def _add(made: CocoSet, image_id: int, class_id: int, box_px: list[float], is_crowd: int) -> None:
    _, _, w, h = box_px
    if w <= 0 or h <= 0:
        made.empty += 1
        return
    made.annotations.append(
        {
            "id": len(made.annotations) + 1,  # pycocotools takes 0 for none
            "image_id": image_id,
            "category_id": made.categories[class_id]["id"],
            "bbox": box_px,
            "area": round(w * h, DIGITS),
            "iscrowd": is_crowd,
        }
    )


def _pixels(box: Sequence[float], w: int, h: int) -> list[float]:
    """Left, top, width, height."""
    x, y, box_w, box_h = box
    return [round(value, DIGITS) for value in ((x - box_w / 2) * w, (y - box_h / 2) * h, box_w * w, box_h * h)]


def _first_boxes(table: LabelTable, images: int) -> list[int]:
    """Where the boxes of each image begin, and where the last ones end."""
    places: list[int] = np.searchsorted(table.image_N, np.arange(images + 1)).tolist()
    return places
