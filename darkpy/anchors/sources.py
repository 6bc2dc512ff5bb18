"""Box sizes of a data set in any supported format.

Letters: N boxes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkpy.anchors.kmeans import Floats
from darkpy.data.formats.annotations import AnnotatedDataset
from darkpy.data.formats.coco import read_coco
from darkpy.data.formats.voc import Corners, read_voc
from darkpy.data.lists.image_list import ImageList, open_list
from darkpy.data.lists.labels import LabelTable
from darkpy.dialect import Dialect


@dataclass(frozen=True, eq=False, slots=True)
class BoxSizes:
    """Sizes of the boxes of a data set.

    Shapes: sizes_N2 w, h as fractions of the image, above 0 and at most 1.
    images: number of images with labels. classes: number of boxes by class. problems: unusable labels and boxes.
    """

    sizes_N2: Floats
    images: int
    classes: Mapping[str, int]
    problems: Sequence[str]


def read_sizes(
    source: Path, *, key: str = "train", corners: Corners = Corners.DARKNET, dialect: Dialect | None = None
) -> BoxSizes:
    """Read the box sizes of a data set, without difficult objects and crowds.

    source: a `.data` file (its list `key`), a list of images, a folder of images with labels or of VOC's XML, or
        COCO's JSON.
    Raises: DarkpyError when the source is none of these or cannot be read.
    """
    if source.is_dir():
        if any(source.glob("*.xml")) or (source / "Annotations").is_dir():
            return _sizes_of_dataset(read_voc(source, corners, needs_images=False))
    elif source.suffix.lower() == ".json":
        return _sizes_of_dataset(read_coco(source, needs_images=False))
    listed = open_list(source, key)
    return _sizes_of_table(listed.read_labels(dialect), listed)


def _sizes_of_table(table: LabelTable, listed: ImageList) -> BoxSizes:
    w_N, h_N = table.box_N4[:, 2], table.box_N4[:, 3]
    is_good_N = (w_N > 0) & (h_N > 0) & (w_N <= 1) & (h_N <= 1)
    wrong = [
        f"{table.files[table.image_N[index]]}: w = {w_N[index]:g}, h = {h_N[index]:g} is not a part of an image"
        for index in np.flatnonzero(~is_good_N)
    ]
    missing = [f"{table.files[index]}: no labels" for index in table.missing]
    counts = np.bincount(table.class_N[is_good_N], minlength=len(listed.names)).tolist()
    classes = {listed.name(class_id): count for class_id, count in enumerate(counts)}
    sizes_N2 = np.ascontiguousarray(table.box_N4[is_good_N, 2:])
    return BoxSizes(sizes_N2, len(table.files) - len(table.missing), classes, [*missing, *table.problems, *wrong])


def _sizes_of_dataset(dataset: AnnotatedDataset) -> BoxSizes:
    """Measure boxes cut off at the image's edges, exactly as labels converted from the data set would be."""
    objects = [
        (name, image, item) for name, image in dataset.images.items() for item in image.objects if not item.is_difficult
    ]
    rows = [(*item.box, image.w, image.h) for _, image, item in objects]
    table_N6: NDArray[np.float64] = np.array(rows, np.float64).reshape(-1, 6)
    size_N2 = table_N6[:, 4:]
    low_N2, high_N2 = table_N6[:, :2], table_N6[:, 2:4]
    side_N2 = np.clip(high_N2, 0, size_N2) - np.clip(low_N2, 0, size_N2)
    is_good_N = (side_N2 > 0).all(1)
    bad = [objects[index] for index in np.flatnonzero(~is_good_N)]
    problems = [f"{location}: {text}" for text, locations in dataset.losses.items() for location in locations]
    problems += [f"{name}: a box ({item.name}) without a size" for name, _, item in bad]
    counts = Counter(objects[index][2].name for index in np.flatnonzero(is_good_N))
    classes = {name: counts[name] for name in dataset.class_names()}
    return BoxSizes((side_N2 / size_N2)[is_good_N], len(dataset.images), classes, problems)
