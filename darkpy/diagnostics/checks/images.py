"""Checks of each image and its labels, before a network sees them.

Letters: N boxes; C color, H height, W width; P values of a fingerprint.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkpy.data.augment.config import DetectionAugmentConfig
from darkpy.data.lists.labels import NOT_BY_LINE_PROBLEM, Labels, read_labels
from darkpy.data.lists.paths import IMAGE_SUFFIXES, find_label, label_nearby
from darkpy.data.lists.text_files import DataFile, read_names
from darkpy.data.loading.images import load_image
from darkpy.diagnostics.checks.duplicate_images import file_digest, image_fingerprint
from darkpy.diagnostics.checks.masks import inspect_masks
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, ImageError
from darkpy.files import ENCODING_HINT, UTF_16_PROBLEM, is_file, is_true
from darkpy.finding import CfgEdit, Finding, Location, Remedy, data_finding
from darkpy.ops.boxes import iou

DECODER_THREADS = 4
"""Threads that decode images: Pillow releases the GIL while it works."""
DUPLICATE_IOU = 0.97
"""IoU from which two boxes of one class are one object marked twice."""
MIN_SIDE_PX = 2.0
"""Smaller boxes, in pixels of the image, are a click of the mouse and no object."""
MAX_OVER_EDGE_FRAC = 0.05
"""Fraction of the image's side that a box may reach beyond the edge: rounding."""
WHOLE_IMAGE_FRAC = 0.98
"""Fraction of both sides from which a box is the image itself."""
MAX_COMPARED_BOXES = 2000
"""Boxes of an image beyond which they are not compared pairwise."""
DEFAULT_CHANNELS, DEFAULT_SIDE = 3, 416
"""Input of a network that is not known, or cannot be built."""
NO_LIMIT = 1_000_000
"""Classes and boxes of such a network."""


@dataclass(frozen=True, slots=True)
class InspectedImage:
    """Image of a list with its labels and findings.

    w, h: 0 if it cannot be decoded. digest: hash of the file, empty if it cannot be read. boxes_N5: of a detector,
    center x, y, w, h as fractions, then the class; lines: their line numbers in the file `label`.
    """

    path: str
    w: int
    h: int
    digest: bytes
    fingerprint_P: NDArray[np.uint8] | None
    boxes_N5: Tensor
    label: str | None
    lines: tuple[int, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Inspector:
    """Inspects images one by one.

    augment_config: of a detector, whose labels are read; None for other networks.
    net_w, net_h: the network's input in pixels. mask_classes: of a network that learns masks, whose files are read.
    """

    channels: int
    net_w: int
    net_h: int
    augment_config: DetectionAugmentConfig | None
    mask_classes: int = 0

    def survey(self, paths: Sequence[str]) -> Iterator[InspectedImage]:
        """Inspect the images of a list in order, while others are being decoded."""
        with ThreadPoolExecutor(DECODER_THREADS) as pool:
            yield from pool.map(self.inspect, paths)

    def inspect(self, path: str) -> InspectedImage:
        findings: list[Finding] = []
        w = h = 0
        digest, fingerprint_P = b"", None
        try:
            digest = file_digest(Path(path))
            pixels_HWC = load_image(path, channels=self.channels).pixels_HWC
            h, w = pixels_HWC.shape[:2]
            fingerprint_P = image_fingerprint(pixels_HWC)
        except OSError as error:
            text, hint = f"cannot be read: {error.strerror or error}", "put the file there, or remove it from the list"
            if nearby := _same_name(path):
                hint = f"there is {nearby}: write its name in the list"
            findings.append(data_finding("image-missing", Location(path), text, hint))
        except ImageError as error:
            message = error.message.partition(": ")[2] or error.message
            findings.append(
                data_finding(
                    "image-unreadable", Location(path), message, "replace the file, or remove it from the list"
                )
            )
        if self.mask_classes:
            findings += inspect_masks(path, self.mask_classes, w, h)
        label, labels = self._labels(path, findings)
        if label is not None and self.augment_config is not None:
            findings += check_boxes(label, labels, self.augment_config, (w, h), (self.net_w, self.net_h))
        return InspectedImage(path, w, h, digest, fingerprint_P, labels.boxes_N5, label, labels.lines, tuple(findings))

    def _labels(self, path: str, findings: list[Finding]) -> tuple[str | None, Labels]:
        none = Labels(torch.zeros(0, 5), ())
        if self.augment_config is None:
            return None, none
        try:
            file = find_label(path, self.augment_config.dialect)
            labels = read_labels(
                file, self.augment_config.classes, allow_class_only=self.augment_config.allow_class_only
            )
        except DarkpyError as error:
            then = "is skipped" if self.augment_config.dialect is Dialect.PJREDDIE else "counts as without objects"
            text = f"{error.message}; the image {then} in training"
            place, _, message = text.partition(": ")
            nearby = label_nearby(path)
            hint = f"move {nearby} there" if nearby else "write the file, empty if there are no objects"
            if nearby and nearby.suffix == ".xml":
                hint = f"convert {nearby}: darkpy dataset from-voc"
            if is_true(Path(place).exists):
                hint = "replace the file"
            findings.append(data_finding("label-missing", Location.parse(place), message, hint))
            return None, none
        findings += (_of_problem(problem, self.augment_config.classes) for problem in labels.problems)
        return str(file), labels


def check_boxes(
    label: str, labels: Labels, augment_config: DetectionAugmentConfig, image: tuple[int, int], net: tuple[int, int]
) -> Iterator[Finding]:
    """Find boxes that are repeated, tiny or over the edge.

    image, net: width and height in pixels; 0 if unknown.
    """
    boxes_N5 = labels.boxes_N5
    for index, first in _repeated(boxes_N5):
        text = f"is the object of line {labels.lines[first]} once more"
        yield data_finding("box-repeated", Location(label, labels.lines[index]), text, "delete one of the lines")
    least_w, least_h = augment_config.min_box_size(*net)
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
        elif all(image) and min(w_px, h_px) < MIN_SIDE_PX:
            text = f"{size}: is {w_px:.1f} x {h_px:.1f} pixels of the image"
            yield data_finding("box-tiny", Location(label, line), text, "delete or correct the line")
        over = max(abs(x - 0.5) + w / 2, abs(y - 0.5) + h / 2) - 0.5
        if over > MAX_OVER_EDGE_FRAC and max(w, h) <= 1 and 0 <= x <= 1 and 0 <= y <= 1:  # read_labels finds the rest
            text = f"x = {x:g}, y = {y:g}, {size}: reaches over the edge by {over:.0%} of the image"
            yield data_finding("box-over-edge", Location(label, line), text, "correct the line")


def _same_name(path: str) -> str | None:
    """Return an image beside a path whose name differs in the suffix only."""
    suffixes = sorted(IMAGE_SUFFIXES | {suffix.upper() for suffix in IMAGE_SUFFIXES})
    with suppress(ValueError):  # a name that cannot exist
        return next((str(file) for file in map(Path(path).with_suffix, suffixes) if is_file(file)), None)
    return None


def check_max_boxes(images: Sequence[InspectedImage], limit: int, heads: Sequence[int]) -> Iterator[Finding]:
    """Find label files with more objects than training reads. heads: layers with the limit as their key `max`."""
    longest = [image for image in images if len(image.boxes_N5) > limit]
    if not longest:
        return
    most = max(len(image.boxes_N5) for image in longest)
    text = f"lists {len(longest[0].boxes_N5)} objects, and training reads the first {limit}"
    if len(longest) > 1:
        text += f"; {len(longest) - 1} more label files list too many, up to {most}"
    finding = data_finding("too-many-boxes", Location(longest[0].label or ""), text)
    edits = tuple(CfgEdit("max", str(most), index) for index in heads)
    yield replace(finding, remedies=(Remedy(edits=edits),)) if edits else finding


def _repeated(boxes_N5: Tensor) -> Iterator[tuple[int, int]]:
    """Pairs of boxes that mark one object: index of the later one, index of the earlier one."""
    if not 1 < len(boxes_N5) <= MAX_COMPARED_BOXES:
        return
    boxes_N4, class_N = boxes_N5[:, :4], boxes_N5[:, 4]
    is_same_NN = (iou(boxes_N4[:, None], boxes_N4[None]) >= DUPLICATE_IOU) & (class_N[:, None] == class_N[None])
    is_same_NN.tril_(diagonal=-1)
    for index in torch.nonzero(is_same_NN.any(dim=1)).flatten().tolist():
        yield index, int(is_same_NN[index].nonzero()[0])


def _of_problem(problem: str, classes: int) -> Finding:
    """Finding of a problem of `read_labels`, `file:line: message`."""
    place, _, message = problem.partition(": ")
    hints: tuple[str, ...] = (ENCODING_HINT if message == UTF_16_PROBLEM else "correct or delete the line",)
    if message == NOT_BY_LINE_PROBLEM:
        hints = ("write each box on a line of its own",)
    elif message.endswith("is ignored"):
        hints = ("delete what is behind the box",)
    elif message.startswith("class "):
        hints = ("correct the line", f"a larger classes= than {classes} in the heads, and filters= before them")
    return data_finding("label-line", Location.parse(place), message, *hints)


def check_whole(images: Sequence[InspectedImage]) -> Iterator[Finding]:
    """Find boxes as large as the image if the boxes of their class are usually small."""
    boxes_N5 = torch.cat([torch.zeros(0, 5), *(image.boxes_N5 for image in images)])
    area_N, class_N = boxes_N5[:, 2] * boxes_N5[:, 3], boxes_N5[:, 4]
    median_area = {int(class_id): float(area_N[class_N == class_id].median()) for class_id in set(class_N.tolist())}
    for image in images:
        for line, (x, y, w, h, class_id) in zip(image.lines, image.boxes_N5.tolist(), strict=True):
            if min(w, h) >= WHOLE_IMAGE_FRAC and (x or y) and median_area[int(class_id)] < WHOLE_IMAGE_FRAC / 4:
                text = f"w = {w:g}, h = {h:g}: is the whole image; half of class {int(class_id)} has less than"
                text = f"{text} {median_area[int(class_id)]:.2g} of it"
                yield data_finding("box-huge", Location(image.label or "", line), text, "delete or correct the line")


def readable_names(data: DataFile) -> Sequence[str]:
    """Read the names file; empty if it cannot be read, which `check_names` finds."""
    file = data.find("names")
    try:
        return () if file is None else read_names(file)
    except DarkpyError:
        return ()


def guess_inspector(data: DataFile, dialect: Dialect) -> Inspector:
    """Guess how images and labels are read, without a network; without labels for the data of a classifier."""
    config = None
    if "labels" not in data.entries:
        stated = data.entries.get("classes", "")
        classes = int(stated) if stated.isdecimal() and len(stated) < 7 else len(readable_names(data))
        config = DetectionAugmentConfig(
            dialect=dialect, head="yolo", classes=classes or NO_LIMIT, max=NO_LIMIT, jitter=0
        )
    return Inspector(DEFAULT_CHANNELS, DEFAULT_SIDE, DEFAULT_SIDE, config)
