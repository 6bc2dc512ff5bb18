"""Reader of Open Images' CSV: a box on each line, in fractions of the image. Large files are read as streams."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from darkpy.errors import DarkpyError
from darkpy.files import open_regular

BOX_COLUMNS = ("XMin", "XMax", "YMin", "YMax")
MASK_BOX_COLUMNS = tuple(f"Box{column}" for column in BOX_COLUMNS)
"""Columns of a file of segmentations."""
MAX_FAULTS_PER_FILE = 20
MAX_LINE_LETTERS = 1 << 16
_ATTRIBUTE_COLUMNS = ("IsOccluded", "IsTruncated", "IsDepiction", "IsInside")
_BOX_HINT = "a file of boxes begins with ImageID,...,LabelName,...,XMin,XMax,YMin,YMax,..."
_CLASS_HINT = "a file of classes has LabelName,DisplayName on each line, such as /m/01yrx,Cat"
_GROUPS_KEPT = "groups of objects (IsGroupOf) become difficult ones"
_ATTRIBUTES_DROPPED = f"objects lose attributes ({', '.join(_ATTRIBUTE_COLUMNS)})"


def read_openimages(
    files: Sequence[Path], images: Path | None = None, classes: Path | None = None, keep: Collection[str] = ()
) -> AnnotatedDataset:
    """Read files of boxes, each of which is a split, such as train-annotations-bbox.csv; a single one has no splits.

    Boxes of missing images are skipped, as the data set is rarely complete.

    images: folder of the images; without it they are looked for beside the files, and beside their folder.
    classes: file of the class names; without it class-descriptions*.csv beside the files.
    keep: names of the only classes to read; all if empty.
    Raises: DarkpyError with all faults, when files cannot be read, lines are malformed, or images have no size.
    """
    report = ImportReport()
    beside = dict.fromkeys(file.parent for file in files)
    class_files = [path for folder in beside for path in sorted(folder.glob("*class-descriptions*.csv"))]
    class_files = class_files[:1] if classes is None else [classes]
    class_names = read_class_names(class_files[0], report) if class_files else {}
    folders = [images] if images else [*beside, *(folder.parent / "images" for folder in beside)]
    finder = ImageFinder(folders, report)
    splits: dict[str, dict[Path, AnnotatedImage]] = {}
    missing: list[str] = []
    owners: dict[Path, Path] = {}
    for file in files:
        boxes: defaultdict[Path, list[AnnotatedObject]] = defaultdict(list)
        for path, item in _BoxTable(file, class_names, report).rows(finder, missing):
            members = boxes[path]
            if not keep or item.name in keep:
                members.append(item)
        # the split of oidv6-train-annotations-bbox.csv is train
        words = file.stem.partition("-annotations")[0].split("-")
        name = "_".join(word for word in words if not word.startswith("oidv")) if len(files) > 1 else ""
        annotated = splits.setdefault(name, {})
        for path, objects in boxes.items():
            if (owner := owners.setdefault(path, file)) != file:
                report.faults.append(f"{file}: the image {path} is also in {owner}")
            elif made := annotated_image(f"{file}: {path.stem}", path, None, objects, report, in_fractions=True):
                annotated[path] = made
    report.check(_BOX_HINT)
    objects_found = (item for members in splits.values() for image in members.values() for item in image.objects)
    used = {item.name for item in objects_found}
    order = dict.fromkeys([*class_names.values(), *sorted(used)])
    return join_images(splits, missing, report, [name for name in order if name in used])


def read_lines_of_csv(file: Path, hint: str) -> Iterator[list[str]]:
    """Yield the words of each line of a CSV file, without reading it whole. Raises: DarkpyError."""
    try:
        with open_regular(file) as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
            yield from csv.reader(iter(lambda: text.readline(MAX_LINE_LETTERS), ""), strict=True)
    except OSError as error:
        raise DarkpyError(f"{file}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DarkpyError(f"{file}: is not UTF-8 text", hint=hint) from error
    except csv.Error as error:
        raise DarkpyError(f"{file}: is not CSV: {error}", hint=hint) from error


def read_class_names(file: Path, report: ImportReport) -> dict[str, str]:
    """Read the name of each class by its identifier, such as /m/01yrx; wrong lines are faults."""
    names: dict[str, str] = {}
    try:
        for number, words in enumerate(read_lines_of_csv(file, _CLASS_HINT), start=1):
            if len(words) < 2 or not words[1].strip() or not words[1].isprintable():
                shown = ",".join(words)[:60]
                report.faults.append(f"{file}:{number}: {shown!r} is not a class and its name")
            else:
                names[words[0].strip()] = words[1].strip()
    except DarkpyError as error:
        report.faults.append(error.message)
    return names


@dataclass(slots=True)
class _BoxTable:
    """File of boxes; malformed lines are faults of a report. class_names: by identifier."""

    path: Path
    class_names: Mapping[str, str]
    report: ImportReport
    wrong_lines: int = 0

    def rows(self, finder: ImageFinder, missing: list[str]) -> Iterator[tuple[Path, AnnotatedObject]]:
        """Yield image and object of each line, its box in fractions; images that are not there are added to a list."""
        try:
            lines = read_lines_of_csv(self.path, _BOX_HINT)
            names = [column.strip() for column in next(lines, [])]
            header = {name: index for index, name in reversed(list(enumerate(names)))}  # the first of equal ones
            box_columns = MASK_BOX_COLUMNS if MASK_BOX_COLUMNS[0] in header else BOX_COLUMNS
            absent = [column for column in ("ImageID", "LabelName", *box_columns) if column not in header]
            if absent:
                raise DarkpyError(f"{self.path}: has no column {absent[0]}", hint=_BOX_HINT)
            columns = [header[column] for column in box_columns]
            attribute_columns = [header[name] for name in _ATTRIBUTE_COLUMNS if name in header]
            group_columns = [header["IsGroupOf"]] if "IsGroupOf" in header else []
            image_column, class_column = header["ImageID"], header["LabelName"]
            previous, image = "", None
            for number, words in enumerate(lines, start=2):
                try:
                    left, right, top, bottom = (float(words[column]) for column in columns)
                    is_box = len(words) == len(names) and all(-1 <= value <= 2 for value in (left, right, top, bottom))
                except (ValueError, IndexError):
                    is_box = False
                if not is_box:
                    self.refuse(number, words)
                    continue
                image_id = words[image_column].strip()
                if image_id != previous:  # lines of an image follow each other
                    previous, image = image_id, finder.find_stem(image_id.removesuffix(".jpg"))
                    missing += [] if image else [image_id]
                if image is None:
                    continue
                is_group = any(words[column].strip() == "1" for column in group_columns)
                has_attribute = any(words[column].strip() == "1" for column in attribute_columns)
                for applies, description in ((is_group, _GROUPS_KEPT), (has_attribute, _ATTRIBUTES_DROPPED)):
                    if applies:
                        self.report.losses[description].append(f"{self.path}:{number}")
                class_id = words[class_column].strip()
                box = BoxPx(left, top, right, bottom)
                yield image, AnnotatedObject(self.class_names.get(class_id, class_id), box, is_group)
        except DarkpyError as error:
            self.report.faults.append(error.message)
        if self.wrong_lines > MAX_FAULTS_PER_FILE:
            more = self.wrong_lines - MAX_FAULTS_PER_FILE
            self.report.faults.append(f"{self.path}: {more} more lines are wrong")

    def refuse(self, number: int, words: Sequence[str]) -> None:
        """Add a line to the faults, the first ones of the file; blank lines are not faults."""
        self.wrong_lines += bool(words)
        if words and self.wrong_lines <= MAX_FAULTS_PER_FILE:
            shown = ",".join(words)[:80]
            self.report.faults.append(f"{self.path}:{number}: {shown!r} has no box in fractions of the image")
