"""Reader of PASCAL VOC data sets: a folder of XML files, one per image, and lists of images in ImageSets/Main."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
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
    box_around,
)
from darkpy.data.formats.xml import read_xml
from darkpy.data.lists.paths import IMAGE_SUFFIXES
from darkpy.data.lists.text_files import read_lines
from darkpy.errors import DarkpyError

_IMAGE_FOLDERS = ("JPEGImages", "images", "Images", "")


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


def read_voc(folder: Path, corners: Corners = Corners.DARKNET, *, needs_images: bool = True) -> AnnotatedDataset:
    """Read the images of a folder that contains `Annotations`, or XML files itself.

    needs_images: leave out images whose file does not exist.
    Raises: DarkpyError when there is no annotation; and with all faults, when some are broken, have no size (nor their
        images), or have boxes without numbers.
    """
    annotations = folder / "Annotations" if (folder / "Annotations").is_dir() else folder
    files = _files(annotations, ".xml")
    if not files:
        raise DarkpyError(
            f"{folder}: holds no VOC annotations", hint="name the folder that has Annotations in it, or the XML files"
        )
    images: dict[str, Path] = {}
    for image_folder in (annotations, *(folder / name for name in _IMAGE_FOLDERS)):
        for path in _files(image_folder, *IMAGE_SUFFIXES):
            images.setdefault(path.stem, path)
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
        image = images.get(file.stem) or images.get(Path(_text(root, "filename")).stem)
        if image is None and needs_images:
            missing.append(file.stem)
        elif made := annotated_image(str(file), image or file.with_suffix(".jpg"), size_px, objects, report):
            annotated[file.stem] = made
    report.check("repair these files, or move them away; an annotation has <size>, and <bndbox> in each <object>")
    splits: dict[str, list[str]] = {}
    for file in _files(folder / "ImageSets" / "Main", ".txt"):
        if not file.stat().st_size:
            continue
        hint = "a list of ImageSets/Main has the name of an image on each line"
        lines = read_lines(file, hint=hint, keep_bytes=True)
        if all(len(line.split()) < 2 for line in lines):  # lists with two words on a line mark the images of one class
            splits[file.stem] = [line.strip() for line in lines if line.strip()]
    listed = {name for names in splits.values() for name in names}
    missing += sorted(listed - annotated.keys() - set(missing))
    existing = {split: [name for name in names if name in annotated] for split, names in splits.items()}
    splits = {split: names for split, names in existing.items() if names}
    return AnnotatedDataset(annotated, splits, tuple(missing), losses=report.losses)


def _parse(
    root: ElementTree.Element, file: Path, corners: Corners, report: ImportReport
) -> tuple[tuple[float, float], list[AnnotatedObject]]:
    """Parse an annotation. Returns: width and height, NaN for none; and the objects."""
    if root.tag != "annotation":
        report.faults.append(f"{file}: begins with <{root.tag[:40]}>, VOC's annotations with <annotation>")
    objects = []
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
                report.losses["objects without a box get the one around their polygon"].append(location.rstrip(","))
            objects.append(AnnotatedObject(name, box, _text(element, "difficult") == "1"))
    return (_number(_text(root, "size/width")), _number(_text(root, "size/height"))), objects


def _box(element: ElementTree.Element, corners: Corners) -> BoxPx | None:
    """Return an object's box, or the one around its polygon; with NaN for what is not a number; None for neither."""
    if element.find("bndbox") is not None:
        return corners.to_edges(
            *(_number(_text(element, f"bndbox/{edge}")) for edge in ("xmin", "ymin", "xmax", "ymax"))
        )
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


def _files(folder: Path, *suffixes: str) -> Sequence[Path]:
    if not folder.is_dir():
        return ()
    try:
        return sorted(file for file in folder.iterdir() if file.suffix.lower() in suffixes and file.name[0] != ".")
    except OSError as error:
        raise DarkpyError(f"{folder}: cannot be read: {error.strerror}") from error
