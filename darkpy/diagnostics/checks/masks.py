"""Checks of mask files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from darkpy.data.lists.mask_files import read_masks
from darkpy.data.lists.paths import find_masks, label_nearby, mask_path
from darkpy.errors import DarkpyError
from darkpy.finding import Cause, Finding, Location, Severity, count_text, data_finding

MAX_READ_FILES = 50
"""Mask files that are read before a training, spread over the list."""
MAX_SEARCHED_FILES = 2000
"""Mask files that are read where none of the first ones has a mask, only wrong lines."""
LINE_HINT = "write `class run,run,...` on each line: pixels outside the object, inside, outside, ... row by row"


def check_mask_files(paths: Sequence[str], classes: int, place: Location) -> Iterator[Finding]:
    """Look for the mask files of all images, and read some; an error if no mask can be used."""
    files: dict[str, Path | None] = {path: find_masks(path) for path in paths}
    unlabeled = [path for path, file in files.items() if file is None]
    if len(unlabeled) == len(files):
        yield _no_masks(unlabeled[0])
        return
    if unlabeled:
        message = (
            f"{len(unlabeled)} of {len(files)} images have no mask file, they are skipped; the first: {unlabeled[0]}"
        )
        yield data_finding("labels-missing", place, message)
    existing = [file for file in files.values() if file is not None]
    step = -(-len(existing) // MAX_READ_FILES)
    sample = existing[::step]
    others = (file for index, file in enumerate(existing) if index % step)
    searched = islice(chain(sample, others), MAX_SEARCHED_FILES)
    read, has_mask = 0, False
    wrong: list[str] = []
    for file in searched:
        if read >= len(sample) and (has_mask or not wrong):
            break
        read += 1
        try:
            masks = read_masks(file, classes)
        except DarkpyError as error:
            wrong.append(error.message)
            continue
        wrong += masks.problems[:1]
        has_mask |= bool(masks.masks)
    if wrong:
        count = count_text(read, "mask file")
        if read < len(existing):
            count = f"the {read} mask files read (of {len(existing)})"
        message = f"{len(wrong)} of {count} have wrong lines, which are left out; the first: {wrong[0]}"
        if not has_mask:
            message = f"none of {count} has a mask that can be used; the first problem: {wrong[0]}"
        severity = Severity.WARNING if has_mask else Severity.ERROR
        yield data_finding("mask-files", place, message, LINE_HINT, severity=severity)


def inspect_masks(path: str, classes: int, w: int, h: int) -> Iterator[Finding]:
    """Check the masks of an image of w x h, 0 if it cannot be decoded."""
    try:
        file = read_masks(mask_path(path), classes)
    except DarkpyError as error:
        place, _, message = error.message.partition(": ")
        text = f"{message}; the image is skipped in training"
        hint = "write the file, empty if there are no objects"
        yield data_finding("label-missing", Location.parse(place), text, hint)
        return
    for problem in (file.fitting(w, h) if w else file).problems:
        place, _, message = problem.partition(": ")
        yield data_finding("mask-line", Location.parse(place), message, "correct or delete the line")


def _no_masks(path: str) -> Finding:
    """Name the mask file that was looked for."""
    try:
        expected = mask_path(path)
    except DarkpyError as error:
        return error.as_finding("data", Cause.DATA, Location(path))
    hint = "put them there, one .txt file for each image"
    if nearby := label_nearby(path):
        hint = f"there is {nearby}: if it has masks, move the mask files to {expected.parent}"
    message = f"has no masks at {expected}, nor has any other image of the list"
    return data_finding("labels-absent", Location(path), message, hint, severity=Severity.ERROR)
