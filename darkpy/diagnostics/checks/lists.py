"""Checks of a data set as a whole: its lists, names and classes, and images that are in two lists.

Letters: N, M images; P numbers of a print; K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from darkpy.data.lists.data_file import DataFile
from darkpy.data.lists.names import read_names
from darkpy.data.lists.paths import read_image_list
from darkpy.diagnostics.checks.duplicate_images import PRINT_SIDE_PX, find_copies
from darkpy.diagnostics.checks.images import InspectedImage, data_finding
from darkpy.errors import DarkpyError
from darkpy.finding import Cause, Finding, Location, Severity

MAX_EMPTY_FRAC = 0.5
"""Fraction of images without objects above which there is hardly anything to learn."""
MAX_CLASS_RATIO = 100
"""Objects of the most frequent class for one of the rarest, above which a note is made."""
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
        return [], [error.as_finding(f"{key}-list", Cause.DATA, Location(place))]


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
        text = f"holds {len(names)} names, but {heads} has {classes} classes"
        yield data_finding(
            "names-count", Location(str(file)), text, f"classes={len(names)} in the heads", f"{classes} lines"
        )
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        text = f"has names twice: {', '.join(doubled[:MAX_NAMES_SHOWN])}"
        yield data_finding("names-repeated", Location(str(file)), text, "one line for each class")


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
        yield replace(data_finding("classes-uneven", Location(place), text), severity=Severity.NOTE)


def check_repeats(images: Sequence[InspectedImage], place: str) -> Iterator[Finding]:
    """Find images that are in a list twice; a warning if their labels differ, else a note."""
    first: dict[bytes, InspectedImage] = {}
    again = 0
    for image in images:
        if not image.digest:
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
        yield replace(data_finding("images-repeated", Location(place), text), severity=Severity.NOTE)


def check_leaks(
    train: Sequence[InspectedImage], valid: Sequence[InspectedImage], lists: tuple[str, str]
) -> Iterator[Finding]:
    """Find images of the validation that are trained on, as the same file, the same bytes or the same image.

    lists: the names of both list files.
    """
    if Path(lists[0]).resolve() == Path(lists[1]).resolve() or (
        train and [image.path for image in train] == [image.path for image in valid]
    ):
        text = "is the training list, too: its mAP says nothing about new images"
        yield data_finding("valid-is-train", Location(lists[1]), text, "valid= with images that are not trained on")
        return
    known = {image.digest: image for image in train if image.digest}
    rest: list[InspectedImage] = []
    for image in valid:
        if image.digest in known and image.digest:
            text = f"is also in {lists[0]}, as {known[image.digest].path}: the same bytes"
            yield data_finding("leak", Location(image.path), text, f"remove it from {lists[1]}")
        else:
            rest.append(image)
    ours = [image for image in train if _is_comparable(image)]
    others = [image for image in rest if _is_comparable(image)]
    pairs = find_copies(
        _prints(ours), _prints(others), *([image.w / image.h for image in images] for images in (ours, others))
    )
    for index, other in pairs:
        text = f"shows the same image as {ours[index].path} of {lists[0]}"
        yield data_finding("leak", Location(others[other].path), text, f"remove it from {lists[1]}")


def _is_comparable(image: InspectedImage) -> bool:
    """True if the image is large enough: compression changes small ones too much, and they are too much alike."""
    return image.print_P is not None and min(image.w, image.h) >= 4 * PRINT_SIDE_PX


def _prints(images: Sequence[InspectedImage]) -> np.ndarray:
    return np.stack([image.print_P for image in images if image.print_P is not None]) if images else np.zeros((0, 0))
