"""Reader of YOLO data sets of other programs: images, and text files with boxes or polygons in fractions of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from darkpy.data.formats.annotations import (
    AnnotatedDataset,
    AnnotatedImage,
    AnnotatedObject,
    BoxPx,
    ImportReport,
    unique_image_names,
)
from darkpy.data.formats.outlines import box_around
from darkpy.data.formats.yolo_layout import YoloLayout, find_yolo_label
from darkpy.data.lists.labels import MAX_CLASS, MAX_FILE_BYTES
from darkpy.data.loading.decoding import read_image_size
from darkpy.errors import DarkpyError, ImageError
from darkpy.files import is_file, read_text

MAX_FRACTION = 2.0
"""Larger coordinates are not boxes that extend over the image's edge, but pixels."""
_LABEL_HINT = "a label file has `class x y w h` on each line, in fractions of the image, or a class and a polygon"
_FROM_POLYGONS = "polygons become the boxes around them"
_KEY_POINTS_DROPPED = "objects lose their key points"
_SIXTH_DROPPED = "boxes lose the number behind them, a score or a track"
_NO_LABELS = "images without a label file are taken as images without objects"


def read_yolo(source: Path, names: Sequence[str] = ()) -> AnnotatedDataset:
    """Read the images of a data.yaml, `.data` file, list or folder, and the boxes on them.

    A folder is read by the data.yaml or `.data` file in it, else by its train.txt, valid.txt, ..., else by its folders
    of these names, with or without `images` above or below them; else it is a folder of images without splits.

    names: classes, where the source names none; without either they are named by their numbers.
    Raises: DarkpyError when there are no images or labels; and with all faults, when files cannot be read, or have
        lines that are neither a box nor a polygon.
    """
    report = ImportReport()
    layout = YoloLayout(report)
    layout.open(source)
    hint = layout.hint if report.faults else _LABEL_HINT
    # the labels are still read, so that their faults are reported at once; the classes may be wrong
    names = () if report.faults else layout.names or tuple(names)
    listed = list(dict.fromkeys(image for images in layout.splits.values() for image in images))
    present = [image for image in listed if is_file(image)]
    if not present:
        report.check(hint)
    if listed and not present:
        raise DarkpyError(f"{source}: none of its {len(listed)} images exists", hint=f"the first is {listed[0]}")
    keys = unique_image_names(present)
    label_files = {image: find_yolo_label(image) for image in present}
    if not any(label_files.values()):
        report.check(hint)
        where = f"; those of the first, {present[0]}, are looked for beside it and in `labels`" if present else ""
        raise DarkpyError(f"{source}: no image has labels{where}", hint=_LABEL_HINT)
    images: dict[str, AnnotatedImage] = {}
    for image, label in label_files.items():
        try:
            w, h = read_image_size(image)
        except ImageError as error:
            report.faults.append(error.message)
            continue
        objects: Sequence[AnnotatedObject] = ()
        if label is None:
            report.losses[_NO_LABELS].append(str(image))
        else:
            objects = read_yolo_objects(label, (w, h), names, report, has_key_points=layout.has_key_points)
        images[keys[image]] = AnnotatedImage(image, w, h, tuple(objects))
    report.check(hint)
    if not names:
        used = {int(item.name) for image in images.values() for item in image.objects}
        names = tuple(map(str, range(max(used, default=-1) + 1)))
    splits = {name: [keys[image] for image in members if image in keys] for name, members in layout.splits.items()}
    splits = {name: members for name, members in splits.items() if name and members}
    missing = tuple(str(image) for image in listed if image not in keys)
    return AnnotatedDataset(images, splits, missing, tuple(names), report.losses)


def read_yolo_objects(
    file: Path, size_px: tuple[int, int], names: Sequence[str], report: ImportReport, *, has_key_points: bool
) -> list[AnnotatedObject]:
    """Read the objects of a label file, boxes or polygons; wrong lines are faults."""
    try:
        text = read_text(file, max_bytes=MAX_FILE_BYTES, hint=_LABEL_HINT)
    except DarkpyError as error:
        report.faults.append(error.message)
        return []
    objects = []
    for number, line in enumerate(text.split("\n"), start=1):
        words = line.split()
        if not words:
            continue
        location = f"{file}:{number}"
        try:
            class_value, *values = map(float, words)
        except ValueError:
            report.faults.append(f"{location}: {line.strip()[:60]!r} is not numbers")
            continue
        classes = len(names) or MAX_CLASS
        if not class_value.is_integer() or not 0 <= class_value < classes:
            report.faults.append(f"{location}: class {words[0][:20]} is not from 0 to {classes - 1}")
            continue
        box = _box(values, size_px, location, report, has_key_points=has_key_points)
        if box is not None:
            objects.append(AnnotatedObject(names[int(class_value)] if names else str(int(class_value)), box))
    return objects


def _box(
    values: Sequence[float], size_px: tuple[int, int], location: str, report: ImportReport, *, has_key_points: bool
) -> BoxPx | None:
    """Return the box of the numbers behind a class, in pixels; None with a fault if they are none."""
    count = len(values)
    is_polygon = count >= 6 and count % 2 == 0 and not has_key_points
    if not is_polygon and (count < 4 or (count > 5 and not has_key_points)):
        report.faults.append(f"{location}: {count + 1} numbers, where a box has 5 and a polygon an odd number from 7")
        return None
    if not is_polygon and count > 4:
        report.losses[_KEY_POINTS_DROPPED if has_key_points else _SIXTH_DROPPED].append(location)
    coordinates = values if is_polygon else values[:4]
    if worst := next((value for value in coordinates if not math.isfinite(value) or abs(value) > MAX_FRACTION), 0.0):
        report.faults.append(f"{location}: {worst:g} is not a fraction of the image")
        return None
    w_px, h_px = size_px
    if is_polygon:
        report.losses[_FROM_POLYGONS].append(location)
        left, top, right, bottom = box_around(zip(values[::2], values[1::2], strict=True))
    else:
        x, y, w, h = coordinates
        left, top, right, bottom = x - w / 2, y - h / 2, x + w / 2, y + h / 2
    return BoxPx(left * w_px, top * h_px, right * w_px, bottom * h_px)
