"""The sizes of the boxes of a data set, in any of the formats that people have.

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
    """Shapes: sizes_N2 w, h as fractions of the image, above 0 and at most 1.

    images: how many have labels. classes: how many boxes of each. problems: what could not be used, and where.
    """

    sizes_N2: Floats
    images: int
    classes: Mapping[str, int]
    problems: Sequence[str]


def read_sizes(
    source: Path, *, key: str = "train", corners: Corners = Corners.DARKNET, dialect: Dialect | None = None
) -> BoxSizes:
    """The boxes of a `.data` file's list (`key` of it), of a list of images, of a folder of images with labels or of
    VOC's XML, or of COCO's JSON. Difficult objects and crowds do not count.

    Raises: DarkpyError when there is nothing of that, or it cannot be read.
    """
    if source.is_dir():
        if any(source.glob("*.xml")) or (source / "Annotations").is_dir():
            return _of_collection(read_voc(source, corners, needs_images=False))
    elif source.suffix.lower() == ".json":
        return _of_collection(read_coco(source, needs_images=False))
    listed = open_list(source, key)
    return _of_table(listed.read_labels(dialect), listed)


def _of_table(table: LabelTable, listed: ImageList) -> BoxSizes:
    w_N, h_N = table.box_N4[:, 2], table.box_N4[:, 3]
    is_good_N = (w_N > 0) & (h_N > 0) & (w_N <= 1) & (h_N <= 1)
    wrong = [
        f"{table.files[table.image_N[place]]}: w = {w_N[place]:g}, h = {h_N[place]:g} is no part of an image"
        for place in np.flatnonzero(~is_good_N)
    ]
    lost = [f"{table.files[number]}: no labels" for number in table.missing]
    counts = np.bincount(table.class_N[is_good_N], minlength=len(listed.names)).tolist()
    classes = {listed.name(class_id): count for class_id, count in enumerate(counts)}
    sizes_N2 = np.ascontiguousarray(table.box_N4[is_good_N, 2:])
    return BoxSizes(sizes_N2, len(table.files) - len(table.missing), classes, [*lost, *table.problems, *wrong])


def _of_collection(collection: AnnotatedDataset) -> BoxSizes:
    """Differs from the labels that a collection becomes in nothing: boxes are cut off at the edges of the image."""
    rows = [
        (*one.box, image.w, image.h)
        for image in collection.images.values()
        for one in image.objects
        if not one.is_difficult
    ]
    named = [
        (name, one.name) for name, image in collection.images.items() for one in image.objects if not one.is_difficult
    ]
    table_N6: NDArray[np.float64] = np.array(rows, np.float64).reshape(-1, 6)
    size_N2 = table_N6[:, 4:]
    low_N2, high_N2 = table_N6[:, :2], table_N6[:, 2:4]
    side_N2 = np.clip(high_N2, 0, size_N2) - np.clip(low_N2, 0, size_N2)
    is_good_N = (side_N2 > 0).all(1)
    problems = [f"{named[place][0]}: a box ({named[place][1]}) without a size" for place in np.flatnonzero(~is_good_N)]
    found = Counter(named[place][1] for place in np.flatnonzero(is_good_N))
    classes = {name: found[name] for name in collection.class_names()}
    return BoxSizes((side_N2 / size_N2)[is_good_N], len(collection.images), classes, problems)
