"""Reader of KITTI's detection data: folders label_2 of text files, and image_2 of images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from darkpy.data.formats.annotations import (
    AnnotatedDataset,
    AnnotatedImage,
    AnnotatedObject,
    BoxPx,
    ImageFinder,
    ImportReport,
    annotated_image,
    join_images,
)
from darkpy.data.lists.labels import MAX_FILE_BYTES
from darkpy.data.lists.paths import find_images_below
from darkpy.data.lists.text_files import read_lines
from darkpy.errors import DarkpyError
from darkpy.files import is_true, read_text

LABEL_FOLDERS, IMAGE_FOLDERS = ("label_2", "labels"), ("image_2", "images")
"""The first of each is KITTI's, the second TAO's."""
UNLABELED_REGION = "DontCare"
FIELD_COUNT = 15
"""Type, truncation, occlusion, angle, 4 numbers of the box, 7 of the object in space; a score may follow."""
_KITTI_HINT = "a line has type, truncated, occluded, alpha, left, top, right, bottom, and 7 numbers in meters"
_UNLABELED_REGIONS = f"regions of the type {UNLABELED_REGION} are left out: detections in them will count as wrong"
_SPACE_DROPPED = "objects lose truncation, occlusion, and their size and place in space"
_NO_LABELS = "images without a label file are left out"


def read_kitti(source: Path, images: Path | None = None) -> AnnotatedDataset:
    """Read a folder with label_2 and image_2 in it or below it; several, as in train and val, are splits.

    images: folder of the images. The lists of a folder ImageSets are splits, too.
    Raises: DarkpyError when there is no label file; and with all faults, when lines are malformed or images cannot be
        read.
    """
    report = ImportReport()
    named = [path for name in LABEL_FOLDERS for path in sorted(source.rglob(name)) if is_true(path.is_dir)]
    folders = [folder for folder in named or [source] if any(folder.glob("*.txt"))]
    if not folders:
        hint = "name the folder that has label_2 in it"
        raise DarkpyError(f"{source}: no label file in label_2 or labels", hint=hint)
    splits: dict[str, dict[Path, AnnotatedImage]] = {}
    missing: list[str] = []
    for folder in folders:
        beside = [folder.with_name(name) for name in IMAGE_FOLDERS if is_true(folder.with_name(name).is_dir)]
        places = [images] if images else (beside or [folder])
        finder = ImageFinder(places, report)
        members = splits.setdefault(folder.parent.name if len(folders) > 1 else "", {})
        files = sorted(folder.glob("*.txt"))
        for file in files:
            objects = tuple(_objects(file, report))
            if (path := finder.find_stem(file.stem)) is None:
                missing.append(str(file))
            elif made := annotated_image(str(file), path, None, objects, report):
                members[path] = made
        stems = {file.stem for file in files}
        unlabeled = [path for place in places for path in find_images_below(place) if path.stem not in stems]
        report.losses[_NO_LABELS] += map(str, unlabeled)
    if len(folders) == 1:
        splits = _listed_splits(source, splits[""], report)
    report.check(_KITTI_HINT)
    return join_images(splits, missing, report)


def _listed_splits(
    source: Path, images: dict[Path, AnnotatedImage], report: ImportReport
) -> dict[str, dict[Path, AnnotatedImage]]:
    """Divide images by the lists of a folder ImageSets, of file names without ending; no list is the split ``."""
    by_stem = {path.stem: path for path in images}
    folders = [folder / "ImageSets" for folder in (source, source.parent)]
    files = sorted(file for folder in folders if is_true(folder.is_dir) for file in folder.glob("*.txt"))
    lists: dict[str, list[str]] = {}
    for file in files:
        try:
            lists[file.stem] = read_lines(file, hint="a list has an image's name on each line")
        except DarkpyError as error:
            report.faults.append(error.message)
    found = {key: [by_stem[name] for name in map(str.strip, lines) if name in by_stem] for key, lines in lists.items()}
    if len(images) < sum(map(len, found.values())):  # trainval, perhaps
        found = {key: paths for key, paths in found.items() if key in ("train", "val", "test")}
    return {key: {path: images[path] for path in paths} for key, paths in found.items() if paths} or {"": images}


def _objects(file: Path, report: ImportReport) -> Iterator[AnnotatedObject]:
    """Yield the objects of a label file."""
    try:
        text = read_text(file, max_bytes=MAX_FILE_BYTES, hint=_KITTI_HINT)
    except DarkpyError as error:
        report.faults.append(error.message)
        return
    for number, line in enumerate(text.split("\n"), start=1):
        words = line.split()
        if not words:
            continue
        location = f"{file}:{number}"
        # a type of several words stands before the numbers, too
        has_score = len(words) == FIELD_COUNT + 1 and math.isfinite(_number(words[1]))
        count = FIELD_COUNT if has_score else FIELD_COUNT - 1
        name, values = " ".join(words[:-count]), [_number(word) for word in words[-count:]]
        if len(words) > FIELD_COUNT + 1 and all(word.lstrip("-").isdecimal() for word in words[:2]):
            report.faults.append(f"{location}: begins with a frame and a track, as label_02 of KITTI's tracking")
        elif not all(map(math.isfinite, values)) or not name or any(map(math.isfinite, map(_number, words[1:-count]))):
            report.faults.append(f"{location}: {line.strip()[:60]!r} is not a type and {FIELD_COUNT - 1} numbers")
        elif name == UNLABELED_REGION:
            report.losses[_UNLABELED_REGIONS].append(location)
        else:
            report.losses[_SPACE_DROPPED].append(location)
            yield AnnotatedObject(name, BoxPx(*values[3:7]))


def _number(word: str) -> float:
    """Parse a number; NaN for anything else."""
    try:
        return float(word)
    except ValueError:
        return math.nan
