"""Reader of COCO's JSON: images, annotations and categories in one file."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from darkpy.data.formats.annotations import (
    AnnotatedDataset,
    AnnotatedImage,
    AnnotatedObject,
    BoxPx,
    ImageFinder,
    ImportReport,
    annotated_image,
    join_images,
)
from darkpy.data.formats.json_files import read_json, shown_value, to_pixels, to_text
from darkpy.data.formats.outlines import box_around, box_around_coco_mask
from darkpy.errors import DarkpyError

MAX_FILE_BYTES = 1 << 30  # the largest of COCO's own files has 0.5 GB
_COCO_HINT = "COCO's instances_*.json has images, annotations and categories"
_SPLITS_HINT = "files of one data set have the same categories, other images, and other names"
_COCO_PREFIX = re.compile(r"^(instances|person_keypoints|stuff|image_info|panoptic|captions)_")
_DROPPED_PARTS = {
    "segmentation": "files have segmentations, of which the boxes are kept",
    "keypoints": "files have key points, which are dropped",
    "attributes": "files have attributes of objects, which are dropped",
}


@dataclass(slots=True)
class _CocoFile:
    """Content of a JSON file. images: by their paths, which need not exist."""

    names: tuple[str, ...] = ()
    images: dict[Path, AnnotatedImage] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def read_coco(file: Path, images: Path | None = None, *, needs_images: bool = True) -> AnnotatedDataset:
    """Read the images of a JSON file and the boxes on them.

    images: folder of the images; without it they are looked for beside the file and in COCO's folders.
    needs_images: leave out images whose file does not exist.
    Raises: DarkpyError with all faults, when the file is not COCO's JSON, images have no name or size, or annotations
        have malformed boxes.
    """
    report = ImportReport()
    content = _read_file(file, images, report, needs_images=needs_images)
    report.check(_COCO_HINT)
    return join_images({"": content.images}, content.missing, report, content.names)


def read_coco_splits(files: Sequence[Path], images: Path | None = None) -> AnnotatedDataset:
    """Read several JSON files of one data set, each of which is a split; a single file has no splits.

    A split has the name of its file without `instances_` or `person_keypoints_`, or of its folder if the file is called
    `_annotations...`.

    Raises: DarkpyError as `read_coco`, and when two files have a name, or an image with different objects, in common,
        or different classes.
    """
    report = ImportReport()
    contents = [_read_file(file, images, report, needs_images=True) for file in files]
    hint = _COCO_HINT if report.faults else _SPLITS_HINT
    known: dict[Path, AnnotatedImage] = {}
    named: set[str] = set()
    for file, content in zip(files, contents, strict=True):
        if content.names != contents[0].names and content.names and contents[0].names:  # both are read
            report.faults.append(f"{file}: has other categories than {files[0]}")
        shared = known.keys() & content.images.keys()
        if different := [path for path in shared if known[path] != content.images[path]]:
            counts = f"{len(different)} images are in another file too, with other objects"
            report.faults.append(f"{file}: {counts}, for example {min(different)}")
        elif shared:
            report.losses["files have images that are in another file, too"].append(str(file))
        if _split_name(file) in named:
            report.faults.append(f"{file}: another file is also the split {_split_name(file)!r}")
        known |= content.images
        named.add(_split_name(file))
    report.check(hint)
    splits = {_split_name(file): content.images for file, content in zip(files, contents, strict=True)}
    splits = splits if len(files) > 1 else {"": contents[0].images}
    return join_images(splits, [name for content in contents for name in content.missing], report, contents[0].names)


def _read_file(file: Path, images: Path | None, report: ImportReport, *, needs_images: bool) -> _CocoFile:
    """Read a file, and add its faults to a report; the result is valid only without faults."""
    try:
        listed, annotations, categories = _read(file)
    except DarkpyError as error:
        report.faults.append(error.message)
        return _CocoFile()
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
            owner = f"image {shown_value(image_id)}, category {shown_value(category_id)}"
            report.faults.append(f"{file}: an annotation is for {owner}, which does not exist")
        elif box := _box(annotation, file, report):
            is_crowd = bool(annotation.get("iscrowd") or annotation.get("ignore"))
            objects[image_id].append(AnnotatedObject(names[category_id], box, is_difficult=is_crowd))
    for part, description in _DROPPED_PARTS.items():
        if any(map(_has_values, (annotation.get(part) for annotation in annotations))):
            report.losses[description].append(str(file))
    content = _CocoFile(names=tuple(dict.fromkeys(order)))
    beside, above, split = file.parent, file.parent.parent, _COCO_PREFIX.sub("", file.stem)
    # the given folder, or else where COCO and other writers of its format put the images
    usual = (beside, beside / "images", beside / split, above / split, above / "images" / split, above / "images")
    near = usual if images is None else (images, images / split)
    finder = ImageFinder([beside if images is None else images], report)
    for image, image_id in zip(listed, ids, strict=True):
        name = _text(image, "file_name", file, report)
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if not parts or parts[0] in ("/", "//") or ".." in parts or ":" in parts[0]:
            report.faults.append(f"{file}: {name!r} is not a file in the folder of the images")
            continue
        path = finder.find(name, near)
        if path is None and needs_images:
            content.missing.append(name)
            continue
        path = path or Path(name)
        if path in content.images:
            report.faults.append(f"{file}: two images have the name {name!r}, or would have it")
        size_px = (to_pixels(image.get("width")), to_pixels(image.get("height")))
        location = f"{file}: image {shown_value(image.get('id'))}"
        if made := annotated_image(location, path, size_px, objects[image_id], report):
            content.images[path] = made
    return content


def _has_values(value: object) -> bool:
    """True unless a value is empty, or a mapping or list of empty ones."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    return any(map(bool, inner))


def _split_name(file: Path) -> str:
    name = file.absolute().parent.name if file.stem.startswith("_annotations") else _COCO_PREFIX.sub("", file.stem)
    return name or file.stem


def _read(file: Path) -> tuple[Sequence[Mapping[str, Any]], ...]:
    content = read_json(file, max_bytes=MAX_FILE_BYTES, hint=_COCO_HINT)
    parts = [
        content.get(name) if isinstance(content, dict) else None for name in ("images", "annotations", "categories")
    ]
    if not all(isinstance(part, list) and all(isinstance(entry, dict) for entry in part) for part in parts):
        raise DarkpyError(f"{file}: is not COCO's JSON", hint=_COCO_HINT)
    return tuple(part for part in parts if part is not None)


def _id(entry: Mapping[str, Any], file: Path, report: ImportReport) -> int | str:
    key = entry.get("id")
    if isinstance(key, int | str):
        return key
    report.faults.append(f"{file}: an image or category has no id")
    return f"\0{id(entry)}"


def _text(entry: Mapping[str, Any], key: str, file: Path, report: ImportReport) -> str:
    if text := to_text(entry.get(key)):
        return text
    report.faults.append(f"{file}: {shown_value(entry.get('id'))} has no {key}")
    return f"{id(entry)}"


def _box(annotation: Mapping[str, Any], file: Path, report: ImportReport) -> BoxPx | None:
    """Return an annotation's box, else the one around its segmentation; None for neither."""
    location = f"{file}: annotation {shown_value(annotation.get('id'))}"
    box, segmentation = annotation.get("bbox"), annotation.get("segmentation")
    if box:
        values = [to_pixels(value) for value in box] if isinstance(box, list) and len(box) == 4 else [math.nan]
        if math.isnan(sum(values)):
            report.faults.append(f"{location} has no bbox of four numbers, x, y, width, height")
            return None
        x, y, w, h = values
        if (w > 0 and h > 0) or not segmentation:
            return BoxPx(x, y, x + w, y + h)
    if not segmentation:
        report.losses["annotations without a box are left out"].append(location)
        return None
    edges = box_around_coco_mask(segmentation) if isinstance(segmentation, dict) else _polygon_box(segmentation)
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
    pairs = [(to_pixels(x), to_pixels(y)) for x, y in points]
    return box_around(pairs) if pairs and not any(math.isnan(x + y) for x, y in pairs) else None
