"""Reader of PASCAL VOC data sets: a folder of XML files, one per image, and lists of images in ImageSets/Main."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from xml.etree import ElementTree

from darkpy.data.formats.annotations import (
    AnnotatedDataset,
    AnnotatedImage,
    AnnotatedObject,
    BoxPx,
    ImportReport,
    annotated_image,
    path_parts,
    unique_image_names,
)
from darkpy.data.formats.outlines import box_around
from darkpy.data.formats.xml import read_xml
from darkpy.data.lists.paths import find_images_below
from darkpy.data.lists.text_files import read_lines
from darkpy.errors import DarkpyError
from darkpy.files import is_true

_IMAGE_FOLDERS = ("JPEGImages", "images", "Images", "")
_LIST_HINT = "a list of ImageSets/Main has the name of an image on each line"
_CLASS_MARK = re.compile(r"\s(-1|0|1)$")
_ATTRIBUTE_TAGS = ("truncated", "occluded", "attributes", "part")
_ATTRIBUTES_DROPPED = "files have attributes of objects (truncated, occluded, parts, ...), which are dropped"
_BOX_OF_POLYGON = "objects without a box get the one around their polygon"
_ROTATION_DROPPED = "rotated boxes become the boxes around them"


class Corners(Enum):
    """Meaning of xmin, ymin, xmax, ymax.

    DARKNET: as in darknet's script voc_label.py. VOC: as VOC documents them; pixels count from 1 and all four belong
    to the box. EDGES: the edges of the box, from 0.
    """

    DARKNET = "darknet"
    VOC = "voc"
    EDGES = "edges"

    @property
    def offsets(self) -> tuple[int, int]:
        """Return the numbers of the upper left and of the lower right corner of the box from 0 to 0."""
        return _EDGE_OFFSETS[self]

    def to_edges(self, left: float, top: float, right: float, bottom: float) -> BoxPx:
        low, high = self.offsets
        return BoxPx(left - low, top - low, right - high, bottom - high)


_EDGE_OFFSETS = {Corners.DARKNET: (1, 1), Corners.VOC: (1, 0), Corners.EDGES: (0, 0)}


def read_voc(
    folder: Path, corners: Corners = Corners.DARKNET, images: Path | None = None, *, needs_images: bool = True
) -> AnnotatedDataset:
    """Read the images of a folder that contains `Annotations`, or XML files itself, also in folders below it.

    images: folder of the images; without it JPEGImages and other usual ones.
    needs_images: leave out images whose file does not exist.
    Raises: DarkpyError when there is no annotation; and with all faults, when some are broken, have no size (nor their
        images), or have boxes without numbers.
    """
    annotations = folder / "Annotations" if is_true((folder / "Annotations").is_dir) else folder
    files = sorted(file for file in annotations.rglob("*") if file.suffix.lower() == ".xml" and file.name[0] != ".")
    if not files:
        raise DarkpyError(
            f"{folder}: holds no VOC annotations", hint="name the folder that has Annotations in it, or the XML files"
        )
    places = [annotations, *(folder / name for name in _IMAGE_FOLDERS)] if images is None else [images]
    images_by_name: dict[str, Path] = {}
    for place in places:
        for path in find_images_below(place):
            images_by_name.setdefault(_name_below(path, place), path)
    keys = unique_image_names(files)
    annotated: dict[str, AnnotatedImage] = {}
    missing = []
    report = ImportReport()
    for file in files:
        try:
            root = read_xml(file)
        except DarkpyError as error:
            report.faults.append(error.message)
            continue
        size_px, objects = _parse(root, file, corners, report)
        name, named = _name_below(file, annotations), path_parts(_text(root, "filename"))[-1:]
        image = images_by_name.get(name) or next((images_by_name.get(Path(part).stem) for part in named), None)
        if image is None and needs_images:
            missing.append(name)
        elif made := annotated_image(str(file), image or file.with_suffix(".jpg"), size_px, objects, report):
            annotated[keys[file]] = made
    by_name = {_name_below(file, annotations): keys[file] for file in files}
    listed = _read_splits(folder / "ImageSets" / "Main", by_name, report)
    report.check("repair these files, or move them away; an annotation has <size>, and <bndbox> in each <object>")
    missing += sorted({name for names in listed.values() for name in names} - set(keys.values()) - set(missing))
    existing = {split: [name for name in names if name in annotated] for split, names in listed.items()}
    splits = {split: names for split, names in existing.items() if names}
    return AnnotatedDataset(annotated, splits, tuple(missing), losses=report.found_losses())


def _name_below(file: Path, folder: Path) -> str:
    """Return the path of a file in a folder, without its ending."""
    return file.relative_to(folder).with_suffix("").as_posix()


def _read_splits(folder: Path, keys: Mapping[str, str], report: ImportReport) -> dict[str, list[str]]:
    """Read the lists of a folder: the keys of their images, or the name for an unknown one.

    Lists with a mark behind each image are those of a class, and left out. keys: by name.
    """
    splits: dict[str, list[str]] = {}
    for file in sorted(folder.glob("*.txt")) if is_true(folder.is_dir) else ():
        if not file.stat().st_size:
            continue
        try:
            lines = read_lines(file, hint=_LIST_HINT, keep_bytes=True)
        except DarkpyError as error:
            report.faults.append(error.message)
            continue
        filled = [line.strip() for line in lines if line.strip()]
        names = [name for name in filled if name in keys or name[0] != "#"]  # a comment of datumaro's
        is_of_class = all(_CLASS_MARK.search(name) for name in names) and not keys.keys() & set(names)
        if not is_of_class:
            splits[file.stem] = [keys.get(name, name) for name in names]
    return splits


def _parse(
    root: ElementTree.Element, file: Path, corners: Corners, report: ImportReport
) -> tuple[tuple[float, float], list[AnnotatedObject]]:
    """Parse an annotation. Returns: width and height, NaN for none; and the objects."""
    if root.tag != "annotation":
        report.faults.append(f"{file}: begins with <{root.tag[:40]}>, VOC's annotations with <annotation>")
    objects = []
    has_attributes = False
    for number, element in enumerate(root.iterfind("object"), start=1):
        name = " ".join(_text(element, "name").split())
        location = f"{file}: object {number}{f', {name[:40]!r},' if name else ''}"
        if not name:
            report.faults.append(f"{location} has no <name>")
        box = _box(element, corners)
        if box is None:
            report.losses["objects without a box are left out"].append(location.rstrip(","))
        elif not all(map(math.isfinite, box)):
            report.faults.append(f"{location} has a box that is not four numbers")
        else:
            if element.find("bndbox") is None:
                is_rotated = element.find("robndbox") is not None
                report.losses[_ROTATION_DROPPED if is_rotated else _BOX_OF_POLYGON].append(location.rstrip(","))
            has_attributes |= any(
                part.tag in _ATTRIBUTE_TAGS and (len(part) or (part.text or "0").strip() != "0") for part in element
            )
            objects.append(AnnotatedObject(name, box, _text(element, "difficult").lower() in ("1", "true")))
    if has_attributes:
        report.losses[_ATTRIBUTES_DROPPED].append(str(file))
    return (_number(_text(root, "size/width")), _number(_text(root, "size/height"))), objects


def _box(element: ElementTree.Element, corners: Corners) -> BoxPx | None:
    """Return an object's box, or the one around its rotated box or polygon; None for neither.

    Returns: NaN for what is not a number.
    """
    if element.find("bndbox") is not None:
        return corners.to_edges(
            *(_number(_text(element, f"bndbox/{edge}")) for edge in ("xmin", "ymin", "xmax", "ymax"))
        )
    if element.find("robndbox") is not None:  # of roLabelImg, around its center
        keys = ("cx", "cy", "w", "h", "angle")
        x, y, w, h, angle = (_number(_text(element, f"robndbox/{key}")) for key in keys)
        cos, sin = (abs(math.cos(angle)), abs(math.sin(angle))) if math.isfinite(angle) else (math.nan, math.nan)
        half_w, half_h = (w * cos + h * sin) / 2, (w * sin + h * cos) / 2
        return BoxPx(x - half_w, y - half_h, x + half_w, y + half_h)
    polygon = element.find("polygon")
    if polygon is None:
        return None
    # x1, y1, x2, ... of Roboflow, or <pt> of LabelMe
    x_N, y_N = (
        [_number(part.text or "") for part in polygon.iter() if re.fullmatch(rf"{axis}\d*", part.tag)] for axis in "xy"
    )
    if not x_N or len(x_N) != len(y_N):
        return None
    is_finite = all(map(math.isfinite, x_N + y_N))
    return box_around(zip(x_N, y_N, strict=True)) if is_finite else BoxPx(math.nan, math.nan, math.nan, math.nan)


def _text(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
