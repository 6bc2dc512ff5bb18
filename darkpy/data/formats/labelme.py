"""Reader of LabelMe's JSON: one file for each image, with shapes, and often with the image itself."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkpy.data.formats.annotations import (
    AnnotatedDataset,
    AnnotatedImage,
    AnnotatedObject,
    EmbeddedImage,
    ImageFile,
    ImageFinder,
    ImportReport,
    annotated_image,
    join_images,
)
from darkpy.data.formats.json_files import read_json, shown_value, to_pixels, to_points, to_text
from darkpy.data.formats.outlines import box_around, box_around_ellipse
from darkpy.errors import DarkpyError, ImageError
from darkpy.files import is_true

MAX_FILE_BYTES = 1 << 28  # it may hold an image in base64
_LABELME_HINT = "a file of LabelMe has imagePath, and shapes with label, points and shape_type"
_MIN_POINTS = {"rectangle": 2, "circle": 2, "mask": 2, "point": 1, "points": 1}
_UNEXTENDED_TYPES = ("point", "points")
_SHAPES_TO_BOXES = "shapes that are not upright rectangles become the boxes around them"
_POINTS_DROPPED = "points, which have no size, are left out"
_GROUPS_JOINED = "groups of shapes with one label become one box each"
_ATTRIBUTES_DROPPED = "shapes lose their flags, description or attributes"
_FLAGS_DROPPED = "images lose their flags, which are not objects"
_OTHER_JSON = "JSON files without shapes are left out"


def read_labelme(source: Path, images: Path | None = None) -> AnnotatedDataset:
    """Read a JSON file, or those in a folder and the folders below it.

    images: folder of the images; without it they are looked for where the files name them, and in `source`.
    Raises: DarkpyError when there is no file; and with all faults, when files are broken, two are of one image, or
        images have no size.
    """
    report = ImportReport()
    is_folder = is_true(source.is_dir)
    files = sorted(path for path in source.rglob("*.json") if path.name[0] != ".") if is_folder else [source]
    if not files:
        raise DarkpyError(f"{source}: no JSON file in this folder", hint=_LABELME_HINT)
    root = source if is_folder else source.parent
    finder = ImageFinder([root] if images is None else [images], report)
    annotated: dict[Path, AnnotatedImage] = {}
    owners: dict[Path, Path] = {}
    missing: list[str] = []
    for file in files:
        try:
            content = read_json(file, max_bytes=MAX_FILE_BYTES, hint=_LABELME_HINT)
        except DarkpyError as error:
            report.faults.append(error.message)
            continue
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            report.losses[_OTHER_JSON].append(str(file))
            continue
        labelme = _LabelmeFile(file, content, report)
        objects = tuple(labelme.objects())
        image = labelme.find_image(finder)
        if image is None:
            missing.append(str(file))
            continue
        path = image if isinstance(image, Path) else image.path
        if (owner := owners.setdefault(path, file)) != file:
            report.faults.append(f"{file}: its image, {path}, is also that of {owner}")
        sides = content.get("imageWidth"), content.get("imageHeight")
        # files of the first versions have no size
        size_px = None if sides == (None, None) else (to_pixels(sides[0]), to_pixels(sides[1]))
        if made := annotated_image(str(file), image, size_px, objects, report):
            annotated[path] = made
    if len(report.losses[_OTHER_JSON]) == len(files):
        report.faults.append(f"{source}: is not LabelMe's JSON: no file has shapes")
    report.check(_LABELME_HINT)
    return join_images({"": annotated}, missing, report)


@dataclass(frozen=True, slots=True)
class _LabelmeFile:
    """A file of LabelMe; its faults are added to a report."""

    path: Path
    content: Mapping[str, Any]
    report: ImportReport

    def find_image(self, finder: ImageFinder) -> ImageFile | None:
        """Find the image: by its path, which is relative to the file, else in the file, else by the file's name."""
        name = self.content.get("imagePath")
        if isinstance(name, str) and (path := finder.find(name, [self.path.parent, self.path.parent.parent])):
            return path
        data = self.content.get("imageData")
        if not isinstance(data, str) or not data:
            return finder.find_stem(self.path.stem)
        suffix = ".png" if data.startswith("iVBOR") else ".jpg"
        path = self.path

        def read() -> bytes:
            try:
                content = read_json(path, max_bytes=MAX_FILE_BYTES, hint=_LABELME_HINT)
                return base64.b64decode(content["imageData"], validate=True)
            except (binascii.Error, DarkpyError, KeyError, TypeError, ValueError) as error:
                raise ImageError(f"{path}: imageData is not an image in base64") from error

        return EmbeddedImage(path.with_suffix(suffix), read)

    def objects(self) -> Iterator[AnnotatedObject]:
        """Yield the objects; shapes of one group and label are one object, as in LabelMe's own conversions."""
        if _has_content(self.content.get("flags")):
            self.report.losses[_FLAGS_DROPPED].append(str(self.path))
        groups: dict[object, list[AnnotatedObject]] = {}
        for number, shape in enumerate(self.content["shapes"], start=1):
            location = f"{self.path}: shape {number}"
            item = self.object(shape, location) if isinstance(shape, dict) else None
            if not isinstance(shape, dict):
                self.report.faults.append(f"{location} is {shown_value(shape)}")
            if item is None:
                continue
            group = shape.get("group_id")
            key = (item.name, group) if isinstance(group, int | str) and group != "" else number
            groups.setdefault(key, []).append(item)
        for members in groups.values():
            if len(members) > 1:
                self.report.losses[_GROUPS_JOINED].append(f"{self.path} ({members[0].name})")
            corners = [corner for item in members for corner in (item.box[:2], item.box[2:])]
            yield members[0]._replace(box=box_around(corners), is_difficult=all(item.is_difficult for item in members))

    def object(self, shape: Mapping[str, Any], location: str) -> AnnotatedObject | None:
        """Convert a shape; None for one without a size, or that is a fault."""
        name, points = to_text(shape.get("label")), to_points(shape.get("points"))
        kind = shape.get("shape_type") or "polygon"  # files of the first versions have polygons only
        if not name:
            self.report.faults.append(
                f"{location} has the label {shown_value(shape.get('label'))}, which is not a name"
            )
        if not isinstance(kind, str) or len(points) < _MIN_POINTS.get(kind, 2):
            shown = shown_value(shape.get("points"))
            self.report.faults.append(
                f"{location}, {shown_value(kind)}, has points {shown}, not enough pairs of numbers"
            )
            return None
        if kind in _UNEXTENDED_TYPES:
            self.report.losses[_POINTS_DROPPED].append(location)
            return None
        if any(map(_has_content, (shape.get("flags"), shape.get("attributes"), shape.get("description")))):
            self.report.losses[_ATTRIBUTES_DROPPED].append(location)
        box = box_around(points)
        corners = {(x, y) for x in (box.left, box.right) for y in (box.top, box.bottom)}
        if kind != "rectangle" or not corners.issuperset(points):
            self.report.losses[_SHAPES_TO_BOXES].append(location)
        if kind == "circle":  # its center, and a point on it
            radius = math.dist(points[0], points[1])
            box = box_around_ellipse(*points[0], radius, radius)
        elif kind == "mask" and all(value.is_integer() for value in box):  # the first and the last of its pixels
            box = box._replace(right=box.right + 1, bottom=box.bottom + 1)
        return AnnotatedObject(name, box, is_difficult=shape.get("difficult") is True)


def _has_content(value: object) -> bool:
    """True unless a value is empty, or a mapping to empty ones, such as flags that are not set."""
    return any(value.values()) if isinstance(value, dict) else bool(value)
