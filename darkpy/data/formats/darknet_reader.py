"""Reader of darknet's data sets, by `.data` file, list or folder, for conversion to other formats."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from darkpy.data.formats.annotations import (
    AnnotatedDataset,
    AnnotatedImage,
    AnnotatedObject,
    BoxPx,
    ImportReport,
    unique_image_names,
)
from darkpy.data.lists.image_list import LIST_SUFFIXES, NO_LABELS_HINT, ImageList, open_lists
from darkpy.data.lists.labels import LabelTable
from darkpy.data.lists.text_files import DIFFICULT_KEYS, read_data
from darkpy.data.loading.decoding import read_image_size
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, ImageError

_UNREADABLE_IMAGES = "images cannot be read and are left out"


@dataclass(frozen=True, slots=True)
class LabeledList:
    """List of a data set with its labels. files: of its images. difficult: objects that need not be detected."""

    images: ImageList
    files: Sequence[Path]
    plain: LabelTable
    difficult: LabelTable | None

    @property
    def tables(self) -> tuple[LabelTable, ...]:
        return (self.plain,) if self.difficult is None else (self.plain, self.difficult)


@dataclass(frozen=True, slots=True)
class LabeledLists:
    """Lists of a data set by key. sizes_px: width and height of each image that can be read."""

    source: Path
    by_key: Mapping[str, LabeledList]
    sizes_px: Mapping[Path, tuple[int, int]]

    def class_names(self, max_class: int) -> list[str]:
        """Return a name for each class of the data set and of the labels: its number, if it has none."""
        named = max((listed.images for listed in self.by_key.values()), key=lambda images: len(images.names))
        count = max(max_class + 1, len(named.names))
        if not named.names and not self.source.is_dir() and self.source.suffix.lower() not in LIST_SUFFIXES:
            stated = read_data(self.source).entries.get("classes", "")
            count = max(count, int(stated)) if stated.isdecimal() and len(stated) < 7 else count
        return [named.name(class_id) for class_id in range(count)]


def read_labeled_lists(source: Path, dialect: Dialect | None, report: ImportReport) -> LabeledLists:
    """Read the lists train, valid and test of a `.data` file, with their difficult objects; or one list or folder.

    Images that cannot be read, and wrong label lines, are losses.
    Raises: DarkpyError with all faults, when lists cannot be read, have no labels, or differ from those of their
        difficult objects; or when no image of a list can be read.
    """
    lists = open_lists(source, ("train", "valid", "test", *DIFFICULT_KEYS.values()))
    tables: dict[str, LabelTable] = {}
    for key, images in lists.items():
        try:
            tables[key] = images.read_labels(dialect)
        except DarkpyError as error:
            report.faults.append(f"{key}= of {source}: {error.message}")
    report.check(NO_LABELS_HINT)
    by_key: dict[str, LabeledList] = {}
    sizes_px: dict[Path, tuple[int, int]] = {}
    for key in (key for key in lists if key not in DIFFICULT_KEYS.values()):
        plain, difficult = tables[key], tables.get(DIFFICULT_KEYS.get(key, ""))
        if difficult is not None and len(difficult.files) != len(plain.files):
            counts = f"{len(difficult.files)} images, {key}= {len(plain.files)}"
            report.faults.append(f"{source}: {DIFFICULT_KEYS[key]}= lists {counts}")
            continue
        files = [lists[key].file(index) for index in range(len(plain.files))]
        by_key[key] = listed = LabeledList(lists[key], files, plain, difficult)
        unreadable = report.losses[_UNREADABLE_IMAGES]
        known_losses = len(unreadable)
        for file in dict.fromkeys(file for file in files if file not in sizes_px):
            try:
                sizes_px[file] = read_image_size(file)
            except ImageError as error:
                unreadable.append(error.message)
        if files and not any(file in sizes_px for file in files):
            report.faults.append(f"{source}: no image of {key} can be read; the first: {unreadable[known_losses]}")
        for table in listed.tables:
            report.losses["label lines are wrong and left out"] += table.problems
    report.check("a list and its difficult objects name the same images, which are there")
    return LabeledLists(source, by_key, sizes_px)


def read_darknet(source: Path, dialect: Dialect | None = None) -> AnnotatedDataset:
    """Read the images of a data set, and the boxes on them.

    Images that do not exist or cannot be read, and wrong label lines, are losses.
    Raises: DarkpyError as `read_labeled_lists`.
    """
    report = ImportReport()
    lists = read_labeled_lists(source, dialect, report)
    objects: defaultdict[Path, list[AnnotatedObject]] = defaultdict(list)
    owners: dict[Path, tuple[str, int]] = {}
    for key, listed in lists.by_key.items():
        for index, file in enumerate(listed.files):
            owners.setdefault(file, (key, index))  # an image that is listed again has the same labels
        report.losses["images have no labels"] += [str(listed.files[index]) for index in listed.plain.missing]
        for table in listed.tables:
            for index, class_id, box in label_rows(table):
                file = listed.files[index]
                if owners[file] == (key, index) and file in lists.sizes_px:
                    item = annotated_object(listed.images, class_id, box, lists.sizes_px[file])
                    objects[file].append(item._replace(is_difficult=table is listed.difficult))
    keys = unique_image_names(list(lists.sizes_px))
    tables = [table for listed in lists.by_key.values() for table in listed.tables]
    names = lists.class_names(max((int(table.class_N.max()) for table in tables if len(table)), default=-1))
    first = {name: class_id for class_id, name in reversed(list(enumerate(names)))}
    repeated = [f"{class_id} {name}" for class_id, name in enumerate(names) if first[name] != class_id]
    report.losses["classes have the name of another one and become the same"] += repeated
    annotated = {
        keys[file]: AnnotatedImage(file, *size_px, tuple(objects[file])) for file, size_px in lists.sizes_px.items()
    }
    members = {key: [keys[file] for file in listed.files if file in keys] for key, listed in lists.by_key.items()}
    return AnnotatedDataset(annotated, members, (), tuple(dict.fromkeys(names)), report.found_losses())


def label_rows(table: LabelTable) -> Iterator[tuple[int, int, list[float]]]:
    """Yield image index, class and box of each object."""
    yield from zip(table.image_N.tolist(), table.class_N.tolist(), table.box_N4.tolist(), strict=True)


def annotated_object(images: ImageList, class_id: int, box: list[float], size_px: tuple[int, int]) -> AnnotatedObject:
    """Convert an object of a label file, whose box is in fractions of the image."""
    (x, y, w, h), (w_px, h_px) = box, size_px
    edges = BoxPx((x - w / 2) * w_px, (y - h / 2) * h_px, (x + w / 2) * w_px, (y + h / 2) * h_px)
    return AnnotatedObject(images.name(class_id), edges)
