"""Writer of data sets that both darknets read: images with label files beside them, lists, names and `.data` file."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from darkpy.data.formats.annotations import AnnotatedDataset, AnnotatedImage, BoxPx, EmbeddedImage, ImageFile
from darkpy.data.lists.paths import label_path, listed_folder, require_listable
from darkpy.data.lists.text_files import DIFFICULT_KEYS
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.files import make_output_folder, write_atomic

IMAGE_FOLDER, DIFFICULT_FOLDER = "pictures", "difficult"
"""The first is not `images`, for which pjreddie's rule would look for the labels in `labels`."""
REPORTED_OVERLAP_PX = 1.0
"""Boxes that extend this far over the image's edge are cut off silently: VOC's pixels begin at 1."""


class BoxFrac(NamedTuple):
    """Box in center form, in fractions of the image."""

    x: float
    y: float
    w: float
    h: float


@dataclass(slots=True)
class ImportStats:
    """Counts of imported objects by class, and objects left out.

    unnamed: objects of other classes. empty, outside: images with boxes without a size, or outside the image.
    cut: boxes cut off at the image's edge.
    """

    boxes: Counter[str] = field(default_factory=Counter)
    difficult: Counter[str] = field(default_factory=Counter)
    unnamed: Counter[str] = field(default_factory=Counter)
    empty: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    cut: int = 0


class LabelTexts(NamedTuple):
    """Texts of an image's label files: objects that must be detected, and difficult ones."""

    plain: str
    difficult: str


def label_texts(
    dataset: AnnotatedDataset, names: Sequence[str], stats: ImportStats, *, difficult: str
) -> dict[str, LabelTexts]:
    """Format the label files of each image.

    difficult: `apart`, `keep` (as other objects) or `drop`.
    Differs: boxes without a size and boxes outside the image are counted and not written; voc_label.py writes them.
    """
    class_ids = {name: class_id for class_id, name in enumerate(names)}
    labels: dict[str, LabelTexts] = {}
    for key, image in dataset.images.items():
        texts: tuple[list[str], list[str]] = ([], [])
        for item in image.objects:
            if item.name not in class_ids:
                stats.unnamed[item.name] += 1
                continue
            box = _box_frac(item.box, image, f"{key} ({item.name})", stats)
            if box is None or (item.is_difficult and difficult == "drop"):
                continue
            is_apart = item.is_difficult and difficult == "apart"
            (stats.difficult if is_apart else stats.boxes)[item.name] += 1
            numbers = (str(class_ids[item.name]), *(f"{value:.10g}" for value in box))
            texts[is_apart].append(" ".join(numbers) + "\n")
        labels[key] = LabelTexts(*map("".join, texts))
    return labels


def _box_frac(box: BoxPx, image: AnnotatedImage, location: str, stats: ImportStats) -> BoxFrac | None:
    """Convert a box, cut off at the image's edges; None if it has no size or nothing of it is inside."""
    if box.right <= box.left or box.bottom <= box.top:
        stats.empty.append(location)
        return None
    left, right = (min(max(edge, 0), image.w) for edge in (box.left, box.right))
    top, bottom = (min(max(edge, 0), image.h) for edge in (box.top, box.bottom))
    if right <= left or bottom <= top:
        stats.outside.append(location)
        return None
    clipped = (left, top, right, bottom)
    stats.cut += any(abs(edge - original) > REPORTED_OVERLAP_PX for edge, original in zip(clipped, box, strict=True))
    w, h = image.w, image.h
    return BoxFrac((left + right) / 2 / w, (top + bottom) / 2 / h, (right - left) / w, (bottom - top) / h)


@dataclass(frozen=True, kw_only=True, slots=True)
class DarknetSet:
    """Data set to be written. images: their files by name; splits: names of the images in each list."""

    images: Mapping[str, ImageFile]
    labels: Mapping[str, LabelTexts]
    splits: Mapping[str, Sequence[str]]
    names: Sequence[str]

    @property
    def train(self) -> str:
        """Split to train on: the one named `train...`, else the first."""
        return self._split_starting_with("train") or next(iter(self.splits))

    @property
    def valid(self) -> str:
        """Split to validate on: `val...`, else `test...`, else the training split."""
        return self._split_starting_with("val") or self._split_starting_with("test") or self.train

    def _split_starting_with(self, prefix: str) -> str | None:
        """Return the split with the shortest name that starts with a prefix."""
        return min((name for name in self.splits if name.startswith(prefix)), key=len, default=None)


def write_set(dataset: DarknetSet, folder: Path, *, copy: bool = False, overwrite: bool = False) -> Iterator[Path]:
    """Write images with their labels, then lists and names, and the `.data` file last.

    copy: copy the images instead of linking to them.
    Yields:  the path of each image after it and its labels are written.
    Raises:  DarkpyError when the folder cannot be written, is not empty (without `overwrite`), or has a path under
             which one of the two darknets would not find the labels; or when a name cannot stand in a list.
    """
    listed = listed_folder(folder, f"{IMAGE_FOLDER}/a.jpg")
    targets = {name: folder / IMAGE_FOLDER / f"{name}{file.suffix}" for name, file in dataset.images.items()}
    labels = {name: _label_files(target) for name, target in targets.items()}
    for listable in (*(target.name for target in targets.values()), *dataset.splits, *dataset.names):
        require_listable(listable)
    owners: dict[Path, str] = {}
    for name, files in labels.items():
        for file in files:
            if (other := owners.setdefault(file, name)) != name:
                raise DarkpyError(
                    f"{file.name}: would be the label file of two images, {other} and {name}",
                    hint="give one of the images another name",
                )
    difficult = _difficult_splits(dataset)
    subfolders = [IMAGE_FOLDER, "backup", *([DIFFICULT_FOLDER] if difficult else [])]
    make_output_folder(folder, subfolders, overwrite=overwrite)
    for name, target in targets.items():
        link_or_copy(dataset.images[name], target, copy)
        for file in labels[name]:
            write_atomic(file, [dataset.labels[name].plain.encode()], durable=False)
        yield target
    for key, split in difficult.items():
        # AlexeyAB's list of difficult objects names one image for each of the split; only the names are used, to find
        # label files
        lines = []
        for name in dataset.splits[split]:
            target = folder / DIFFICULT_FOLDER / targets[name].name
            for file in _label_files(target):
                write_atomic(file, [dataset.labels[name].difficult.encode()])
            lines.append(f"{listed}/{DIFFICULT_FOLDER}/{target.name}\n")
        _write_text(folder / _difficult_list(key, dataset), "".join(lines))
    for split, members in dataset.splits.items():
        _write_text(
            folder / f"{split}.txt", "".join(f"{listed}/{IMAGE_FOLDER}/{targets[name].name}\n" for name in members)
        )
    _write_text(folder / f"{folder_name(folder)}.names", "".join(f"{name}\n" for name in dataset.names))
    _write_text(data_path(folder), _data_text(dataset, folder, listed, difficult))


def data_path(folder: Path) -> Path:
    """Return the path of a data set's `.data` file, which is named like its folder."""
    return folder / f"{folder_name(folder)}.data"


def folder_name(folder: Path) -> str:
    return folder.absolute().name or "set"


def _data_text(dataset: DarknetSet, folder: Path, listed: str, difficult: Iterable[str]) -> str:
    lines = {
        "classes": str(len(dataset.names)),
        "train": f"{listed}/{dataset.train}.txt",
        "valid": f"{listed}/{dataset.valid}.txt",
        "names": f"{listed}/{folder_name(folder)}.names",
        "backup": f"{listed}/backup",
    }
    if "test" in dataset.splits and dataset.valid != "test":
        lines["test"] = f"{listed}/test.txt"
    lines |= {key: f"{listed}/{_difficult_list(key, dataset)}" for key in difficult}
    return "".join(f"{key}={value}\n" for key, value in lines.items())


def _difficult_list(key: str, dataset: DarknetSet) -> str:
    """Return the file name of a list of difficult objects, which is not that of a split."""
    stem = key
    while stem in dataset.splits:
        stem += "_objects"
    return f"{stem}.txt"


def _difficult_splits(dataset: DarknetSet) -> dict[str, str]:
    """Return the splits with difficult objects, by the `.data` key of the list of these objects."""
    candidates = {"valid": dataset.valid, "train": dataset.train, "test": "test"}
    splits: dict[str, str] = {}
    for key, split in candidates.items():
        has_difficult = any(dataset.labels[name].difficult for name in dataset.splits.get(split, ()))
        if has_difficult and split not in splits.values():
            splits[DIFFICULT_KEYS[key]] = split
    return splits


def _label_files(target: Path) -> set[Path]:
    """Return the label file of an image for each dialect: two files if its name contains `raw` or `images`."""
    return {target.with_name(label_path(target.name, dialect).name) for dialect in Dialect}


def link_or_copy(source: ImageFile, target: Path, copy: bool) -> None:
    """Link an image, or copy it if requested or where links are not supported; an embedded one becomes a file."""
    if isinstance(source, EmbeddedImage):
        write_atomic(target, [source.read()], durable=False)
        return
    try:
        is_same = target.exists() and target.samefile(source)
        if is_same and not (copy and target.is_symlink()):
            return
        target.unlink(missing_ok=True)
        if not copy:
            try:
                target.symlink_to(source.resolve())
                return
            except (OSError, NotImplementedError):
                copy = True
        shutil.copyfile(source, target)
    except OSError as error:
        raise DarkpyError(f"{target}: cannot be created from {source}: {error.strerror or error}") from error


def _write_text(path: Path, text: str) -> None:
    """Write a text; file names in it are bytes and may not be valid UTF-8."""
    write_atomic(path, [text.encode(errors="surrogateescape")])
