"""Checks of a data set as a whole: its lists, names and classes, and images that are in two lists.

Letters: N, M images; P values of a fingerprint; K classes.

Checks of all label files together, for mistakes that every one of them has.

Letters: N boxes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from darkpy.data.augment.config import DetectionAugmentConfig
from darkpy.data.formats.darknet_writer import IMAGE_FOLDER
from darkpy.data.formats.label_repair import MIN_MISTAKE_FRAC, MIN_PIXEL_VALUE, LabelMistake
from darkpy.data.lists.labels import LabelTable, read_label_table
from darkpy.data.lists.paths import listed_folder, read_image_list
from darkpy.data.lists.text_files import DataFile, blank_lines_text, read_names
from darkpy.data.loading.datasets import DetectionData
from darkpy.data.loading.decoding import read_image_size
from darkpy.diagnostics.checks.duplicate_images import FINGERPRINT_SIDE_PX, find_copies
from darkpy.diagnostics.checks.images import InspectedImage
from darkpy.errors import DarkpyError, ImageError
from darkpy.finding import Cause, Finding, Location, Remedy, Severity, data_finding
from darkpy.training.setup import TrainingSetup

MAX_EMPTY_FRAC = 0.5
"""Fraction of images without objects above which there is hardly anything to learn."""
MAX_CLASS_RATIO = 100
"""Objects of the most frequent class for one of the rarest, above which a note is made."""
MIN_VALID_OBJECTS, MIN_VALID_RATIO = 5, 4
"""Objects of a class in the validation list below which its AP is noise; how many times as many another class has
where that is a defect of the split and not of a small list."""
MAX_NAMES_SHOWN = 10


def read_list(data: DataFile, key: str, default: str | None = None) -> tuple[list[str], list[Finding]]:
    """Read a list that DATA names.

    Returns: the images, and the finding if it cannot be read; two empty lists if DATA names none.
    """
    file = data.find(key, default)
    if file is None:
        return [], []
    try:
        return list(map(str, read_image_list(file))), []
    except DarkpyError as error:
        place = str(file) if error.message.startswith(f"{file}: ") else str(data.path)
        return [], [error.as_finding("image-list", Cause.DATA, Location(place))]


def check_names(data: DataFile, classes: int, heads: str) -> Iterator[Finding]:
    """Check that the files of DATA have as many classes as the network. heads: where the cfg gives the number."""
    stated = data.entries.get("classes")
    if stated is not None and stated != str(classes):
        text = f"classes={stated[:20]}, but {heads} has {classes}"
        yield data_finding("classes-count", Location(str(data.path)), text, f"classes={classes}")
    file = data.find("names")
    if file is None:
        return
    try:
        names = read_names(file)
    except DarkpyError as error:
        yield error.as_finding("names", Cause.DATA, Location(str(file)))
        return
    if len(names) != classes:
        text = f"holds {len(names)} names{blank_lines_text(names)}, but {heads} has {classes} classes"
        yield data_finding(
            "names-count",
            Location(str(file)),
            text,
            f"write {classes} names, one on each line",
            f"classes={len(names)} in the heads, and filters= before them, if no label has other classes",
        )
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        text = f"has names twice: {', '.join(doubled[:MAX_NAMES_SHOWN])}"
        line = next(number for number, name in enumerate(names, 1) if name in names[: number - 1])
        hint = "give each class a name of its own"
        yield data_finding("names-repeated", Location(str(file), line), text, hint)


def check_valid_counts(images: Sequence[InspectedImage], names: Sequence[str], place: str) -> Iterator[Finding]:
    """Find classes with so few objects in the validation list that their AP, a part of the mean, is noise."""
    boxes = torch.cat([torch.zeros(0, 5), *(image.boxes_N5 for image in images)])
    if not len(boxes):
        return
    counts = torch.bincount(boxes[:, 4].long(), minlength=len(names)).tolist()[: len(names)]
    most = max(counts)
    if rare := [f"{name} ({count})" for name, count in zip(names, counts, strict=True) if count < MIN_VALID_OBJECTS]:
        more = f" and {len(rare) - MAX_NAMES_SHOWN} more" if len(rare) > MAX_NAMES_SHOWN else ""
        text = f"{len(rare)} of {len(names)} classes have hardly any object: {', '.join(rare[:MAX_NAMES_SHOWN])}{more};"
        hint = "more images of these classes in valid="
        finding = data_finding("valid-rare", Location(place), f"{text} their AP is noise, and a part of mAP", hint)
        is_small = most < MIN_VALID_OBJECTS * MIN_VALID_RATIO  # the whole list is
        yield replace(finding, severity=Severity.NOTE) if is_small else finding


def check_balance(images: Sequence[InspectedImage], names: Sequence[str], place: str) -> Iterator[Finding]:
    """Check the distribution of objects among classes and images."""
    if not images:
        return
    boxes = torch.cat([torch.zeros(0, 5), *(image.boxes_N5 for image in images)])
    count_K = torch.bincount(boxes[:, 4].long(), minlength=len(names))
    labeled = [image for image in images if image.label is not None]
    empty = [image for image in labeled if not len(image.boxes_N5)]
    if empty:
        text = f"{len(empty)} of {len(labeled)} images have no objects; the first: {empty[0].path}"
        is_most = len(empty) > MAX_EMPTY_FRAC * len(labeled)
        finding = data_finding("images-empty", Location(place), text, "fewer images without objects")
        yield finding if is_most else replace(finding, severity=Severity.NOTE)
    if not len(boxes):
        return
    absent = [name for name, count in zip(names, count_K.tolist(), strict=True) if not count]
    if absent:
        more = f" and {len(absent) - MAX_NAMES_SHOWN} more" if len(absent) > MAX_NAMES_SHOWN else ""
        text = f"{len(absent)} of {len(names)} classes have no object: {', '.join(absent[:MAX_NAMES_SHOWN])}{more}"
        yield data_finding("classes-absent", Location(place), text, "images of these classes", "a smaller classes=")
    most, least = int(count_K.max()), int(count_K[count_K > 0].min())
    if most > MAX_CLASS_RATIO * least:
        rare, often = names[int((count_K == least).nonzero()[0])], names[int(count_K.argmax())]
        text = f"{most} objects are {often} and {least} {rare}: a class this rare is hardly learned"
        yield data_finding("classes-uneven", Location(place), text, severity=Severity.NOTE)


def check_repeats(images: Sequence[InspectedImage], place: str) -> Iterator[Finding]:
    """Find images that are in a list twice; a warning if their labels differ, else a note."""
    first: dict[bytes, InspectedImage] = {}
    again = 0
    for image in images:
        if not image.digest or not image.w:  # images that cannot be read are often the same text
            continue
        other = first.setdefault(image.digest, image)
        if other is image or other.path == image.path:
            again += other is not image
        elif image.boxes_N5.shape != other.boxes_N5.shape or not torch.equal(image.boxes_N5, other.boxes_N5):
            text = f"is the same image as {other.path}, with other labels"
            yield data_finding("copy-labelled-otherwise", Location(image.path), text, "remove one of them")
        else:
            again += 1
    if again:
        text = f"{again} of {len(images)} images are listed more than once"
        yield data_finding("images-repeated", Location(place), text, severity=Severity.NOTE)


def check_leaks(
    train: Sequence[InspectedImage], valid: Sequence[InspectedImage], lists: tuple[str, str]
) -> Iterator[Finding]:
    """Find images of the validation that are trained on, as the same file, the same bytes or the same image.

    lists: the names of both list files.
    """
    if Path(lists[0]).resolve() == Path(lists[1]).resolve() or (
        train and [image.path for image in train] == [image.path for image in valid]
    ):
        text = "is the training list, too: results on it do not show the accuracy on new images"
        yield data_finding("valid-is-train", Location(lists[1]), text, "valid= with images that are not trained on")
        return
    known = {image.digest: image for image in train if image.digest and image.w}
    rest: list[InspectedImage] = []
    for image in valid:
        if image.digest in known and image.digest:
            text = f"is also in {lists[0]}, as {known[image.digest].path}: the same bytes"
            yield data_finding("leak", Location(image.path), text, f"remove it from {lists[1]}")
        else:
            rest.append(image)
    ours = [image for image in train if _is_comparable(image)]
    others = [image for image in rest if _is_comparable(image)]
    aspects = ([image.w / image.h for image in images] for images in (ours, others))
    pairs = find_copies(_fingerprints(ours), _fingerprints(others), *aspects)
    for index, other in pairs:
        text = f"shows the same image as {ours[index].path} of {lists[0]}"
        yield data_finding("leak", Location(others[other].path), text, f"remove it from {lists[1]}")


def _is_comparable(image: InspectedImage) -> bool:
    """True if the image is large enough: compression changes small ones too much, and they are too much alike."""
    return image.fingerprint_P is not None and min(image.w, image.h) >= 4 * FINGERPRINT_SIDE_PX


def _fingerprints(images: Sequence[InspectedImage]) -> np.ndarray:
    fingerprints = [image.fingerprint_P for image in images if image.fingerprint_P is not None]
    return np.stack(fingerprints) if images else np.zeros((0, 0))


FINDING_NAME = "labels-unusable"
MAX_FILES = 2000
"""Label files that are read first: spread over the list, they show a systematic mistake."""
MIN_CORNER_BOXES = 5
"""Boxes over the image's edge that distinguish corners from centers: centers have hardly any."""
MIN_CORNER_FRAC = 0.01
"""The same as a fraction of all boxes."""
EDGE_TOLERANCE_FRAC = 0.02
MIN_PERCENT_BOXES = 20
"""Boxes without a side beyond 100 that distinguish percent from pixels, in an image of MIN_PERCENT_SIDE_PX and more."""
MIN_PERCENT_SIDE_PX = 150
MIN_PROBLEMS = 5
"""Wrong lines from which they may be systematic."""
_LINE_HINT = (
    "write `class x y w h` on each line, in UTF-8, the class as a number from 0, with a point before the decimals; the "
    "program that wrote the labels may have an option for it"
)


class _Mistake(NamedTuple):
    """Systematic mistake. first: index of the first box with it. repair: its kind, if a command corrects it."""

    first: int
    message: str
    hints: tuple[str, ...]
    repair: LabelMistake | None = None


def check_labels(setup: TrainingSetup) -> Iterator[Finding]:
    """Find a mistake of all labels; an error if no examined image has a usable object."""
    dataset = setup.source.dataset
    if not isinstance(dataset, DetectionData):
        return
    config = dataset.augment_config
    step = -(-len(setup.paths) // MAX_FILES)
    paths = setup.paths[::step]
    table = read_label_table(paths, Path(), config.dialect)
    is_usable = _has_usable_box(table, config)
    if step > 1 and not is_usable:
        paths = setup.paths
        table = read_label_table(paths, Path(), config.dialect)
        is_usable = _has_usable_box(table, config)
    label_count = len(table.files) - len(table.missing)
    if not label_count:  # `check_files` finds it
        return
    mistake = _find_mistake(table, paths, config.classes)
    if mistake is None and is_usable and len(table.problems) >= max(MIN_PROBLEMS, MIN_MISTAKE_FRAC * label_count):
        reason = f"{len(table.problems)} problems in {label_count} label files"
        place = Location(str(setup.data.path))
        yield data_finding(FINDING_NAME, place, f"{reason}; the first: {table.problems[0]}", _LINE_HINT)
        return
    if mistake is None and is_usable:
        return
    file = table.files[table.image_N[mistake.first]] if mistake else str(setup.data.path)
    if mistake is None:
        hint = "label the objects: `class x y w h` on each line"
        if len(table):
            reason = f"none of the {len(table)} boxes is inside its image with a size and a class of the network"
        elif table.problems:
            reason = f"no line of the label files is `class x y w h`; the first: {table.problems[0]}"
            hint = _LINE_HINT
        else:
            reason = f"all {label_count} label files are empty"
        mistake = _Mistake(0, reason, (hint,))
    message, hints = mistake.message, mistake.hints
    if not is_usable:
        message = f"no image of the list has a usable object: {message}"
        hints = (*hints, "--allow-empty trains anyway")
    severity = Severity.WARNING if is_usable else Severity.ERROR
    finding = data_finding(FINDING_NAME, Location(file), message, *hints, severity=severity)
    yield replace(finding, remedies=_repair_remedies(setup.data.path, mistake.repair))


def _repair_remedies(data: Path, mistake: LabelMistake | None) -> tuple[Remedy, ...]:
    """Return the command that writes a corrected data set: beside the `.data` file, else in the working directory.

    Its folder does not exist, and both darknets find labels in it.
    """
    if mistake is None or not data.is_file():
        return ()
    names = (f"{data.stem}-repaired", f"{data.stem}-repaired-2", "repaired")
    for folder in (*map(data.with_name, names), *map(Path, names)):
        try:
            listed_folder(folder, f"{IMAGE_FOLDER}/a.jpg")
        except DarkpyError:
            continue
        if not folder.exists():
            command = ("darkpy", "dataset", "repair", str(data), "--mistake", mistake.value, "--out", str(folder))
            return (Remedy(command=command),)
    return ()


def _has_usable_box(table: LabelTable, config: DetectionAugmentConfig) -> bool:
    """True if training would use one of the boxes."""
    x_N, y_N, w_N, h_N = table.box_N4.T
    is_corner_N = (x_N == 0) & (y_N == 0)
    reach_N = np.maximum(np.abs(x_N - 0.5) - w_N / 2, np.abs(y_N - 0.5) - h_N / 2)
    is_box_N = (w_N > 0) & (h_N > 0) & (reach_N <= 0.5) & ~is_corner_N
    if config.allow_class_only:
        is_box_N |= is_corner_N
    return bool((is_box_N & (table.class_N < config.classes)).any())


def _are_percentages(table: LabelTable, paths: Sequence[str]) -> bool:
    """True if no box reaches beyond 100, although the image of the one that reaches farthest is larger."""
    x_N, y_N, w_N, h_N = table.box_N4.T
    reach_N = np.maximum(x_N + w_N / 2, y_N + h_N / 2)
    if len(table) < MIN_PERCENT_BOXES or reach_N.max() > 100 * (1 + EDGE_TOLERANCE_FRAC):
        return False
    try:
        size_px = read_image_size(Path(paths[table.image_N[reach_N.argmax()]]))
    except ImageError:
        return False
    return min(size_px) >= MIN_PERCENT_SIDE_PX


def _find_mistake(table: LabelTable, paths: Sequence[str], classes: int) -> _Mistake | None:
    if not len(table):
        return None
    total = f"of {len(table)} boxes"
    x_N, y_N, w_N, h_N = table.box_N4.T
    is_ordered = bool((w_N > x_N).all() and (h_N > y_N).all())
    is_pixel_N = table.box_N4.max(axis=1) > MIN_PIXEL_VALUE
    if is_pixel_N.mean() >= MIN_MISTAKE_FRAC:
        message = f"boxes in pixels instead of fractions of the image: {is_pixel_N.sum()} {total} are"
        hint, kind = "divide x and w by the image's width, y and h by its height", LabelMistake.PIXELS
        if is_ordered and len(table) >= MIN_CORNER_BOXES:
            message = f"corners in pixels instead of centers and sizes: {is_pixel_N.sum()} {total} are"
            hint, kind = f"{_CORNER_HINT}; then {hint}", LabelMistake.CORNER_PIXELS
        elif _are_percentages(table, paths):
            message = f"boxes in percent instead of fractions of the image: {is_pixel_N.sum()} {total} are"
            hint, kind = "divide x, y, w and h by 100", LabelMistake.PERCENT
        return _Mistake(_first(is_pixel_N), message, (hint,), kind)
    is_beyond_N = table.class_N >= classes
    if is_beyond_N.any() and table.class_N.min() == 1 and table.class_N.max() == classes:
        labeled, known = (f"1 to {classes}", f"0 to {classes - 1}") if classes > 1 else ("class 1", "class 0 only")
        message = f"classes are counted from 1: labels have {labeled}, and the network has {known}"
        hint = "subtract 1 from the class in every label file"
        return _Mistake(_first(is_beyond_N), message, (hint,), LabelMistake.CLASSES_FROM_1)
    if is_beyond_N.mean() >= MIN_MISTAKE_FRAC:
        message = f"{is_beyond_N.sum()} {total} have classes beyond the network's last, {classes - 1}"
        hints = ("count the classes from 0", f"a larger classes= than {classes} in the heads, and filters= before them")
        return _Mistake(_first(is_beyond_N), message, hints)
    is_over_start_N = np.minimum(x_N - w_N / 2, y_N - h_N / 2) < -EDGE_TOLERANCE_FRAC
    is_over_end_N = np.maximum(x_N + w_N / 2, y_N + h_N / 2) > 1 + EDGE_TOLERANCE_FRAC
    is_over_N = is_over_start_N | is_over_end_N
    if is_ordered and _is_many(is_over_N):
        message = "boxes look like corners x1 y1 x2 y2 instead of centers:"
        message = f"{message} {is_over_N.sum()} {total} reach over the edge"
        return _Mistake(_first(is_over_N), message, (_CORNER_HINT,), LabelMistake.CORNERS)
    is_inside = bool((np.maximum(x_N + w_N, y_N + h_N) <= 1 + EDGE_TOLERANCE_FRAC).all())
    if is_inside and _is_many(is_over_start_N):
        message = (
            f"x and y look like top left corners instead of centers: {is_over_start_N.sum()} {total} reach over the"
            " left or top edge, none over the others"
        )
        return _Mistake(_first(is_over_start_N), message, ("add w / 2 to x and h / 2 to y",), LabelMistake.TOP_LEFT)
    return None


_CORNER_HINT = "write (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1"


def _is_many(is_over_N: NDArray[np.bool_]) -> bool:
    return bool(is_over_N.sum() >= MIN_CORNER_BOXES and is_over_N.mean() >= MIN_CORNER_FRAC)


def _first(is_true_N: NDArray[np.bool_]) -> int:
    return int(is_true_N.argmax())
