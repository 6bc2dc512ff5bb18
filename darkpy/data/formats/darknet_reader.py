"""Reader of darknet's data sets, by `.data` file, list or folder, for conversion to other formats."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from darkpy.data.formats.annotations import (
    AnnotatedDataset,
    AnnotatedImage,
    AnnotatedObject,
    BoxPx,
    ImportReport,
    unique_image_names,
)
from darkpy.data.lists.image_list import ImageList, open_lists
from darkpy.data.lists.labels import LabelTable
from darkpy.data.lists.text_files import DIFFICULT_KEYS
from darkpy.data.loading.decoding import read_image_size
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, ImageError

_UNREADABLE_IMAGES = "images cannot be read and are left out"


def read_darknet(source: Path, dialect: Dialect | None = None) -> AnnotatedDataset:
    """Read the lists train, valid and test of a `.data` file, with their difficult objects; or one list or folder.

    Images that do not exist or cannot be read, and wrong label lines, are losses.
    Raises: DarkpyError when a list cannot be read, has no labels, or differs from that of its difficult objects; or
        when no image of a list can be read.
    """
    report = ImportReport()
    lists = open_lists(source, ("train", "valid", "test", *DIFFICULT_KEYS.values()))
    tables = {key: images.read_labels(dialect) for key, images in lists.items()}
    for key, difficult in DIFFICULT_KEYS.items():
        if key in lists and difficult in lists and len(lists[key].images) != len(lists[difficult].images):
            counts = f"{len(lists[difficult].images)} images, {key}= {len(lists[key].images)}"
            raise DarkpyError(f"{source}: {difficult}= lists {counts}")
    objects: defaultdict[Path, list[AnnotatedObject]] = defaultdict(list)
    sizes_px: dict[Path, tuple[int, int]] = {}
    splits = {key: images for key, images in lists.items() if key not in DIFFICULT_KEYS.values()}
    for key, images in splits.items():
        files = [images.file(index) for index in range(len(images.images))]
        # an image that is listed again has the same labels
        first_index = {file: index for index, file in reversed(list(enumerate(files)))}
        is_new = [file not in sizes_px and first_index[file] == index for index, file in enumerate(files)]
        for file in itertools.compress(files, is_new):
            try:
                sizes_px[file] = read_image_size(file)
            except ImageError as error:
                report.losses[_UNREADABLE_IMAGES].append(error.message)
        if files and not any(file in sizes_px for file in files):
            unreadable = report.losses[_UNREADABLE_IMAGES]
            raise DarkpyError(f"{source}: no image of {key} can be read", hint=f"the first: {unreadable[0]}")
        report.losses["images have no labels"] += [str(files[index]) for index in tables[key].missing]
        for list_key in (key, DIFFICULT_KEYS.get(key, "")):
            if list_key in tables:
                report.losses["label lines are wrong and left out"] += tables[list_key].problems
                for index, class_id, box in label_rows(tables[list_key]):
                    file = files[index]
                    if is_new[index] and file in sizes_px:
                        item = annotated_object(images, class_id, box, sizes_px[file])
                        objects[file].append(item._replace(is_difficult=list_key != key))
    keys = unique_image_names(list(sizes_px))
    max_class = max((int(table.class_N.max()) for table in tables.values() if len(table)), default=-1)
    named = max(splits.values(), key=lambda images: len(images.names))
    names = [named.name(class_id) for class_id in range(max(max_class + 1, len(named.names)))]
    repeated = [f"{class_id} {name}" for class_id, name in enumerate(names) if name in names[:class_id]]
    report.losses["classes have the name of another one and become the same"] += repeated
    annotated = {keys[file]: AnnotatedImage(file, *size_px, tuple(objects[file])) for file, size_px in sizes_px.items()}
    members = {
        key: [keys[file] for file in map(images.file, range(len(images.images))) if file in keys]
        for key, images in splits.items()
    }
    return AnnotatedDataset(annotated, members, (), tuple(dict.fromkeys(names)), report.found_losses())


def label_rows(table: LabelTable) -> Iterator[tuple[int, int, list[float]]]:
    """Yield image index, class and box of each object."""
    yield from zip(table.image_N.tolist(), table.class_N.tolist(), table.box_N4.tolist(), strict=True)


def annotated_object(images: ImageList, class_id: int, box: list[float], size_px: tuple[int, int]) -> AnnotatedObject:
    """Convert an object of a label file, whose box is in fractions of the image."""
    (x, y, w, h), (w_px, h_px) = box, size_px
    edges = BoxPx((x - w / 2) * w_px, (y - h / 2) * h_px, (x + w / 2) * w_px, (y + h / 2) * h_px)
    return AnnotatedObject(images.name(class_id), edges)
