"""COCO's JSON: images, annotations and categories in one file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from darkpy.data.formats.annotations import AnnotatedDataset, AnnotatedObject, BoxPx, Image
from darkpy.errors import DarkpyError

MAX_SIZE = 1 << 30  # the largest of COCO's own, captions of 2014 aside, has 0.5 GB
MAX_SIDE = 1 << 20
_HINT = "COCO's instances_*.json has images, annotations and categories"


def read_coco(file: Path, images: Path | None = None, *, needs_images: bool = True) -> AnnotatedDataset:
    """The images of a JSON file and the boxes on them.

    images: where the images are; else they are looked for beside the file and where COCO has them.
    needs_images: leave out images that are not there.
    Raises: DarkpyError when the file is no such JSON, or an image in it has no name or size, or an annotation no box.
    """
    listed, annotations, categories = _read(file)
    names = {_id(one, file): _word(one, "name", file) for one in categories}
    order = [names[number] for number in sorted(names, key=lambda number: (isinstance(number, str), number))]
    objects: dict[Any, list[AnnotatedObject]] = {_id(one, file): [] for one in listed}
    if len(objects) < len(listed):
        raise DarkpyError(f"{file}: {len(listed) - len(objects)} images have the id of another one")
    for one in annotations:
        owner, category = one.get("image_id"), one.get("category_id")
        is_known = all(isinstance(number, int | str) for number in (owner, category))
        if not is_known or owner not in objects or category not in names:
            raise DarkpyError(f"{file}: an annotation is for image {owner}, category {category}, which is not there")
        objects[owner].append(AnnotatedObject(names[category], _box(one, file), is_difficult=bool(one.get("iscrowd"))))
    finder = _Finder(file, images)
    pictures: dict[str, Image] = {}
    missing = []
    for one in listed:
        name = _word(one, "file_name", file)
        key = _key(name, file)
        place = finder.find(name) if needs_images else None
        if place is None and needs_images:
            missing.append(name)
            continue
        if key in pictures:
            raise DarkpyError(f"{file}: two images are called {name!r}, or would be", hint=_HINT)
        w, h = (_side(one, side, file) for side in ("width", "height"))
        pictures[key] = Image(place or Path(name), w, h, tuple(objects[one["id"]]))
    return AnnotatedDataset(pictures, {}, tuple(missing), tuple(dict.fromkeys(order)))


def read_coco_splits(files: Sequence[Path], images: Path | None = None) -> AnnotatedDataset:
    """Several JSON files of one data set, each of which is a split; a single one has no splits.

    A split is called as its file without `instances_`, or as its folder where files are called `_annotations...`.

    Raises: DarkpyError as `read_coco`, and when two files have an image or their name in common, or other classes.
    """
    read = {file: read_coco(file, images) for file in files}
    first = files[0]
    pictures: dict[str, Image] = {}
    splits: dict[str, list[str]] = {}
    for file, one in read.items():
        if one.names != read[first].names:
            raise DarkpyError(f"{file}: has other categories than {first}", hint="files of one data set have the same")
        shared = pictures.keys() & one.images.keys()
        if shared:
            raise DarkpyError(f"{file}: {len(shared)} images are in another file too, {min(shared)} is one of them")
        if _split_name(file) in splits:
            raise DarkpyError(
                f"{file}: another file is the split {_split_name(file)!r}, too", hint="rename one of them"
            )
        pictures |= one.images
        splits[_split_name(file)] = list(one.images)
    missing = tuple(name for one in read.values() for name in one.missing)
    kept = {name: members for name, members in splits.items() if members}
    return AnnotatedDataset(pictures, kept if len(files) > 1 else {}, missing, read[first].names)


def _split_name(file: Path) -> str:
    name = file.absolute().parent.name if file.stem.startswith("_annotations") else file.stem.removeprefix("instances_")
    return name or file.stem


def _read(file: Path) -> tuple[Sequence[Mapping[str, Any]], ...]:
    try:
        if file.stat().st_size > MAX_SIZE:
            raise DarkpyError(f"{file}: is larger than any data set's JSON, {MAX_SIZE >> 30} GB")
        read = json.loads(file.read_bytes())
    except OSError as error:
        raise DarkpyError(f"{file}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DarkpyError(f"{file}: is no JSON: {error}", hint=_HINT) from error
    parts = [read.get(name) if isinstance(read, dict) else None for name in ("images", "annotations", "categories")]
    if not all(isinstance(part, list) and all(isinstance(one, dict) for one in part) for part in parts):
        raise DarkpyError(f"{file}: is not COCO's JSON", hint=_HINT)
    return tuple(part for part in parts if part is not None)


def _id(one: Mapping[str, Any], file: Path) -> int | str:
    number = one.get("id")
    if not isinstance(number, int | str):
        raise DarkpyError(f"{file}: an image or category has no id", hint=_HINT)
    return number


def _word(one: Mapping[str, Any], key: str, file: Path) -> str:
    word = one.get(key)
    if not isinstance(word, str) or not word.strip() or not word.isprintable():
        raise DarkpyError(f"{file}: {one.get('id')} has no {key}", hint=_HINT)
    return word.strip()


def _side(one: Mapping[str, Any], key: str, file: Path) -> int:
    side = one.get(key)
    if not isinstance(side, int | float) or not 1 <= side <= MAX_SIDE:
        raise DarkpyError(f"{file}: image {one['id']} has no {key}, and boxes cannot be scaled without it", hint=_HINT)
    return round(side)


def _box(one: Mapping[str, Any], file: Path) -> BoxPx:
    box = one.get("bbox")
    # what is no number is not within bounds, either
    if isinstance(box, list) and len(box) == 4 and all(_is_number(value) and abs(value) <= MAX_SIDE for value in box):
        x, y, w, h = map(float, box)
        return BoxPx(x, y, x + w, y + h)
    raise DarkpyError(f"{file}: annotation {one.get('id')} has no bbox of four numbers, x, y, width, height")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _key(name: str, file: Path) -> str:
    """What an image is called in a folder of all images."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise DarkpyError(f"{file}: {name!r} leads out of the folder of the images")
    return "_".join(path.with_suffix("").parts)


class _Finder:
    """Where images may be: in the folder named, or else where COCO and those who write its format put them."""

    def __init__(self, file: Path, images: Path | None) -> None:
        beside, above = file.parent, file.parent.parent
        split = file.stem.removeprefix("instances_")
        usual = (beside, beside / "images", beside / split, above / split, above / "images" / split, above / "images")
        self._folders = usual if images is None else (images, images / split)

    def find(self, name: str) -> Path | None:
        for folder in self._folders:
            if (folder / name).is_file():
                return folder / name
        return None
