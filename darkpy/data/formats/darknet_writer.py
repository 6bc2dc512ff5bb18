"""A data set as both darknets read it: images with their labels beside them, lists, names and a `.data` file."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from darkpy.data.formats.annotations import AnnotatedDataset, BoxPx, Image
from darkpy.data.lists.data_file import DIFFICULT_KEYS
from darkpy.data.lists.paths import label_path, listed_folder
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.files import make_output_folder, write_atomic

IMAGE_FOLDER, DIFFICULT_FOLDER = "pictures", "difficult"
"""Not `images`: pjreddie's rule would look for the labels in `labels`."""
_NOTICED = 1.0
"""By how many pixels a box may reach over the image's edge without a word; VOC's pixels begin at 1."""


class BoxFrac(NamedTuple):
    """The center form in fractions of the image."""

    x: float
    y: float
    w: float
    h: float


@dataclass(slots=True)
class ImportStats:
    """What became of the objects. empty: places of boxes without a size, outside: of those not on their image."""

    boxes: Counter[str] = field(default_factory=Counter)
    difficult: Counter[str] = field(default_factory=Counter)
    unnamed: Counter[str] = field(default_factory=Counter)
    empty: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    cut: int = 0


class Labels(NamedTuple):
    """The texts of an image's label files: what must be found, and what need not be."""

    plain: str
    difficult: str


def label_texts(
    collection: AnnotatedDataset, names: Sequence[str], stats: ImportStats, *, difficult: str
) -> dict[str, Labels]:
    """What the label files of each image hold.

    difficult: `apart`, `keep` (as other objects) or `drop`.
    Differs: boxes without a size and boxes outside the image are counted and not written; voc_label.py writes them.
    """
    numbers = {name: number for number, name in enumerate(names)}
    return {key: _label(key, image, numbers, stats, difficult) for key, image in collection.images.items()}


def _label(key: str, image: Image, numbers: Mapping[str, int], stats: ImportStats, difficult: str) -> Labels:
    texts: tuple[list[str], list[str]] = ([], [])
    for one in image.objects:
        if one.name not in numbers:
            stats.unnamed[one.name] += 1
            continue
        box = _fractions(one.box, image, f"{key} ({one.name})", stats)
        if box is None or (one.is_difficult and difficult == "drop"):
            continue
        is_apart = one.is_difficult and difficult == "apart"
        (stats.difficult if is_apart else stats.boxes)[one.name] += 1
        texts[is_apart].append(" ".join((str(numbers[one.name]), *(f"{value:.10g}" for value in box))) + "\n")
    return Labels(*map("".join, texts))


def _fractions(box: BoxPx, image: Image, place: str, stats: ImportStats) -> BoxFrac | None:
    if box.right <= box.left or box.bottom <= box.top:
        stats.empty.append(place)
        return None
    left, right = (min(max(edge, 0), image.w) for edge in (box.left, box.right))
    top, bottom = (min(max(edge, 0), image.h) for edge in (box.top, box.bottom))
    if right <= left or bottom <= top:
        stats.outside.append(place)
        return None
    inside = (left, top, right, bottom)
    stats.cut += any(abs(edge - whole) > _NOTICED for edge, whole in zip(inside, box, strict=True))
    w, h = image.w, image.h
    return BoxFrac((left + right) / 2 / w, (top + bottom) / 2 / h, (right - left) / w, (bottom - top) / h)


@dataclass(frozen=True, kw_only=True, slots=True)
class DarknetSet:
    """What is written. images: their files by name; splits: which of them a list names."""

    images: Mapping[str, Path]
    labels: Mapping[str, Labels]
    splits: Mapping[str, Sequence[str]]
    names: Sequence[str]

    @property
    def train(self) -> str:
        """The list to train on: one that is called so, else the first."""
        return self._first("train") or next(iter(self.splits))

    @property
    def valid(self) -> str:
        """The list to judge by; the one to train on where there is no other."""
        return self._first("val") or self._first("test") or self.train

    def _first(self, start: str) -> str | None:
        """The split with the shortest name that begins so."""
        return min((name for name in self.splits if name.startswith(start)), key=len, default=None)


def write_set(made: DarknetSet, folder: Path, *, copy: bool = False, overwrite: bool = False) -> Iterator[Path]:
    """Write images (links to them, or copies) with their labels, then lists and names, and the `.data` file last.

    Yields:  the path of each image when it and its labels are there.
    Raises:  DarkpyError when the folder cannot be written, is not empty and not forced, or lies where not both forks
             would find labels.
    """
    listed = listed_folder(folder, f"{IMAGE_FOLDER}/a.jpg")
    targets = {name: folder / IMAGE_FOLDER / f"{name}{file.suffix}" for name, file in made.images.items()}
    labels = {name: _label_files(target) for name, target in targets.items()}
    _check_distinct(labels)
    difficult = _difficult_splits(made)
    subfolders = [IMAGE_FOLDER, "backup", *([DIFFICULT_FOLDER] if difficult else [])]
    make_output_folder(folder, subfolders, overwrite=overwrite)
    for name, target in targets.items():
        _place(made.images[name], target, copy)
        for file in labels[name]:
            write_atomic(file, [made.labels[name].plain.encode()], durable=False)
        yield target
    for key, split in difficult.items():
        lines = _write_difficult(made, made.splits[split], folder, listed, targets)
        write_atomic(folder / f"{key}.txt", [_encoded("".join(lines))])
    for split, members in made.splits.items():
        lines = [f"{listed}/{IMAGE_FOLDER}/{targets[name].name}\n" for name in members]
        write_atomic(folder / f"{split}.txt", [_encoded("".join(lines))])
    write_atomic(folder / f"{folder_name(folder)}.names", ["".join(f"{name}\n" for name in made.names).encode()])
    write_atomic(data_path(folder), [_encoded(_data_text(made, folder, listed, difficult))])


def data_path(folder: Path) -> Path:
    """The `.data` file of a data set, which is called as its folder."""
    return folder / f"{folder_name(folder)}.data"


def folder_name(folder: Path) -> str:
    return folder.absolute().name or "set"


def _data_text(made: DarknetSet, folder: Path, listed: str, difficult: Iterable[str]) -> str:
    lines = {
        "classes": str(len(made.names)),
        "train": f"{listed}/{made.train}.txt",
        "valid": f"{listed}/{made.valid}.txt",
        "names": f"{listed}/{folder_name(folder)}.names",
        "backup": f"{listed}/backup",
    }
    if "test" in made.splits and made.valid != "test":
        lines["test"] = f"{listed}/test.txt"
    lines |= {key: f"{listed}/{key}.txt" for key in difficult}
    return "".join(f"{key}={value}\n" for key, value in lines.items())


def _difficult_splits(made: DarknetSet) -> dict[str, str]:
    """The splits with difficult objects, by the key of the `.data` file that names these objects' list."""
    splits = {"valid": made.valid, "train": made.train, "test": "test"}
    found: dict[str, str] = {}
    for key, split in splits.items():
        has_some = any(made.labels[name].difficult for name in made.splits.get(split, ()))
        if has_some and split not in found.values():
            found[DIFFICULT_KEYS[key]] = split
    return found


def _write_difficult(
    made: DarknetSet, members: Sequence[str], folder: Path, listed: str, targets: Mapping[str, Path]
) -> list[str]:
    """The labels of what need not be found. Returns: the lines of AlexeyAB's second list, as long as the first.

    Nothing reads the images of this list, only their names.
    """
    lines = []
    for name in members:
        target = folder / DIFFICULT_FOLDER / targets[name].name
        for file in _label_files(target):
            write_atomic(file, [made.labels[name].difficult.encode()])
        lines.append(f"{listed}/{DIFFICULT_FOLDER}/{target.name}\n")
    return lines


def _label_files(target: Path) -> set[Path]:
    """Where each fork looks for the labels of an image; two places where its name has `raw` or `images` in it."""
    return {target.with_name(label_path(target.name, dialect).name) for dialect in Dialect}


def _check_distinct(labels: Mapping[str, set[Path]]) -> None:
    owners: dict[Path, str] = {}
    for name, files in labels.items():
        for file in files:
            other = owners.setdefault(file, name)
            if other != name:
                raise DarkpyError(
                    f"{file.name}: would be the label file of two images, {other} and {name}",
                    hint="give one of the images another name",
                )


def _place(source: Path, target: Path, copy: bool) -> None:
    """Link an image, or copy it where that is wanted or links cannot be made."""
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
        raise DarkpyError(f"{target}: cannot be made from {source}: {error.strerror or error}") from error


def _encoded(text: str) -> bytes:
    """File names are bytes, and may mean nothing as letters."""
    return text.encode(errors="surrogateescape")
