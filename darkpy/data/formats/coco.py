"""Reader of COCO's JSON: images, annotations and categories in one file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from darkpy.data.formats.annotations import AnnotatedDataset, AnnotatedImage, AnnotatedObject, BoxPx
from darkpy.errors import DarkpyError
from darkpy.files import open_regular

MAX_FILE_BYTES = 1 << 30  # the largest of COCO's own files has 0.5 GB
MAX_SIDE_PX = 1 << 20
_COCO_HINT = "COCO's instances_*.json has images, annotations and categories"


def read_coco(file: Path, images: Path | None = None, *, needs_images: bool = True) -> AnnotatedDataset:
    """Read the images of a JSON file and the boxes on them.

    images: folder of the images; without it they are looked for beside the file and in COCO's folders.
    needs_images: leave out images whose file does not exist.
    Raises: DarkpyError when the file is not COCO's JSON, an image has no name or size, or an annotation no box.
    """
    listed, annotations, categories = _read(file)
    names = {_id(category, file): _text(category, "name", file) for category in categories}
    # class order is that of the ids; ids are numbers, or in some files strings
    order = [names[key] for key in sorted(names, key=lambda key: (isinstance(key, str), key))]
    objects: dict[Any, list[AnnotatedObject]] = {_id(image, file): [] for image in listed}
    if len(objects) < len(listed):
        raise DarkpyError(f"{file}: {len(listed) - len(objects)} images have the id of another one")
    for annotation in annotations:
        image_id, category_id = annotation.get("image_id"), annotation.get("category_id")
        is_valid = all(isinstance(key, int | str) for key in (image_id, category_id))
        if not is_valid or image_id not in objects or category_id not in names:
            raise DarkpyError(
                f"{file}: an annotation is for image {image_id}, category {category_id}, which does not exist"
            )
        objects[image_id].append(
            AnnotatedObject(names[category_id], _box(annotation, file), is_difficult=bool(annotation.get("iscrowd")))
        )
    beside, above, split = file.parent, file.parent.parent, file.stem.removeprefix("instances_")
    # the given folder, or else where COCO and other writers of its format put the images
    usual = (beside, beside / "images", beside / split, above / split, above / "images" / split, above / "images")
    folders = usual if images is None else (images, images / split)
    annotated: dict[str, AnnotatedImage] = {}
    missing = []
    for image in listed:
        name = _text(image, "file_name", file)
        key = _unique_name(name, file)
        path = next((folder / name for folder in folders if needs_images and (folder / name).is_file()), None)
        if path is None and needs_images:
            missing.append(name)
            continue
        if key in annotated:
            raise DarkpyError(f"{file}: two images have the name {name!r}, or would have it", hint=_COCO_HINT)
        w, h = (_side(image, side, file) for side in ("width", "height"))
        annotated[key] = AnnotatedImage(path or Path(name), w, h, tuple(objects[image["id"]]))
    return AnnotatedDataset(annotated, {}, tuple(missing), tuple(dict.fromkeys(order)))


def read_coco_splits(files: Sequence[Path], images: Path | None = None) -> AnnotatedDataset:
    """Read several JSON files of one data set, each of which is a split; a single file has no splits.

    A split has the name of its file without `instances_`, or of its folder if the file is called `_annotations...`.

    Raises: DarkpyError as `read_coco`, and when two files share an image or a name, or have different classes.
    """
    datasets = {file: read_coco(file, images) for file in files}
    first = files[0]
    merged: dict[str, AnnotatedImage] = {}
    splits: dict[str, list[str]] = {}
    for file, dataset in datasets.items():
        if dataset.names != datasets[first].names:
            raise DarkpyError(f"{file}: has other categories than {first}", hint="files of one data set have the same")
        shared = merged.keys() & dataset.images.keys()
        if shared:
            raise DarkpyError(f"{file}: {len(shared)} images are in another file too, for example {min(shared)}")
        if _split_name(file) in splits:
            raise DarkpyError(
                f"{file}: another file is also the split {_split_name(file)!r}", hint="rename one of them"
            )
        merged |= dataset.images
        splits[_split_name(file)] = list(dataset.images)
    missing = tuple(name for dataset in datasets.values() for name in dataset.missing)
    nonempty = {name: members for name, members in splits.items() if members}
    return AnnotatedDataset(merged, nonempty if len(files) > 1 else {}, missing, datasets[first].names)


def _split_name(file: Path) -> str:
    name = file.absolute().parent.name if file.stem.startswith("_annotations") else file.stem.removeprefix("instances_")
    return name or file.stem


def _read(file: Path) -> tuple[Sequence[Mapping[str, Any]], ...]:
    try:
        with open_regular(file) as stream:
            if os.fstat(stream.fileno()).st_size > MAX_FILE_BYTES:
                raise DarkpyError(f"{file}: is larger than any data set's JSON, {MAX_FILE_BYTES >> 30} GB")
            content = json.loads(stream.read())
    except OSError as error:
        raise DarkpyError(f"{file}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DarkpyError(f"{file}: is not JSON: {error}", hint=_COCO_HINT) from error
    parts = [
        content.get(name) if isinstance(content, dict) else None for name in ("images", "annotations", "categories")
    ]
    if not all(isinstance(part, list) and all(isinstance(entry, dict) for entry in part) for part in parts):
        raise DarkpyError(f"{file}: is not COCO's JSON", hint=_COCO_HINT)
    return tuple(part for part in parts if part is not None)


def _id(entry: Mapping[str, Any], file: Path) -> int | str:
    key = entry.get("id")
    if not isinstance(key, int | str):
        raise DarkpyError(f"{file}: an image or category has no id", hint=_COCO_HINT)
    return key


def _text(entry: Mapping[str, Any], key: str, file: Path) -> str:
    text = entry.get(key)
    if not isinstance(text, str) or not text.strip() or not text.isprintable():
        raise DarkpyError(f"{file}: {entry.get('id')} has no {key}", hint=_COCO_HINT)
    return text.strip()


def _side(image: Mapping[str, Any], key: str, file: Path) -> int:
    side = image.get(key)
    if not isinstance(side, int | float) or not 1 <= side <= MAX_SIDE_PX:
        raise DarkpyError(
            f"{file}: image {image['id']} has no {key}, and boxes cannot be scaled without it", hint=_COCO_HINT
        )
    return round(side)


def _box(annotation: Mapping[str, Any], file: Path) -> BoxPx:
    box = annotation.get("bbox")
    values = box if isinstance(box, list) else ()
    # NaN fails the comparison, too
    if len(values) == 4 and all(isinstance(value, int | float) and abs(value) <= MAX_SIDE_PX for value in values):
        x, y, w, h = map(float, values)
        return BoxPx(x, y, x + w, y + h)
    raise DarkpyError(f"{file}: annotation {annotation.get('id')} has no bbox of four numbers, x, y, width, height")


def _unique_name(name: str, file: Path) -> str:
    """Return an image's name in a single folder of all images: its path with `_` between the parts."""
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise DarkpyError(f"{file}: {name!r} is not a file in the folder of the images")
    return "_".join(path.with_suffix("").parts)
