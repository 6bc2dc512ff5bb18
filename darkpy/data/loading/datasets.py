"""What a slot of the stream holds: an image from the list, its labels, both as training shows them.

The classes here travel to worker processes. What they cannot read they pass over, and say so.
Letters: C color, H height, W width; N boxes; K classes.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from darkpy.config.tree import Tree
from darkpy.data.augment import classification
from darkpy.data.augment import mosaic as mixing
from darkpy.data.augment.config import ClassificationAugmentConfig, DetectionAugmentConfig
from darkpy.data.augment.sampler import Sampler
from darkpy.data.lists.labels import read_labels, read_tags
from darkpy.data.lists.paths import label_path
from darkpy.data.loading.bad_files import Problem
from darkpy.data.loading.images import load_image
from darkpy.data.loading.targets import fill_boxes, fill_cells, fill_classes, fill_tree
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, ImageError

MAX_TRIES = 100
"""How many images in a row may be bad before training stops."""

TRACKS = 4000
"""So many files, and so many objects in each, have tracks of their own with AlexeyAB."""


class TrainingSample(NamedTuple):
    """What a slot holds. paths: the image shown, or those that are mixed. truth: as the loss layer reads it."""

    x_CHW: Tensor
    truth: Tensor
    paths: tuple[str, ...]
    problems: tuple[Problem, ...]


class Dataset(Protocol):
    """Training data of any kind."""

    def make(self, sample_index: int, w: int, h: int) -> TrainingSample:
        """What the network is shown at a slot of the stream, at w x h.

        Raises: DarkpyError when MAX_TRIES images in a row cannot be used.
        """
        ...


ReadTruth = Callable[[str, list[Problem]], Tensor | None]
"""What the labels of an image say, None if the image is to be passed over; adds what is wrong to the list."""


class _Opener:
    """Opens the images of one slot, passes over bad ones, and keeps account."""

    def __init__(
        self,
        paths: Sequence[str],
        channels: int,
        sampler: Sampler,
        sample_index: int,
        read_truth: ReadTruth,
        least_side: int | None,
    ) -> None:
        self._paths, self._channels, self._sampler, self._sample_index = paths, channels, sampler, sample_index
        self._read_truth, self._least_side = read_truth, least_side
        self.opened: list[str] = []
        self.problems: list[Problem] = []

    def open(self, source: int) -> tuple[Tensor, Tensor]:
        """The image that is the slot's number `source`, (C, H, W) uint8, and its truth."""
        for number in islice(self._sampler.candidates(self._sample_index, source), MAX_TRIES):
            path = self._paths[number]
            truth = self._read_truth(path, self.problems)
            if truth is None:
                continue
            try:
                image_CHW = load_image(path, channels=self._channels, least_side=self._least_side).view()
            except ImageError as fault:
                self.problems.append(Problem(False, path, fault.message))
                continue
            self.opened.append(path)
            return image_CHW, truth
        raise DarkpyError(
            f"{MAX_TRIES} images in a row could not be used; of the last: {self.problems[-1].message}",
            hint="look at the list of images: are these the right paths, and are there labels for them?",
        )


@dataclass(frozen=True, slots=True)
class DetectionData:
    """Images with boxes.

    draft: whether large JPEGs may be decoded smaller than they are, if not below the network's size.
    """

    paths: tuple[str, ...]
    augment_config: DetectionAugmentConfig
    sampler: Sampler
    channels: int = 3
    draft: bool = False

    def make(self, sample_index: int, w: int, h: int) -> TrainingSample:
        least_side = max(w, h) if self.draft else None
        opener = _Opener(self.paths, self.channels, self.sampler, sample_index, self._read_boxes, least_side)
        augment_config = self.augment_config
        x_CHW, boxes_N = mixing.compose(opener.open, augment_config, w, h, self.sampler.rngs(sample_index))
        if augment_config.head == "detection":
            truth = fill_cells(boxes_N, augment_config.side, augment_config.classes)
        else:
            truth = fill_boxes(boxes_N, augment_config.max, augment_config.entries)
        return TrainingSample(x_CHW, truth, tuple(opener.opened), tuple(opener.problems))

    def _read_boxes(self, path: str, problems: list[Problem]) -> Tensor | None:
        """Differs: an image without a label file stops pjreddie's program; here it is passed over."""
        file = path
        try:
            file = str(label_path(path, self.augment_config.dialect))
            labels = read_labels(
                file, self.augment_config.classes, allow_class_only=self.augment_config.allow_class_only
            )
        except DarkpyError as fault:
            problems.append(Problem(False, file, fault.message))
            return (
                None if self.augment_config.dialect is Dialect.PJREDDIE else torch.zeros(0, self.augment_config.entries)
            )
        problems += (Problem(True, text, text) for text in labels.problems)
        if self.augment_config.entries == 5:
            return labels.boxes_N5
        first_track = zlib.crc32(os.fsencode(file)) % TRACKS * TRACKS
        track_N1 = torch.arange(first_track, first_track + len(labels.boxes_N5)).float()[:, None]
        return torch.cat((labels.boxes_N5, track_N1), 1)


@dataclass(frozen=True, slots=True)
class ClassificationData:
    """Images whose paths, or tag files, tell their classes.

    labels: those that occur in a path are its classes; None for tag files.
    tree: what else is true of a class.
    draft: whether large JPEGs may be decoded smaller than they are, if not below the size they are cropped from.
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
                "mosaic, cutmix and mixup do not go with a tree of classes",
                hint="half a truth cannot be told from an unknown one: take them out of [net]",
            )

    def make(self, sample_index: int, w: int, h: int) -> TrainingSample:
        least_side = max(w, h, *self.augment_config.crop_range(w)) if self.draft else None
        opener = _Opener(self.paths, self.channels, self.sampler, sample_index, self._read_classes, least_side)
        x_CHW, truth_K = classification.compose(opener.open, self.augment_config, w, h, self.sampler.rngs(sample_index))
        return TrainingSample(x_CHW, truth_K, tuple(opener.opened), tuple(opener.problems))

    def _read_classes(self, path: str, problems: list[Problem]) -> Tensor | None:
        """Source:  pjreddie/darknet src/data.c fill_truth, load_tags_paths
        Differs: with a tree, label_smooth_eps does not count; it would make every class true.
        """
        found = self._find_tags(path, problems) if self.labels is None else self._find_labels(path, problems)
        if self.tree is not None:
            return fill_tree(found, self.tree)
        return fill_classes(found, self.classes, self.augment_config.label_smooth_eps)

    def _find_labels(self, path: str, problems: list[Problem]) -> Sequence[int]:
        labels = self.labels or ()
        found = [number for number, label in enumerate(labels) if label in path]
        # a single class may well be absent
        if len(found) != 1 and not (len(labels) == 1 and not found):
            names = ", ".join(labels[number] for number in found[:5])
            text = f"{path}: {len(found)} labels occur in this path{': ' if found else ''}{names}"
            problems.append(Problem(True, text, text))
        return found

    def _find_tags(self, path: str, problems: list[Problem]) -> Sequence[int]:
        try:
            found, faults = read_tags(label_path(path, self.augment_config.dialect), self.classes)
        except DarkpyError as fault:
            problems.append(Problem(False, path, fault.message))
            return ()
        problems += (Problem(True, text, text) for text in faults)
        return found
