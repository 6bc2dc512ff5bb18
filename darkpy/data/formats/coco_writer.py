"""Writer of labels as COCO's JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from darkpy.data.formats.annotations import AnnotatedDataset
from darkpy.data.lists.image_list import names_from_common_folder
from darkpy.data.lists.text_files import COCO_IDS, COCO_NAMES, COCO_ORIGINAL_NAMES

PIXEL_DECIMALS = 6
_ID_PATTERN = re.compile(r"\d{1,16}", re.ASCII)
_MAX_ID = 1 << 53  # largest integer of JSON readers that use doubles


@dataclass(slots=True)
class CocoContent:
    """Content of a JSON file. empty: number of boxes without a size, which are left out."""

    categories: list[dict[str, Any]]
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
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


def coco_content(dataset: AnnotatedDataset, keys: Sequence[str]) -> CocoContent:
    """Make the content of a JSON file of some images, whose paths are relative to the common folder of all images.

    COCO's 80 classes have their original ids; others count from 1. Difficult objects are crowds.
    """
    names = dataset.class_names()
    ids = COCO_IDS if names in (COCO_NAMES, COCO_ORIGINAL_NAMES) else range(1, len(names) + 1)
    category_ids = dict(zip(names, ids, strict=True))
    content = CocoContent([{"id": category_id, "name": name} for name, category_id in category_ids.items()])
    files = {key: Path(image.file) for key, image in dataset.images.items() if isinstance(image.file, Path)}
    file_names = dict(zip(files, names_from_common_folder(list(files.values())), strict=True))
    members = list(dict.fromkeys(keys))
    for key, image_id in zip(members, image_ids([files[key] for key in members]), strict=True):
        image, name = dataset.images[key], file_names[key]
        content.images.append({"id": image_id, "file_name": name, "width": image.w, "height": image.h})
        for item in image.objects:
            left, top, right, bottom = item.box
            x, y, w, h = (round(value, PIXEL_DECIMALS) for value in (left, top, right - left, bottom - top))
            if w <= 0 or h <= 0:
                content.empty += 1
                continue
            annotation_id = len(content.annotations) + 1  # pycocotools takes 0 for "no match"
            entry = {"id": annotation_id, "image_id": image_id, "category_id": category_ids[item.name]}
            box = {"bbox": [x, y, w, h], "area": round(w * h, PIXEL_DECIMALS), "iscrowd": int(item.is_difficult)}
            content.annotations.append(entry | box)
    return content


def image_ids(files: Sequence[Path]) -> list[int]:
    """Return an id for each image: the number that is its name, as in COCO, if all have one; else its place from 1."""
    ids = [int(file.stem) if _ID_PATTERN.fullmatch(file.stem) else -1 for file in files]
    is_unique = len(set(ids)) == len(ids) and all(0 <= image_id < _MAX_ID for image_id in ids)
    return ids if is_unique else list(range(1, len(files) + 1))
