"""Reader of COCO's JSON: images, annotations and categories in one file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from darkpy.data.formats.annotations import (
    MAX_SIDE_PX,
    AnnotatedDataset,
    AnnotatedImage,
    AnnotatedObject,
    BoxPx,
    ImportReport,
    annotated_image,
    box_around,
)
from darkpy.data.lists.paths import is_true
from darkpy.errors import DarkpyError
from darkpy.files import open_regular

MAX_FILE_BYTES = 1 << 30  # the largest of COCO's own files has 0.5 GB
_COCO_HINT = "COCO's instances_*.json has images, annotations and categories"


def read_coco(file: Path, images: Path | None = None, *, needs_images: bool = True) -> AnnotatedDataset:
    """Read the images of a JSON file and the boxes on them.

    images: folder of the images; without it they are looked for beside the file and in COCO's folders.
    needs_images: leave out images whose file does not exist.
    Raises: DarkpyError with all faults, when the file is not COCO's JSON, images have no name or size, or annotations
        have malformed boxes.
    """
    report = ImportReport()
    dataset = _read_dataset(file, images, report, needs_images=needs_images)
    report.check(_COCO_HINT)
    return dataset


def read_coco_splits(files: Sequence[Path], images: Path | None = None) -> AnnotatedDataset:
    """Read several JSON files of one data set, each of which is a split; a single file has no splits.

    A split has the name of its file without `instances_`, or of its folder if the file is called `_annotations...`.

    Raises: DarkpyError as `read_coco`, and when two files share an image or a name, or have different classes.
    """
    report = ImportReport()
    datasets = {file: _read_dataset(file, images, report, needs_images=True) for file in files}
    report.check(_COCO_HINT)
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
    return AnnotatedDataset(merged, nonempty if len(files) > 1 else {}, missing, datasets[first].names, report.losses)


def _read_dataset(file: Path, images: Path | None, report: ImportReport, *, needs_images: bool) -> AnnotatedDataset:
    """Read a file, and add what is wrong with it to a report; the result counts only if that has no faults."""
    try:
        listed, annotations, categories = _read(file)
    except DarkpyError as error:
        report.faults.append(error.message)
        return AnnotatedDataset({}, {})
    names = {_id(category, file, report): _text(category, "name", file, report) for category in categories}
    # class order is that of the ids; ids are numbers, or in some files strings
    order = [names[key] for key in sorted(names, key=lambda key: (isinstance(key, str), key))]
    ids = [_id(image, file, report) for image in listed]
    objects: dict[int | str, list[AnnotatedObject]] = {key: [] for key in ids}
    if len(objects) < len(listed):
        report.faults.append(f"{file}: {len(listed) - len(objects)} images have the id of another one")
    for annotation in annotations:
        image_id, category_id = annotation.get("image_id"), annotation.get("category_id")
        is_valid = all(isinstance(key, int | str) for key in (image_id, category_id))
        if not is_valid or image_id not in objects or category_id not in names:
            owner = f"image {_shown(image_id)}, category {_shown(category_id)}"
            report.faults.append(f"{file}: an annotation is for {owner}, which does not exist")
        elif box := _box(annotation, file, report):
            is_crowd = bool(annotation.get("iscrowd"))
            objects[image_id].append(AnnotatedObject(names[category_id], box, is_difficult=is_crowd))
    beside, above, split = file.parent, file.parent.parent, file.stem.removeprefix("instances_")
    # the given folder, or else where COCO and other writers of its format put the images
    usual = (beside, beside / "images", beside / split, above / split, above / "images" / split, above / "images")
    folders = usual if images is None else (images, images / split)
    annotated: dict[str, AnnotatedImage] = {}
    missing = []
    for image, image_id in zip(listed, ids, strict=True):
        name = _text(image, "file_name", file, report)
        key = _unique_name(name)
        if key is None:
            report.faults.append(f"{file}: {name!r} is not a file in the folder of the images")
            continue
        if key in annotated:
            report.faults.append(f"{file}: two images have the name {name!r}, or would have it")
        path = next((folder / name for folder in folders if is_true((folder / name).is_file)), None)
        if path is None and needs_images:
            missing.append(name)
            continue
        size_px = (_number(image.get("width")), _number(image.get("height")))
        location = f"{file}: image {_shown(image.get('id'))}"
        if made := annotated_image(location, path or Path(name), size_px, objects[image_id], report):
            annotated[key] = made
    return AnnotatedDataset(annotated, {}, tuple(missing), tuple(dict.fromkeys(order)), report.losses)


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


def _shown(value: object) -> str:
    return repr(value)[:40]


def _id(entry: Mapping[str, Any], file: Path, report: ImportReport) -> int | str:
    key = entry.get("id")
    if isinstance(key, int | str):
        return key
    report.faults.append(f"{file}: an image or category has no id")
    return f"\0{id(entry)}"


def _text(entry: Mapping[str, Any], key: str, file: Path, report: ImportReport) -> str:
    text = entry.get(key)
    if isinstance(text, str) and text.strip() and text.isprintable():
        return text.strip()
    report.faults.append(f"{file}: {_shown(entry.get('id'))} has no {key}")
    return f"{id(entry)}"


def _number(value: object) -> float:
    """Convert a number of JSON; NaN for anything else, and for one that no image's pixels reach."""
    return float(value) if isinstance(value, int | float) and abs(value) <= MAX_SIDE_PX else math.nan


def _box(annotation: Mapping[str, Any], file: Path, report: ImportReport) -> BoxPx | None:
    """Return an annotation's box, else the one around its segmentation; None for neither."""
    location = f"{file}: annotation {_shown(annotation.get('id'))}"
    box, segmentation = annotation.get("bbox"), annotation.get("segmentation")
    if box:
        values = [_number(value) for value in box] if isinstance(box, list) and len(box) == 4 else [math.nan]
        if math.isnan(sum(values)):
            report.faults.append(f"{location} has no bbox of four numbers, x, y, width, height")
            return None
        x, y, w, h = values
        return BoxPx(x, y, x + w, y + h)
    if not segmentation:
        report.losses["annotations without a box are left out"].append(location)
        return None
    edges = _mask_box(segmentation) if isinstance(segmentation, dict) else _polygon_box(segmentation)
    if edges is None:
        report.faults.append(f"{location} has no bbox, and a segmentation that is neither polygons nor a mask")
        return None
    report.losses["annotations without a box get the one around their segmentation"].append(location)
    return edges


def _polygon_box(polygons: object) -> BoxPx | None:
    """Return the box around polygons, x, y, x, y, ... of each; None if these are none."""
    if not isinstance(polygons, list) or not all(isinstance(polygon, list) for polygon in polygons):
        return None
    points = [point for polygon in polygons for point in zip(polygon[::2], polygon[1::2], strict=False)]
    pairs = [(_number(x), _number(y)) for x, y in points]
    return box_around(pairs) if pairs and not any(math.isnan(x + y) for x, y in pairs) else None


def _mask_box(mask: Mapping[str, Any]) -> BoxPx | None:
    """Return the box around the pixels of a run-length mask, as list or as COCO's string; None if it is malformed."""
    size, counts = mask.get("size"), mask.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(_number(side) >= 1 for side in size):
        return None
    rows = int(size[0])
    counts = _decode_counts(counts) if isinstance(counts, str) else counts
    if not isinstance(counts, list) or not all(type(count) is int and 0 <= count <= 1 << 40 for count in counts):
        return None
    ends_N = np.cumsum(np.array(counts, np.int64)) if len(counts) < 1 << 20 else np.zeros(1, np.int64)
    if not len(ends_N) or ends_N[-1] != rows * int(size[1]):
        return None
    # pixels are counted down the columns; runs of background and object alternate
    start_N, end_N = ends_N[:-1:2], ends_N[1::2]
    start_N, end_N = start_N[: len(end_N)][end_N > start_N], end_N[end_N > start_N]
    if not len(start_N):
        return None
    column_N, last_N = start_N // rows, (end_N - 1) // rows
    is_whole_N = last_N > column_N  # a run over the end of a column
    top_N = np.where(is_whole_N, 0, start_N % rows)
    bottom_N = np.where(is_whole_N, rows, (end_N - 1) % rows + 1)
    return BoxPx(float(column_N.min()), float(top_N.min()), float(last_N.max() + 1), float(bottom_N.max()))


def _decode_counts(text: str) -> list[int] | None:
    """Decode COCO's string of run lengths: 5 bits a letter, the lowest first, from the third run on as differences.

    Source: cocodataset/cocoapi common/maskApi.c rleFrString
    """
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 40:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts


def _unique_name(name: str) -> str | None:
    """Return an image's name in a single folder of all images: its path with `_` between the parts.

    Returns: None for a name that is not a file in the folder.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        return None
    return "_".join(path.with_suffix("").parts)
