"""Data sets for training: image, target and problems of each sample that the sampler draws.

The classes here are sent to worker processes. Unreadable files are skipped and reported.
Letters: C color, H height, W width; N boxes; K classes.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from darkpy.config.tree import Tree
from darkpy.data.augment import classification, mosaic
from darkpy.data.augment.config import ClassificationAugmentConfig, DetectionAugmentConfig
from darkpy.data.augment.sampler import Sampler
from darkpy.data.lists.labels import read_labels, read_numbers, read_tags
from darkpy.data.lists.paths import find_label
from darkpy.data.loading.bad_files import Problem
from darkpy.data.loading.images import load_image
from darkpy.data.loading.targets import fill_boxes, fill_cells, fill_classes, fill_tree
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, ImageError

MAX_TRIES = 100
"""Number of unusable images in a row after which training stops."""

TRACKS_PER_FILE = 4000
"""AlexeyAB numbers tracks as file * TRACKS_PER_FILE + object, with file numbers below TRACKS_PER_FILE too."""


class TrainingSample(NamedTuple):
    """Network input and target. paths: the image, or those that are mixed. truth: as the loss layer reads it."""

    x_CHW: Tensor
    truth: Tensor
    paths: tuple[str, ...]
    problems: tuple[Problem, ...]


class Dataset(Protocol):
    """Training data of any kind."""

    def make(self, sample_index: int, w: int, h: int) -> TrainingSample:
        """Make the sample with this index for a network input of w x h.

        Raises: DarkpyError when MAX_TRIES images in a row cannot be used.
        """
        ...


Target = TypeVar("Target")
ReadTarget = Callable[[str, list[Problem]], Target | None]
"""Reads the target of an image; None to skip the image. Adds problems to the list."""


class ImageOpener(Generic[Target]):
    """Opens the images of one sample, skips unusable ones, and collects problems."""

    def __init__(
        self,
        paths: Sequence[str],
        channels: int,
        sampler: Sampler,
        sample_index: int,
        read_target: ReadTarget[Target],
        min_side: int | None,
    ) -> None:
        self._paths, self._channels, self._sampler, self._sample_index = paths, channels, sampler, sample_index
        self._read_target, self._min_side = read_target, min_side
        self.opened: list[str] = []
        self.problems: list[Problem] = []

    def open(self, source: int) -> tuple[Tensor, Target]:
        """Open the sample's source image with this number: (C, H, W) uint8, and its target."""
        for index in islice(self._sampler.candidates(self._sample_index, source), MAX_TRIES):
            path = self._paths[index]
            target = self._read_target(path, self.problems)
            if target is None:
                continue
            try:
                image_CHW = load_image(path, channels=self._channels, min_side=self._min_side).view()
            except ImageError as error:
                self.problems.append(Problem(False, path, error.message))
                continue
            self.opened.append(path)
            return image_CHW, target
        raise DarkpyError(
            f"{MAX_TRIES} images in a row could not be used; of the last: {self.problems[-1].message}",
            hint="look at the list of images: are these the right paths, and are there labels for them?",
        )


@dataclass(frozen=True, slots=True)
class DetectionData:
    """Images with boxes.

    draft: decode large JPEGs at a reduced size that is not below the network's.
    """

    paths: tuple[str, ...]
    augment_config: DetectionAugmentConfig
    sampler: Sampler
    channels: int = 3
    draft: bool = False

    def make(self, sample_index: int, w: int, h: int, steps: list[str] | None = None) -> TrainingSample:
        """Make a sample, see `Dataset`. steps: gets a description of each step of its augmentation."""
        config = self.augment_config
        min_side = max(w, h) if self.draft else None
        opener = ImageOpener(self.paths, self.channels, self.sampler, sample_index, self._read_boxes, min_side)
        x_CHW, boxes_N = mosaic.compose(opener.open, config, w, h, self.sampler.rngs(sample_index, steps))
        if config.head == "detection":
            truth = fill_cells(boxes_N, config.side, config.classes)
        else:
            truth = fill_boxes(boxes_N, config.max, config.entries)
        return TrainingSample(x_CHW, truth, tuple(opener.opened), tuple(opener.problems))

    def _read_boxes(self, path: str, problems: list[Problem]) -> Tensor | None:
        """Read an image's boxes, with tracks in AlexeyAB's dialect.

        Differs: an image without a label file ends pjreddie's program; here it is skipped.
        """
        config = self.augment_config
        file = path
        try:
            file = str(find_label(path, config.dialect))
            labels = read_labels(file, config.classes, allow_class_only=config.allow_class_only)
        except DarkpyError as error:
            problems.append(Problem(False, file, error.message))
            return None if config.dialect is Dialect.PJREDDIE else torch.zeros(0, config.entries)
        problems += (Problem(True, text, text) for text in labels.problems)
        if config.entries == 5:
            return labels.boxes_N5
        # a number per file that is the same in every process and every run
        first_track = zlib.crc32(os.fsencode(file)) % TRACKS_PER_FILE * TRACKS_PER_FILE
        track_N1 = torch.arange(first_track, first_track + len(labels.boxes_N5)).float()[:, None]
        return torch.cat((labels.boxes_N5, track_N1), 1)


@dataclass(frozen=True, slots=True)
class ClassificationData:
    """Images whose classes are given by their paths or by tag files.

    labels: class names, of which those that occur in a path are its classes; None for tag files.
    tree: hierarchy of the classes.
    draft: decode large JPEGs at a reduced size that is not below the size they are cropped from.
    Raises:  DarkpyError when labels or tree have another number of classes, or images are to be mixed under a tree.
    """

    paths: tuple[str, ...]
    augment_config: ClassificationAugmentConfig
    sampler: Sampler
    classes: int
    labels: tuple[str, ...] | None
    tree: Tree | None = None
    channels: int = 3
    draft: bool = False

    def __post_init__(self) -> None:
        if self.labels is not None and len(self.labels) != self.classes:
            raise DarkpyError(f"there are {len(self.labels)} labels for {self.classes} classes")
        if self.tree is not None and self.tree.classes != self.classes:
            raise DarkpyError(f"the tree has {self.tree.classes} classes, the data set {self.classes}")
        if self.tree is not None and self.augment_config.mixing:
            raise DarkpyError(
                "mosaic, cutmix and mixup cannot be combined with a tree of classes",
                hint="a mean of targets would be wrong where a class is unknown: remove them from [net]",
            )

    def make(self, sample_index: int, w: int, h: int, steps: list[str] | None = None) -> TrainingSample:
        """Make a sample, see `Dataset`. steps: gets a description of each step of its augmentation."""
        return _make_cropped(self, self._read_classes, sample_index, w, h, steps)

    def _read_classes(self, path: str, problems: list[Problem]) -> Tensor | None:
        """Make the target of an image.

        Source:  pjreddie/darknet src/data.c fill_truth, load_tags_paths
        Differs: label_smooth_eps is ignored with a tree, where it would make every class true.
        """
        if self.labels is None:
            try:
                class_ids, messages = read_tags(find_label(path, self.augment_config.dialect), self.classes)
            except DarkpyError as error:
                class_ids, messages = (), ()
                problems.append(Problem(False, path, error.message))
            problems += (Problem(True, text, text) for text in messages)
        else:
            class_ids = tuple(class_id for class_id, label in enumerate(self.labels) if label in path)
            # with a single class, an image without it is a negative example
            if len(class_ids) != 1 and not (len(self.labels) == 1 and not class_ids):
                names = ", ".join(self.labels[class_id] for class_id in class_ids[:5])
                text = f"{path}: {len(class_ids)} labels occur in this path{': ' if class_ids else ''}{names}"
                problems.append(Problem(True, text, text))
        if self.tree is not None:
            return fill_tree(class_ids, self.tree)
        return fill_classes(class_ids, self.classes, self.augment_config.label_smooth_eps)


@dataclass(frozen=True, slots=True)
class RegressionData:
    """Images whose label files hold numbers.

    numbers: count for each image. draft: as in `ClassificationData`.
    """

    paths: tuple[str, ...]
    augment_config: ClassificationAugmentConfig
    sampler: Sampler
    numbers: int
    channels: int = 3
    draft: bool = False

    def make(self, sample_index: int, w: int, h: int, steps: list[str] | None = None) -> TrainingSample:
        """Make a sample, see `Dataset`. steps: gets a description of each step of its augmentation."""
        return _make_cropped(self, self._read_numbers, sample_index, w, h, steps)

    def _read_numbers(self, path: str, problems: list[Problem]) -> Tensor | None:
        """Read the target of an image. Differs: an image without a label file ends darknet; here it is skipped."""
        file = path
        try:
            file = str(find_label(path, self.augment_config.dialect))
            return torch.tensor(read_numbers(file, self.numbers))
        except DarkpyError as error:
            problems.append(Problem(False, file, error.message))
            return None


def _make_cropped(
    data: ClassificationData | RegressionData,
    read_target: ReadTarget[Tensor],
    sample_index: int,
    w: int,
    h: int,
    steps: list[str] | None,
) -> TrainingSample:
    config = data.augment_config
    min_side = max(w, h, *config.crop_range(w)) if data.draft else None
    opener = ImageOpener(data.paths, data.channels, data.sampler, sample_index, read_target, min_side)
    rngs = data.sampler.rngs(sample_index, steps)
    x_CHW, truth_K = classification.compose(opener.open, config, w, h, rngs)
    return TrainingSample(x_CHW, truth_K, tuple(opener.opened), tuple(opener.problems))
