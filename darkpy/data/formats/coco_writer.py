"""Writer of labels as COCO's JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from darkpy.data.lists.image_list import ImageList, names_from_common_folder
from darkpy.data.lists.labels import LabelTable
from darkpy.data.lists.text_files import COCO_IDS, COCO_NAMES, COCO_ORIGINAL_NAMES
from darkpy.data.loading.decoding import read_image_size
from darkpy.errors import ImageError

PIXEL_DECIMALS = 6
_ID_PATTERN = re.compile(r"\d{1,16}", re.ASCII)
_MAX_ID = 1 << 53  # largest integer of JSON readers that use doubles


@dataclass(slots=True)
class CocoContent:
    """Content of a JSON file. bad: errors of the images left out; empty: number of boxes without a size left out."""

    categories: list[dict[str, Any]]
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    empty: int = 0

    def to_json(self) -> Iterator[bytes]:
        """Yield the text of the file in chunks, one entry on a line."""
        parts = {"images": self.images, "annotations": self.annotations, "categories": self.categories}
        for part_index, (name, entries) in enumerate(parts.items()):
            yield f'{"," if part_index else "{"}\n"{name}": ['.encode()
            for index, entry in enumerate(entries):
                yield f"{',' if index else ''}\n{json.dumps(entry)}".encode()
            yield b"\n]"
        yield b"\n}\n"


def start_coco(listed: ImageList, *tables: LabelTable) -> CocoContent:
    """Make a file's content with its categories only; classes without a name are named by their numbers.

    COCO's 80 classes have their original ids; others count from 1.
    """
    max_class = max((int(table.class_N.max()) for table in tables if len(table)), default=-1)
    names = [listed.name(class_id) for class_id in range(max(max_class + 1, len(listed.names)))]
    ids = COCO_IDS if tuple(names) in (COCO_NAMES, COCO_ORIGINAL_NAMES) else range(1, len(names) + 1)
    return CocoContent([{"id": category_id, "name": name} for category_id, name in zip(ids, names, strict=True)])


def fill_coco(
    content: CocoContent, listed: ImageList, plain: LabelTable, crowds: LabelTable | None = None
) -> Iterator[Path]:
    """Add the images of a list and their boxes, in pixels, to a file's content.

    crowds: labels of AlexeyAB's difficult= for the same list.
    Yields: the path of each image after it is added.
    """
    files = [listed.file(index) for index in range(len(listed.images))]
    names = names_from_common_folder(files)
    tables = [(plain, _first_boxes(plain, len(files)), 0)]
    if crowds is not None:
        tables.append((crowds, _first_boxes(crowds, len(files)), 1))
    for index, (file, name, image_id) in enumerate(zip(files, names, image_ids(files), strict=True)):
        try:
            w, h = read_image_size(file)
        except ImageError as error:
            content.bad.append(error.message)
        else:
            content.images.append({"id": image_id, "file_name": name, "width": w, "height": h})
            for table, first, is_crowd in tables:
                rows = slice(first[index], first[index + 1])
                boxes = zip(table.class_N[rows].tolist(), table.box_N4[rows].tolist(), strict=True)
                for class_id, box in boxes:
                    _add(content, image_id, class_id, box, (w, h), is_crowd)
        yield file


def image_ids(files: Sequence[Path]) -> list[int]:
    """Return an id for each image: the number that is its name, as in COCO, if all have one; else its place from 1."""
    ids = [int(file.stem) if _ID_PATTERN.fullmatch(file.stem) else -1 for file in files]
    is_unique = len(set(ids)) == len(ids) and all(0 <= image_id < _MAX_ID for image_id in ids)
    return ids if is_unique else list(range(1, len(files) + 1))


def _add(
    content: CocoContent, image_id: int, class_id: int, box: Sequence[float], size_px: tuple[int, int], is_crowd: int
) -> None:
    """Add a box, converted to left, top, width, height in pixels."""
    (x, y, w, h), (image_w, image_h) = box, size_px
    edges = ((x - w / 2) * image_w, (y - h / 2) * image_h, w * image_w, h * image_h)
    box_px = [round(value, PIXEL_DECIMALS) for value in edges]
    if box_px[2] <= 0 or box_px[3] <= 0:
        content.empty += 1
        return
    content.annotations.append(
        {
            "id": len(content.annotations) + 1,  # pycocotools takes 0 for "no match"
            "image_id": image_id,
            "category_id": content.categories[class_id]["id"],
            "bbox": box_px,
            "area": round(box_px[2] * box_px[3], PIXEL_DECIMALS),
            "iscrowd": is_crowd,
        }
    )


def _first_boxes(table: LabelTable, images: int) -> list[int]:
    """Return the index of each image's first box, and the end of the last image's."""
    indices: list[int] = np.searchsorted(table.image_N, np.arange(images + 1)).tolist()
    return indices
