"""What `detector valid` writes for the evaluation programs of others: VOC, COCO, ImageNet, BDD and KITTI."""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from darkpy.data.lists.names import COCO_IDS
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, DarkpyWarning
from darkpy.evaluation.detect import DetectOptions, ImageStatus
from darkpy.evaluation.detection_store import DetectionStore, StoredDetection
from darkpy.files import make_folder, write_atomic
from darkpy.network import Network

BDD_NAMES = ("bike", "bus", "car", "motor", "person", "rider", "traffic light", "traffic sign", "train", "truck")
KITTI_NAMES = ("car", "pedestrian", "cyclist")

Files = Iterator[tuple[str, Iterable[str]]]
"""The name of each file in its folder, and its text piece by piece."""


@dataclass(frozen=True, slots=True)
class Results:
    """What there is to be written.

    views: all images of the list. names: of all classes. stem: what file names begin with.
    """

    found: DetectionStore
    views: Sequence[ImageStatus]
    names: Sequence[str]
    dialect: Dialect
    stem: str


def valid_options(network: Network, letterbox: bool | None = None, class_map: tuple[int, ...] = ()) -> DetectOptions:
    """How `detector valid` of the network's fork comes to its boxes.

    letterbox: None as the fork does. class_map: which classes of a tree are wanted (`map=` of a .data file).
    """
    is_pjreddie = network.plan.dialect is Dialect.PJREDDIE
    if letterbox is None:
        letterbox = is_pjreddie or network.plan.net.letter_box
    thresh, nms = (0.005, 0.45) if is_pjreddie else (0.001, 0.6)
    return DetectOptions(thresh=thresh, nms=nms, letterbox=letterbox, class_map=class_map, darknet_order=True)


def write_results(
    kind: str,
    folder: Path,
    found: DetectionStore,
    views: Sequence[ImageStatus],
    names: Sequence[str],
    dialect: Dialect,
    stem: str | None = None,
) -> list[Path]:
    """Write what was found as the files of one `eval=`, each whole or not at all.

    views: all images of the list. names: of all classes. stem: in place of darknet's own name.
    Returns: the files.
    Raises:  DarkpyError when the folder cannot be made, or a file cannot be written.
    Source:  AlexeyAB/darknet src/detector.c validate_detector
    Differs: without any detection the JSON is an empty list; darknet's is broken. ImageNet's file holds all classes of
             the network; darknet reads 200, also where there are fewer.
    """
    default, make = RESULT_FORMATS[kind]
    results = Results(found, views, names, dialect, default if stem is None else stem)
    written = []
    for name, text in make(results):
        path = folder / name
        make_folder(path.parent)
        write_atomic(path, (piece.encode("utf-8", "surrogateescape") for piece in text))
        written.append(path)
    return written


def check_names(kind: str, names: Sequence[str]) -> None:
    """Raises: DarkpyError when files of this kind cannot have these names, or as many classes."""
    most = {"bdd": len(BDD_NAMES), "kitti": len(KITTI_NAMES)}.get(kind)
    if most is not None and len(names) > most:
        raise DarkpyError(f"eval={kind} is for {most} classes at most, the network has {len(names)}")
    bad = next((name for name in names if not name or "/" in name or "\0" in name), None)
    if kind == "voc" and bad is not None:
        raise DarkpyError(
            f"eval=voc writes a file for each class, and {bad!r} cannot be in a file's name",
            hint="rename the class, or choose eval=coco in the .data file",
        )


def image_name(path: str) -> str:
    """The name of an image in result files: that of its file, up to the first dot.

    Source:  AlexeyAB/darknet src/utils.c basecfg
    """
    return re.split(r"[/\\]", path)[-1].partition(".")[0]


def coco_image_id(path: str, dialect: Dialect) -> int | None:
    """The number in an image's name: pjreddie takes what follows the last `_`, AlexeyAB what the name begins with.

    Source:  pjreddie/darknet examples/detector.c get_coco_image_id; AlexeyAB/darknet src/detector.c print_cocos
    Differs: where there is no number, the other fork's rule is tried, then it is None; darknet's is 0. Folders' names
             do not matter; pjreddie's `_` may stand in one.
    """
    name = image_name(path)
    texts = (name.rpartition("_")[2], name)
    for text in texts if dialect is Dialect.PJREDDIE else reversed(texts):
        if number := re.match(r"[0-9]{1,18}", text):
            return int(number[0])
    return None


def _voc(results: Results) -> Files:
    ids = _names(results.views)
    groups = results.found.by_class(len(results.names))
    for name, places in zip(results.names, groups, strict=True):
        rows = results.found.rows(results.views, places, first_pixel=1)
        yield f"{results.stem}{name}.txt", (f"{ids[row.image]} {row.score:f} {_edges(row)}\n" for row in rows)


def _coco(results: Results) -> Files:
    ids = _coco_ids(results.views, results.dialect)
    classes = COCO_IDS if len(results.names) <= len(COCO_IDS) else range(1, len(results.names) + 1)

    def entry(row: StoredDetection) -> str:
        sides = (row.left, row.top, row.right - row.left, row.bottom - row.top)
        box = ", ".join(f"{side:f}" for side in sides)
        numbers = f'"image_id":{ids[row.image]}, "category_id":{classes[row.class_id]}'
        return f'{{{numbers}, "bbox":[{box}], "score":{row.score:f}}}'

    yield f"{results.stem}.json", _array(map(entry, results.found.rows(results.views)))


def _imagenet(results: Results) -> Files:
    rows = results.found.rows(results.views)
    lines = (f"{row.image + 1} {row.class_id + 1} {row.score:f} {_edges(row)}\n" for row in rows)
    yield f"{results.stem}.txt", lines


def _bdd(results: Results) -> Files:
    def entry(row: StoredDetection) -> str:
        name = json.dumps(Path(results.views[row.image].path).name.removesuffix(".jpg"))
        edges = ", ".join(_edges(row).split())
        told = (f'"name":{name}', f'"category":"{BDD_NAMES[row.class_id]}"', f'"bbox":[{edges}]')
        return "\t{\n\t\t" + ",\n\t\t".join((*told, f'"score":{row.score:f}')) + "\n\t}"

    yield f"{results.stem}.json", _array(map(entry, results.found.rows(results.views)))


def _kitti(results: Results) -> Files:
    groups = results.found.by_image(len(results.views))
    for name, places in zip(_names(results.views), groups, strict=True):
        rows = results.found.rows(results.views, places)
        lines = (
            f"{KITTI_NAMES[row.class_id]} -1 -1 -10 {_edges(row)} -1 -1 -1 -1000 -1000 -1000 -10 {row.score:f}\n"
            for row in rows
        )
        yield f"{results.stem}/data/{name}.txt", lines


RESULT_FORMATS: Mapping[str, tuple[str, Callable[[Results], Files]]] = {
    "voc": ("comp4_det_test_", _voc),
    "coco": ("coco_results", _coco),
    "imagenet": ("imagenet-detection", _imagenet),
    "bdd": ("bdd_results", _bdd),
    "kitti": ("kitti_results", _kitti),
}
"""The values of `eval=`: how files are called, and how they are made."""


def _array(entries: Iterable[str]) -> Iterator[str]:
    yield "["
    before = "\n"
    for entry in entries:
        yield before + entry
        before = ",\n"
    yield "\n]\n"


def _edges(row: StoredDetection) -> str:
    return f"{row.left:f} {row.top:f} {row.right:f} {row.bottom:f}"


def _names(views: Sequence[ImageStatus]) -> list[str]:
    names = [image_name(view.path) for view in views]
    _warn_of_twins(names)
    return names


def _coco_ids(views: Sequence[ImageStatus], dialect: Dialect) -> list[int]:
    ids = [coco_image_id(view.path, dialect) for view in views]
    if None in ids:
        path = views[ids.index(None)].path
        message = f"images without a number in their names: {ids.count(None)}, their image_id is 0; the first: {path}"
        warnings.warn(message, DarkpyWarning, stacklevel=2)
    _warn_of_twins([number for number in ids if number is not None])
    return [number or 0 for number in ids]


def _warn_of_twins(ids: Sequence[object]) -> None:
    for name, count in Counter(ids).most_common(1):
        if count > 1:
            message = f"{count} images of the list go by the same name, {name}, in the result files"
            warnings.warn(message, DarkpyWarning, stacklevel=3)
