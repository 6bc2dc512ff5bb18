"""Reader of PASCAL VOC data sets: a folder of XML files, one per image, and lists of images in ImageSets/Main."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from xml.etree import ElementTree

from darkpy.data.formats.annotations import AnnotatedDataset, AnnotatedImage, AnnotatedObject, BoxPx
from darkpy.data.formats.xml import read_xml
from darkpy.data.lists.paths import IMAGE_SUFFIXES
from darkpy.data.lists.text_files import read_lines
from darkpy.errors import DarkpyError

MAX_SIDE_PX = 1 << 20
_IMAGE_FOLDERS = ("JPEGImages", "images", "Images", "")


class Corners(Enum):
    """Meaning of xmin, ymin, xmax, ymax.

    DARKNET: as in darknet's script voc_label.py. VOC: as VOC documents them; pixels count from 1 and all four belong
    to the box. EDGES: the edges of the box, from 0.
    """

    DARKNET = "darknet"
    VOC = "voc"
    EDGES = "edges"

    def to_edges(self, left: float, top: float, right: float, bottom: float) -> BoxPx:
        low, high = _EDGE_OFFSETS[self]
        return BoxPx(left - low, top - low, right - high, bottom - high)


_EDGE_OFFSETS = {Corners.DARKNET: (1, 1), Corners.VOC: (1, 0), Corners.EDGES: (0, 0)}


def read_voc(folder: Path, corners: Corners = Corners.DARKNET, *, needs_images: bool = True) -> AnnotatedDataset:
    """Read the images of a folder that contains `Annotations`, or XML files itself.

    needs_images: leave out images whose file does not exist.
    Raises: DarkpyError when there is no annotation, or one is broken, has no size or a box without numbers.
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
    for file in files:
        root = read_xml(file)
        w, h, objects = parse_voc(root, file, corners)
        image = images.get(file.stem) or images.get(Path(_text(root, "filename")).stem)
        if image is None and needs_images:
            missing.append(file.stem)
        else:
            annotated[file.stem] = AnnotatedImage(image or Path(file.stem), w, h, objects)
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
    return AnnotatedDataset(annotated, {split: names for split, names in existing.items() if names}, tuple(missing))


def parse_voc(
    root: ElementTree.Element, file: Path, corners: Corners = Corners.DARKNET
) -> tuple[int, int, tuple[AnnotatedObject, ...]]:
    """Parse an annotation. Returns: width, height and objects.

    Raises: DarkpyError when it is not an annotation, has no size, or has an object without a name or four numbers.
    """
    if root.tag != "annotation":
        raise DarkpyError(f"{file}: begins with <{root.tag[:40]}>, VOC's annotations with <annotation>")
    sides = []
    for name in ("width", "height"):
        side_text = _text(root, f"size/{name}")
        side = _number(side_text)
        if not 1 <= side <= MAX_SIDE_PX:
            raise DarkpyError(
                f"{file}: the image's {name} is {side_text[:40] or 'missing'}, and boxes cannot be scaled without it",
                hint="<size> holds <width> and <height> in pixels",
            )
        sides.append(round(side))
    w, h = sides
    objects = []
    for number, element in enumerate(root.iterfind("object"), start=1):
        name = " ".join(_text(element, "name").split())
        if not name:
            raise DarkpyError(f"{file}: object {number} has no <name>")
        edges = [_number(_text(element, f"bndbox/{edge}")) for edge in ("xmin", "ymin", "xmax", "ymax")]
        if not all(map(math.isfinite, edges)):
            raise DarkpyError(
                f"{file}: object {number}, {name[:40]!r}, has no box", hint="<bndbox> holds xmin, ymin, xmax, ymax"
            )
        is_difficult = _text(element, "difficult") == "1"
        objects.append(AnnotatedObject(name, corners.to_edges(*edges), is_difficult))
    return w, h, tuple(objects)


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
