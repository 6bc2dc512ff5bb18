"""What can be seen of training data in each image and its labels, before a network sees them.

Letters: N boxes; C color, H height, W width; P numbers of a print.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkpy.data.augment.config import DetectionAugmentConfig
from darkpy.data.lists.labels import Labels, read_labels
from darkpy.data.lists.paths import label_path
from darkpy.data.loading.images import load_image
from darkpy.diagnostics.checks.duplicate_images import file_digest, image_print
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, ImageError
from darkpy.finding import Cause, Finding, Location
from darkpy.ops.boxes import iou

WORKERS = 4
"""Threads that decode images: Pillow lets go of Python while it works."""
SAME = 0.97
"""The overlap from which two boxes of one class are one object marked twice."""
TINY_PX = 2.0
"""Pixels of the image that are no object, but a click of the mouse."""
OVER_EDGE = 0.05
"""How far a box may reach beyond the image, as a share of its side, before that is no rounding."""
WHOLE = 0.98
"""The share of both sides from which a box is the image itself."""
MOST_BOXES = 2000
"""Boxes of one image beyond which they are not compared one by one."""


@dataclass(frozen=True, slots=True)
class Sample:
    """An image of a list as it was found, with its labels.

    w, h: 0 where it cannot be decoded. digest: a hash of the file, empty where there is none. boxes_N5: of a detector,
    center x, y, w, h as fractions, then the class; lines: where they stand in `label`.
    """

    path: str
    w: int
    h: int
    digest: bytes
    print_P: NDArray[np.uint8] | None
    boxes_N5: Tensor
    label: str | None
    lines: tuple[int, ...]
    found: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Inspector:
    """Looks at images one by one. recipe: of a detector, whose labels lie beside the images; None for a classifier.

    net_w, net_h: the network's input in pixels.
    """

    channels: int
    net_w: int
    net_h: int
    augment_config: DetectionAugmentConfig | None

    def survey(self, paths: Sequence[str]) -> Iterator[Sample]:
        """Each image of a list, in its order, while others are being decoded."""
        with ThreadPoolExecutor(WORKERS) as pool:
            yield from pool.map(self.look, paths)

    def look(self, path: str) -> Sample:
        found: list[Finding] = []
        w = h = 0
        digest, print_P = b"", None
        try:
            digest = file_digest(Path(path))
            pixels_HWC = load_image(path, channels=self.channels).pixels_HWC
            h, w = pixels_HWC.shape[:2]
            print_P = image_print(pixels_HWC)
        except OSError as error:
            found.append(
                data_finding(
                    "image-missing", Location(path), f"is not there ({(error.strerror or str(error)).lower()})"
                )
            )
        except ImageError as error:
            message = error.message.partition(": ")[2] or error.message
            found.append(
                data_finding(
                    "image-unreadable", Location(path), message, "replace the file, or take it out of the list"
                )
            )
        label, labels = self._labels(path, found)
        if label is not None and self.augment_config is not None:
            found += check_boxes(label, labels, self.augment_config, (w, h), (self.net_w, self.net_h))
        return Sample(path, w, h, digest, print_P, labels.boxes_N5, label, labels.lines, tuple(found))

    def _labels(self, path: str, found: list[Finding]) -> tuple[str | None, Labels]:
        none = Labels(torch.zeros(0, 5), ())
        if self.augment_config is None:
            return None, none
        try:
            file = label_path(path, self.augment_config.dialect)
            labels = read_labels(
                file, self.augment_config.classes, allow_class_only=self.augment_config.allow_class_only
            )
        except DarkpyError as error:
            then = "is passed over" if self.augment_config.dialect is Dialect.PJREDDIE else "counts as without objects"
            text = f"{error.message}; the image {then} in training"
            place, _, said = text.partition(": ")
            found.append(
                data_finding(
                    "label-missing", Location.parse(place), said, "write the file, empty if there are no objects"
                )
            )
            return None, none
        found += (_of_problem(problem, self.augment_config.classes) for problem in labels.problems)
        return str(file), labels


def check_boxes(
    label: str, labels: Labels, augment_config: DetectionAugmentConfig, image: tuple[int, int], net: tuple[int, int]
) -> Iterator[Finding]:
    """Boxes that are there twice, or hardly there. image, net: width and height in pixels; 0 where not known."""
    boxes_N5 = labels.boxes_N5
    for number, first in _repeated(boxes_N5):
        text = f"is the object of line {labels.lines[first]} once more"
        yield data_finding("box-repeated", Location(label, labels.lines[number]), text, "delete one of the lines")
    least_w, least_h = augment_config.least_size(*net)
    for line, (x, y, w, h, _) in zip(labels.lines, boxes_N5.tolist(), strict=True):
        if augment_config.allow_class_only and x == y == 0:
            continue
        size = f"w = {w:g}, h = {h:g}"
        w_px, h_px = w * image[0], h * image[1]
        if w < least_w or h < least_h:
            text = f"{size}: is smaller than {least_w:.2g} x {least_h:.2g} and dropped in training"
            yield data_finding(
                "box-tiny", Location(label, line), text, "delete the line", "a larger width= and height="
            )
        elif all(image) and min(w_px, h_px) < TINY_PX:
            text = f"{size}: is {w_px:.1f} x {h_px:.1f} pixels of the image"
            yield data_finding("box-tiny", Location(label, line), text, "delete or correct the line")
        beyond = max(abs(x - 0.5) + w / 2, abs(y - 0.5) + h / 2) - 0.5
        if beyond > OVER_EDGE and max(w, h) <= 1 and 0 <= x <= 1 and 0 <= y <= 1:  # the rest is told by read_labels
            text = f"x = {x:g}, y = {y:g}, {size}: reaches beyond the image by {beyond:.0%} of its side"
            yield data_finding("box-over-edge", Location(label, line), text, "correct the line")
    if len(boxes_N5) > augment_config.max:
        text = f"lists {len(boxes_N5)} objects, and training reads the first {augment_config.max}"
        yield data_finding("too-many-boxes", Location(label), text, f"max={len(boxes_N5)} in the heads")


def _repeated(boxes_N5: Tensor) -> Iterator[tuple[int, int]]:
    """Pairs of boxes that mark one object, the later one and the earlier one."""
    if not 1 < len(boxes_N5) <= MOST_BOXES:
        return
    boxes_N4, class_N = boxes_N5[:, :4], boxes_N5[:, 4]
    is_same_NN = (iou(boxes_N4[:, None], boxes_N4[None]) >= SAME) & (class_N[:, None] == class_N[None])
    is_same_NN.tril_(diagonal=-1)
    for number in torch.nonzero(is_same_NN.any(dim=1)).flatten().tolist():
        yield number, int(is_same_NN[number].nonzero()[0])


def _of_problem(problem: str, classes: int) -> Finding:
    """A line of `read_labels`, `file:line: what is wrong`."""
    place, _, message = problem.partition(": ")
    hints: tuple[str, ...] = ("correct or delete the line",)
    if message.startswith("class "):
        hints = ("correct the line", f"a larger classes= than {classes} in the heads, and filters= before them")
    return data_finding("label-line", Location.parse(place), message, *hints)


def check_whole(samples: Sequence[Sample]) -> Iterator[Finding]:
    """Boxes as large as the image, where those of their class are small."""
    boxes_N5 = torch.cat([torch.zeros(0, 5), *(one.boxes_N5 for one in samples)])
    area_N, class_N = boxes_N5[:, 2] * boxes_N5[:, 3], boxes_N5[:, 4]
    usual = {int(number): float(area_N[class_N == number].median()) for number in set(class_N.tolist())}
    for one in samples:
        for line, (x, y, w, h, number) in zip(one.lines, one.boxes_N5.tolist(), strict=True):
            if min(w, h) >= WHOLE and (x or y) and usual[int(number)] < WHOLE / 4:
                text = f"w = {w:g}, h = {h:g}: is the whole image; half of class {int(number)} has less than"
                text = f"{text} {usual[int(number)]:.2g} of it"
                yield data_finding("box-huge", Location(one.label or "", line), text, "delete or correct the line")


def data_finding(name: str, location: Location, message: str, *hints: str) -> Finding:
    return Finding(name=name, message=message, cause=Cause.DATA, location=location, hints=hints)
