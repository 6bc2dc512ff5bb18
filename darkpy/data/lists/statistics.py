"""Statistics of a list of images: classes, box sizes, and wrong labels.

Letters: N boxes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpy.data.lists.image_list import ImageList
from darkpy.data.lists.labels import LabelTable

QUANTILES_PERCENT = (0, 5, 25, 50, 75, 95, 100)
EDGE_TOLERANCE_FRAC = 1e-4
"""Distance beyond the image's edge that rounding of labels explains."""

_FIELD_DESCRIPTIONS = {
    "per_image": "boxes on an image",
    "width": "width of a box",
    "height": "height of a box",
    "unlabeled": "images without a label file",
    "empty": "images with a label file and without a box",
    "repeated": "lines repeat an image of the list",
    "sizeless": "boxes without a size",
    "outside": "boxes outside their image",
    "cut": "boxes that extend over the edge of their image",
    "doubled": "boxes that occur twice",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ListStatistics:
    """Statistics of one list.

    images: number of lines; `unlabeled` of them have no label file, `empty` a label file without a box, and `repeated`
        occur earlier in the list.
    classes: number of boxes of each class that has a name or boxes, and of images with it.
    per_image, width, height: QUANTILES_PERCENT of the boxes of a labeled image, and of their sizes as
        fractions.
    sizeless, outside, cut, doubled: boxes without a size, outside their image, over its edge, and exact repetitions.
    problems: lines that are not boxes.
    """

    images: int
    unlabeled: int
    empty: int
    repeated: int
    boxes: int
    classes: Mapping[str, tuple[int, int]]
    per_image: tuple[float, ...]
    width: tuple[float, ...]
    height: tuple[float, ...]
    sizeless: int
    outside: int
    cut: int
    doubled: int
    problems: tuple[str, ...]

    def as_record(self) -> dict[str, Any]:
        """Convert to a JSON record."""
        # the key keeps its old spelling for programs that read it
        record = {name.replace("unlabeled", "unlabelled"): getattr(self, name) for name in self.__slots__}
        record["classes"] = {name: {"boxes": boxes, "images": images} for name, (boxes, images) in self.classes.items()}
        for name in ("per_image", "width", "height"):
            record[name] = {f"{share}%": value for share, value in zip(QUANTILES_PERCENT, record[name], strict=False)}
        return record


def count_list(listed: ImageList, table: LabelTable) -> ListStatistics:
    """Compute the statistics of a list and its labels."""
    has_labels = np.ones(len(listed.images), bool)
    has_labels[list(table.missing)] = False
    per_image = np.bincount(table.image_N, minlength=len(listed.images))
    x_N, y_N, w_N, h_N = table.box_N4.T
    is_sizeless_N = (w_N <= 0) | (h_N <= 0)
    # distance of a box's far and near edges beyond the image: reach > 0 is partly, gap >= 0 wholly outside
    reach_N = np.maximum(np.abs(x_N - 0.5) + w_N / 2, np.abs(y_N - 0.5) + h_N / 2) - 0.5
    gap_N = np.maximum(np.abs(x_N - 0.5) - w_N / 2, np.abs(y_N - 0.5) - h_N / 2) - 0.5
    is_outside_N = ~is_sizeless_N & (gap_N >= 0)
    good_N4 = table.box_N4[~is_sizeless_N]
    rows = np.column_stack([table.image_N, table.class_N, table.box_N4])
    boxes = Counter(table.class_N.tolist())
    images = Counter(class_id for _, class_id in set(zip(table.image_N.tolist(), table.class_N.tolist(), strict=True)))
    class_ids = sorted({*range(len(listed.names)), *boxes})  # one wrong label may name class 1,048,575
    return ListStatistics(
        images=len(listed.images),
        unlabeled=len(table.missing),
        empty=int((per_image[has_labels] == 0).sum()),
        repeated=len(listed.images) - len(set(listed.images)),
        boxes=len(table),
        classes={listed.name(class_id): (boxes[class_id], images[class_id]) for class_id in class_ids},
        per_image=_quantiles(per_image[has_labels]),
        width=_quantiles(good_N4[:, 2]),
        height=_quantiles(good_N4[:, 3]),
        sizeless=int(is_sizeless_N.sum()),
        outside=int(is_outside_N.sum()),
        cut=int((~is_sizeless_N & ~is_outside_N & (reach_N > EDGE_TOLERANCE_FRAC)).sum()),
        doubled=len(rows) - len(np.unique(rows, axis=0)),
        problems=table.problems,
    )


def text_lines(key: str, statistics: ListStatistics) -> Iterator[str]:
    """Format the statistics of a list as text."""
    yield f"{key}: {statistics.images} images, {statistics.boxes} boxes"
    for name, (boxes, images) in statistics.classes.items():
        yield f"  {name:<20} {boxes:>8} boxes on {images:>7} images"
    if statistics.width:
        yield f"  {'at most':<20} {' '.join(f'{share:>8} %' for share in QUANTILES_PERCENT)}"
        for name in ("per_image", "width", "height"):
            values = " ".join(f"{value:>10.4g}" for value in getattr(statistics, name))
            yield f"  {_FIELD_DESCRIPTIONS[name]:<20} {values}"
    for name in ("unlabeled", "empty", "repeated", "sizeless", "outside", "cut", "doubled"):
        if count := getattr(statistics, name):
            yield f"  {count} {_FIELD_DESCRIPTIONS[name]}"
    if statistics.problems:
        yield f"  {len(statistics.problems)} lines of label files are wrong; the first: {statistics.problems[0]}"


def shared_images(lists: Mapping[str, ImageList]) -> dict[tuple[str, str], int]:
    """Count the images that two lists share: training images should not be in a validation list."""
    images = {
        key: {str(listed.file(index).absolute()) for index in range(len(listed.images))}
        for key, listed in lists.items()
    }
    counts = {pair: len(images[pair[0]] & images[pair[1]]) for pair in combinations(lists, 2)}
    return {pair: count for pair, count in counts.items() if count}


def _quantiles(values: NDArray[Any]) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in np.percentile(values, QUANTILES_PERCENT)) if len(values) else ()
