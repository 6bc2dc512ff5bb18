"""Result files of `detector valid` for other evaluation programs: VOC, COCO, ImageNet, BDD and KITTI."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from darkpy.data.lists.text_files import COCO_IDS
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, DarkpyWarning
from darkpy.evaluation.detect import DetectOptions, ImageStatus
from darkpy.evaluation.detection_store import DetectionStore, StoredDetection
from darkpy.files import make_folder, write_atomic
from darkpy.network import Network

BDD_NAMES = ("bike", "bus", "car", "motor", "person", "rider", "traffic light", "traffic sign", "train", "truck")
KITTI_NAMES = ("car", "pedestrian", "cyclist")

MAX_NAME_BYTES = 200
"""Longest name of a class or image in a file name: Linux allows 255 bytes, darknet's stem and `.txt` included."""

Files = Iterator[tuple[str, Iterable[str]]]
"""Name of each file in its folder, and its text piece by piece."""


@dataclass(frozen=True, slots=True)
class Results:
    """Contents of the files: images is the whole list, names those of all classes, stem begins the file names."""

    detections: DetectionStore
    images: Sequence[ImageStatus]
    names: Sequence[str]
    dialect: Dialect
    stem: str


def valid_options(network: Network, letterbox: bool | None = None, class_map: tuple[int, ...] = ()) -> DetectOptions:
    """Return the options of the dialect's `detector valid`.

    letterbox: None takes the dialect's. class_map: the classes of a tree to write (`map=` of a .data file).
    """
    is_pjreddie = network.plan.dialect is Dialect.PJREDDIE
    if letterbox is None:
        letterbox = is_pjreddie or network.plan.net.letter_box
    thresh, nms = (0.005, 0.45) if is_pjreddie else (0.001, 0.6)
    return DetectOptions(thresh=thresh, nms=nms, letterbox=letterbox, class_map=class_map, darknet_order=True)


def write_results(
    kind: str,
    folder: Path,
    detections: DetectionStore,
    images: Sequence[ImageStatus],
    names: Sequence[str],
    dialect: Dialect,
    stem: str | None = None,
) -> list[Path]:
    """Write detections as the files of one `eval=`, each atomically.

    kind: a key of RESULT_FORMATS. images: all images of the list. names: of all classes.
    stem: begins the file names; None takes darknet's.
    Returns: the files.
    Raises:  DarkpyError when the folder cannot be created, or a file cannot be written.
    Source:  AlexeyAB/darknet src/detector.c validate_detector
    Differs: files never overwrite each other (`distinct_file_names`), which darknet's of equal class names do.
             Without any detection the JSON is an empty list; darknet's is broken. ImageNet's file holds all classes of
             the network; darknet reads 200, also where there are fewer.
    """
    default, make = RESULT_FORMATS[kind]
    results = Results(detections, images, names, dialect, default if stem is None else stem)
    written = []
    for name, text in make(results):
        path = folder / name
        make_folder(path.parent)
        write_atomic(path, (piece.encode("utf-8", "surrogateescape") for piece in text))
        written.append(path)
    return written


def check_names(kind: str, names: Sequence[str]) -> None:
    """Raises: DarkpyError when files of this kind cannot hold so many classes."""
    limit = {"bdd": len(BDD_NAMES), "kitti": len(KITTI_NAMES)}.get(kind)
    if limit is not None and len(names) > limit:
        raise DarkpyError(f"eval={kind} takes at most {limit} classes, the network has {len(names)}")


def distinct_file_names(names: Sequence[str], kind: str, max_bytes: int = MAX_NAME_BYTES) -> list[str]:
    """Return a part of a file name for each name, all of them distinct, also where upper and lower case are one.

    The first of equal names stays as it is, as darknet writes it; each later one gets `-` and its number (from 0):
    the classes `cat`, `Cat` make `cat` and `Cat-1`. Characters that a file name cannot hold become `_`, and a name
    that is empty or too long is cut and numbered. One warning tells of the changes.

    kind: what the names are of, for the warning ("class").
    """
    taken = {name.casefold() for name in names if _file_name_part(name, max_bytes) == name}
    seen: set[str] = set()
    distinct = []
    for index, name in enumerate(names):
        part = _file_name_part(name, max_bytes)
        if not part or part.casefold() in (seen if part == name else seen | taken):
            suffix = f"-{index}"
            stem = _cut(part, max_bytes - len(suffix))
            part = stem + suffix
            while part.casefold() in seen | taken:
                suffix += "-"
                part = _cut(stem, max_bytes - len(suffix)) + suffix
        seen.add(part.casefold())
        distinct.append(part)
    changed = [(name, part) for name, part in zip(names, distinct, strict=True) if name != part]
    if changed:
        (name, part), *others = changed
        more = f" and {len(others)} more" if others else ""
        message = f"names that repeat or that no file can have: {kind} {name!r} is in the file named {part!r}{more}"
        warnings.warn(message, DarkpyWarning, stacklevel=4)
    return distinct


def _file_name_part(name: str, max_bytes: int) -> str:
    """Replace what a file name cannot hold: separators, what is not printable, on Windows its reserved characters."""
    reserved = '/\\:*?"<>|' if os.name == "nt" else "/"
    is_byte = range(0xDC80, 0xDD00)  # surrogates of undecodable bytes, which a file name may hold
    letters = (
        "_" if letter in reserved or not (letter.isprintable() or ord(letter) in is_byte) else letter for letter in name
    )
    return _cut("".join(letters), max_bytes)


def _cut(text: str, max_bytes: int) -> str:
    """Cut a text to a number of bytes, between two letters."""
    encoded = text.encode("utf-8", "surrogateescape")
    return text if len(encoded) <= max_bytes else encoded[:max_bytes].decode("utf-8", "ignore")


def image_name(path: str) -> str:
    """Name of an image in result files: its file name up to the first dot.

    Source:  AlexeyAB/darknet src/utils.c basecfg
    """
    return re.split(r"[/\\]", path)[-1].partition(".")[0]


def coco_image_id(path: str, dialect: Dialect) -> int | None:
    """Number in an image's name: pjreddie's program reads after the last `_`, AlexeyAB's at the beginning.

    Source:  pjreddie/darknet examples/detector.c get_coco_image_id; AlexeyAB/darknet src/detector.c print_cocos
    Differs: without a number the other dialect's rule is tried, then it is None; darknet's is 0. Only the file
             name is read; pjreddie's program takes a `_` in a folder's name, too.
    """
    name = image_name(path)
    texts = (name.rpartition("_")[2], name)
    for text in texts if dialect is Dialect.PJREDDIE else reversed(texts):
        if number := re.match(r"[0-9]{1,18}", text):
            return int(number[0])
    return None


def _voc(results: Results) -> Files:
    ids = _names(results.images)
    groups = results.detections.by_class(len(results.names))
    parts = distinct_file_names(results.names, "class")
    for part, indices in zip(parts, groups, strict=True):
        rows = results.detections.rows(results.images, indices, first_pixel=1)
        yield f"{results.stem}{part}.txt", (f"{ids[row.image]} {row.score:f} {_edges(row)}\n" for row in rows)


def _coco(results: Results) -> Files:
    ids = [coco_image_id(image.path, results.dialect) for image in results.images]
    if None in ids:
        path = results.images[ids.index(None)].path
        message = f"images without a number in their names: {ids.count(None)}, their image_id is 0; the first: {path}"
        warnings.warn(message, DarkpyWarning, stacklevel=2)
    _warn_of_duplicates([image_id for image_id in ids if image_id is not None])
    # COCO's ids of its 80 classes have gaps; any other classes are numbered from 1
    classes = COCO_IDS if len(results.names) <= len(COCO_IDS) else range(1, len(results.names) + 1)

    def entry(row: StoredDetection) -> str:
        sides = (row.left, row.top, row.right - row.left, row.bottom - row.top)
        box = ", ".join(f"{side:f}" for side in sides)
        numbers = f'"image_id":{ids[row.image] or 0}, "category_id":{classes[row.class_id]}'
        return f'{{{numbers}, "bbox":[{box}], "score":{row.score:f}}}'

    yield f"{results.stem}.json", _array(map(entry, results.detections.rows(results.images)))


def _imagenet(results: Results) -> Files:
    rows = results.detections.rows(results.images)
    lines = (f"{row.image + 1} {row.class_id + 1} {row.score:f} {_edges(row)}\n" for row in rows)
    yield f"{results.stem}.txt", lines


def _bdd(results: Results) -> Files:
    def entry(row: StoredDetection) -> str:
        name = json.dumps(Path(results.images[row.image].path).name.removesuffix(".jpg"))
        edges = ", ".join(_edges(row).split())
        category = BDD_NAMES[row.class_id]
        fields = (f'"name":{name}', f'"category":"{category}"', f'"bbox":[{edges}]', f'"score":{row.score:f}')
        return "\t{\n\t\t" + ",\n\t\t".join(fields) + "\n\t}"

    yield f"{results.stem}.json", _array(map(entry, results.detections.rows(results.images)))


def _kitti(results: Results) -> Files:
    groups = results.detections.by_image(len(results.images))
    parts = distinct_file_names([image_name(image.path) for image in results.images], "image")
    for part, indices in zip(parts, groups, strict=True):
        rows = results.detections.rows(results.images, indices)
        lines = (
            f"{KITTI_NAMES[row.class_id]} -1 -1 -10 {_edges(row)} -1 -1 -1 -1000 -1000 -1000 -10 {row.score:f}\n"
            for row in rows
        )
        yield f"{results.stem}/data/{part}.txt", lines


RESULT_FORMATS: Mapping[str, tuple[str, Callable[[Results], Files]]] = {
    "voc": ("comp4_det_test_", _voc),
    "coco": ("coco_results", _coco),
    "imagenet": ("imagenet-detection", _imagenet),
    "bdd": ("bdd_results", _bdd),
    "kitti": ("kitti_results", _kitti),
}
"""Values of `eval=`: default stem of the file names, and the function that makes the files."""


def _array(entries: Iterable[str]) -> Iterator[str]:
    yield "["
    separator = "\n"
    for entry in entries:
        yield separator + entry
        separator = ",\n"
    yield "\n]\n"


def _edges(row: StoredDetection) -> str:
    return f"{row.left:f} {row.top:f} {row.right:f} {row.bottom:f}"


def _names(images: Sequence[ImageStatus]) -> list[str]:
    names = [image_name(image.path) for image in images]
    _warn_of_duplicates(names)
    return names


def _warn_of_duplicates(ids: Sequence[object]) -> None:
    for name, count in Counter(ids).most_common(1):
        if count > 1:
            message = f"{count} images of the list have the same name in the result files: {name}"
            warnings.warn(message, DarkpyWarning, stacklevel=3)
