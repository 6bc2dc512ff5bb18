"""Contact sheet of a data set: some of its images with their boxes, and a legend of the classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np

from darkpy.data.lists.image_list import ImageList
from darkpy.data.lists.labels import LabelTable
from darkpy.data.loading.decoding import decode, read_image
from darkpy.diagnostics.report.contact_sheet import Tile, as_png, contact_sheet, legend_tile
from darkpy.errors import ImageError


@dataclass(slots=True)
class LabelSheet:
    """Tiles of a sheet. bad: messages for images that cannot be read."""

    tiles: list[Tile] = field(default_factory=list)
    classes: Counter[int] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)

    def to_png(self, listed: ImageList, columns: int) -> bytes:
        """Draw the sheet, with a legend of the classes as its last tile, the most frequent first."""
        return as_png(contact_sheet([*self.tiles, legend_tile(self.classes, listed.names)], columns=columns))


def choose(count: int, most: int, seed: int) -> list[int]:
    """Choose some images of a list at random, in their order."""
    return sorted(Random(seed).sample(range(count), min(most, count)))


def fill_sheet(sheet: LabelSheet, listed: ImageList, table: LabelTable, numbers: Sequence[int]) -> Iterator[int]:
    """Add images with their boxes to the sheet; yields the number of each."""
    for number in numbers:
        file = listed.file(number)
        of_image_N = table.image_N == number
        class_N = table.class_N[of_image_N]
        counts = Counter(class_N.tolist())
        try:
            pixels = read_image(file, lambda stream: decode(stream, exif_rotate=True))
        except ImageError as error:
            sheet.bad.append(error.message)
        else:
            caption = ", ".join(f"{count} {listed.name(class_id)}" for class_id, count in counts.most_common())
            missing = "no labels" if number in table.missing else "no boxes"
            boxes_N5 = np.column_stack([table.box_N4[of_image_N], class_N])
            sheet.tiles.append(Tile(pixels, boxes_N5, (file.name, caption or missing)))
            sheet.classes += counts
        yield number
