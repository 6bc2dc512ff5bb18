"""What can be seen of a data set as a whole: its lists, names and classes, and images that are in two lists.

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
from darkpy.diagnostics.checks.duplicate_images import SIDE, find_copies
from darkpy.diagnostics.checks.images import Sample, data_finding
from darkpy.errors import DarkpyError
from darkpy.finding import Cause, Finding, Location, Severity

MOSTLY = 0.5
"""The share of images without objects from which there is hardly anything to learn."""
UNEVEN = 100
"""How many times as many objects the most frequent class may have as the rarest, before that is told."""
SHOWN = 10


def read_list(data: DataFile, key: str, default: str | None = None) -> tuple[list[str], list[Finding]]:
    """The images of a list that DATA names, and what keeps it from being read; neither where it names none."""
    file = data.find(key, default)
    if file is None:
        return [], []
    try:
        return list(map(str, read_image_list(file))), []
    except DarkpyError as error:
        place = str(file) if error.message.startswith(f"{file}: ") else str(data.path)
        return [], [error.as_finding(f"{key}-list", Cause.DATA, Location(place))]


def check_names(data: DataFile, classes: int, heads: str) -> Iterator[Finding]:
    """Whether the files of DATA know as many classes as the network. heads: where it says how many."""
    stated = data.entries.get("classes")
    if stated is not None and stated != str(classes):
        text = f"classes={stated[:20]}, but {heads} has {classes}"
        yield data_finding(
            "classes-count", Location(str(data.path)), text, f"classes={classes}", "the same number in both"
        )
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
        text = f"has names twice: {', '.join(doubled[:SHOWN])}"
        yield data_finding("names-repeated", Location(str(file)), text, "one line for each class")


def check_balance(samples: Sequence[Sample], names: Sequence[str], place: str) -> Iterator[Finding]:
    """How the objects of a list are shared out among classes and images."""
    if not samples:
        return
    boxes = torch.cat([torch.zeros(0, 5), *(one.boxes_N5 for one in samples)])
    count_K = torch.bincount(boxes[:, 4].long(), minlength=len(names))
    labeled = [one for one in samples if one.label is not None]
    bare = [one for one in labeled if not len(one.boxes_N5)]
    if bare:
        text = f"{len(bare)} of {len(labeled)} images have no objects; the first: {bare[0].path}"
        is_most = len(bare) > MOSTLY * len(labeled)
        finding = data_finding("images-empty", Location(place), text, "fewer images without objects")
        yield finding if is_most else replace(finding, severity=Severity.NOTE)
    if not len(boxes):
        return
    absent = [name for name, count in zip(names, count_K.tolist(), strict=True) if not count]
    if absent:
        more = f" and {len(absent) - SHOWN} more" if len(absent) > SHOWN else ""
        text = f"{len(absent)} of {len(names)} classes have no object: {', '.join(absent[:SHOWN])}{more}"
        yield data_finding("classes-absent", Location(place), text, "images of these classes", "a smaller classes=")
    most, least = int(count_K.max()), int(count_K[count_K > 0].min())
    if most > UNEVEN * least:
        rare, often = names[int((count_K == least).nonzero()[0])], names[int(count_K.argmax())]
        text = f"{most} objects are {often} and {least} {rare}: a class this rare is hardly learnt"
        yield replace(data_finding("classes-uneven", Location(place), text), severity=Severity.NOTE)


def check_repeats(samples: Sequence[Sample], place: str) -> Iterator[Finding]:
    """Images that are in a list twice; a fault where their labels are not the same."""
    first: dict[bytes, Sample] = {}
    again = 0
    for one in samples:
        if not one.digest:
            continue
        other = first.setdefault(one.digest, one)
        if other is one or other.path == one.path:
            again += other is not one
        elif one.boxes_N5.shape != other.boxes_N5.shape or not torch.equal(one.boxes_N5, other.boxes_N5):
            text = f"is the same image as {other.path}, with other labels"
            yield data_finding("copy-labelled-otherwise", Location(one.path), text, "take one of them out of the list")
        else:
            again += 1
    if again:
        text = f"{again} of {len(samples)} images are there more than once"
        yield replace(data_finding("images-repeated", Location(place), text), severity=Severity.NOTE)


def check_leaks(train: Sequence[Sample], valid: Sequence[Sample], lists: tuple[str, str]) -> Iterator[Finding]:
    """Images of the validation that are trained on, as the same file, the same bytes or the same image.

    lists: the names of both list files.
    """
    if Path(lists[0]).resolve() == Path(lists[1]).resolve() or (
        train and [one.path for one in train] == [one.path for one in valid]
    ):
        text = "is the list for training, too: what -map and detector map say of it tells nothing of new images"
        yield data_finding("valid-is-train", Location(lists[1]), text, "valid= with images that are not trained on")
        return
    known = {one.digest: one for one in train if one.digest}
    rest: list[Sample] = []
    for one in valid:
        if one.digest in known and one.digest:
            text = f"is in {lists[0]}, too, as {known[one.digest].path}: the same bytes"
            yield data_finding("leak", Location(one.path), text, f"take it out of {lists[1]}")
        else:
            rest.append(one)
    ours = [one for one in train if _is_comparable(one)]
    others = [one for one in rest if _is_comparable(one)]
    pairs = find_copies(_prints(ours), _prints(others), *([one.w / one.h for one in some] for some in (ours, others)))
    for number, other in pairs:
        text = f"shows the same image as {ours[number].path} of {lists[0]}"
        yield data_finding("leak", Location(others[other].path), text, f"take it out of {lists[1]}")


def _is_comparable(one: Sample) -> bool:
    """Smaller images are changed too much by compression, and too much alike to begin with."""
    return one.print_P is not None and min(one.w, one.h) >= 4 * SIDE


def _prints(samples: Sequence[Sample]) -> np.ndarray:
    return np.stack([one.print_P for one in samples if one.print_P is not None]) if samples else np.zeros((0, 0))
