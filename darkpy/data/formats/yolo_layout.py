"""Layouts of YOLO data sets of other programs: their lists, folders of images, labels and class names.

Known are ultralytics' data.yaml (also as Roboflow and CVAT export it), `.data` files, lists, and bare folders.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from darkpy.data.formats.annotations import ImportReport
from darkpy.data.formats.data_yaml import SPLIT_KEYS, SUPPORTED_HINT, read_data_yaml
from darkpy.data.lists.image_list import LIST_SUFFIXES
from darkpy.data.lists.paths import (
    IMAGE_SUFFIXES,
    find_image,
    find_images_below,
    label_path,
    read_image_list,
)
from darkpy.data.lists.text_files import read_data, read_names
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.files import is_file, is_true

YAML_SUFFIXES = (".yaml", ".yml")
_SPLIT_NAMES = ("train", "valid", "val", "test")
_NAMES_FILES = ("classes.txt", "obj.names", "_darknet.labels", "labels/classes.txt")
_OTHER_PLACE = "paths that do not exist as written are found beside the file that names them"


@dataclass(slots=True)
class YoloLayout:
    """Images of a data set and the location of their labels; files that cannot be found or read are added to a report.

    splits: images by split, `""` for all if there are no splits. hint: against the faults of the layout.
    """

    report: ImportReport
    splits: dict[str, list[Path]] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    has_key_points: bool = False
    hint: str = "name the data.yaml, the .data file, or the folder of the images"

    def open(self, source: Path) -> None:
        """List the images of a data.yaml, `.data` file, list or folder."""
        if is_true(source.is_dir):
            self.open_folder(source)
        elif source.suffix.lower() in YAML_SUFFIXES:
            self.open_yaml(source)
        elif source.suffix.lower() in LIST_SUFFIXES:
            self.splits[""] = read_image_list(source)
            self.names = names_beside(source.parent)
        else:
            self.open_data(source)

    def open_data(self, file: Path) -> None:
        """List the images of a `.data` file."""
        data = read_data(file)
        for key in _SPLIT_NAMES:
            list_file = data.find(key)
            if key not in data.entries or list_file is None:
                continue
            self.splits[key] = self.read(read_image_list, list_file)
        if not self.splits:
            self.report.faults.append(f"{file}: names no list of images")
        names = data.find("names") if "names" in data.entries else None
        try:
            self.names = read_names(names) if names is not None else names_beside(file.parent)
        except DarkpyError as error:
            self.report.faults.append(error.message)

    def read(self, images: Callable[[Path], list[Path]], path: Path) -> list[Path]:
        """Read the images of a list or folder; none, with a fault, if it cannot be read."""
        try:
            return images(path)
        except DarkpyError as error:
            self.report.faults.append(error.message)
            return []

    def open_folder(self, folder: Path) -> None:
        """List the images of a folder by the file in it that describes it, by its lists, or by its folders."""
        descriptions = [*folder.glob("*.yaml"), *folder.glob("*.yml"), *folder.glob("*.data")]
        if len(descriptions) > 1:
            shown = " and ".join(sorted(path.name for path in descriptions)[:2])
            raise DarkpyError(f"{folder}: has {shown}", hint=f"name one of them: {min(descriptions)}")
        if descriptions:
            self.open(descriptions[0])
            return
        self.names = names_beside(folder)
        for name in _SPLIT_NAMES:
            list_file = folder / f"{name}.txt"
            is_label = any(is_file(list_file.with_suffix(suffix)) for suffix in IMAGE_SUFFIXES)
            if is_file(list_file) and not is_label:
                self.splits[name] = self.read(read_image_list, list_file)
        if not self.splits:
            for name in _SPLIT_NAMES:
                folders = (folder / "images" / name, folder / name / "images", folder / name)
                if images := next(filter(None, map(find_images_below, folders)), None):
                    self.splits[name] = images
        if not self.splits:
            self.splits[""] = find_images_below(folder)
        if not any(self.splits.values()) and not self.report.faults:
            self.report.faults.append(f"{folder}: no image in this folder")

    def open_yaml(self, file: Path) -> None:
        """List the images of a data.yaml."""
        content = read_data_yaml(file, self.report)
        if self.report.faults:
            self.hint = SUPPORTED_HINT
        beside, root = file.parent, Path(content.root)
        self.names = content.names or names_beside(beside)
        self.has_key_points = content.has_key_points
        # `path` is relative to the file, to ultralytics' folder of data sets, or of another machine
        roots = [beside / root, beside.parent / root, beside]
        for split, entry in ((split, entry) for split, entries in content.splits.items() for entry in entries):
            # Roboflow names the folders beside its data.yaml with ../
            inner = Path(entry.removeprefix("../"))
            candidates = [*(folder / entry for folder in roots), *(folder / inner for folder in roots), Path(entry)]
            path = next((path for path in candidates if is_true(path.exists)), None)
            if path is None:
                self.report.faults.append(
                    f"{file}: {split}: {entry[:80]} does not exist; looked for at {candidates[0]}"
                )
                continue
            if path != candidates[0]:
                self.report.losses[_OTHER_PLACE].append(f"{file}: {split}: {entry}: {path}")
            known_faults = len(self.report.faults)
            images = self.read(find_images_below if path.is_dir() else read_image_list, path)
            for folder in roots:
                images = [find_image(image, folder) for image in images]
            if not images and len(self.report.faults) == known_faults:
                self.report.faults.append(f"{path}: no image in this folder")
            self.splits.setdefault(split, []).extend(images)
        if not content.splits and not self.report.faults:
            self.report.faults.append(f"{file}: names no images: it has none of {', '.join(SPLIT_KEYS)}")


def names_beside(folder: Path) -> tuple[str, ...]:
    """Read the names that lie where annotation tools put them: in a folder, above it, or in those of its splits."""
    places = (folder, folder.parent, *(folder / split for split in _SPLIT_NAMES))
    candidates = [place / name for place in places for name in _NAMES_FILES]
    file = next((path for path in candidates if is_file(path)), None)
    return tuple(name.strip() for name in read_names(file)) if file else ()


def find_yolo_label(image: Path) -> Path | None:
    """Return the label file of an image: where ultralytics looks, beside it, or where a darknet looks."""
    parts = image.parts
    text_name = image.with_suffix(".txt").name
    candidates = []
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            candidates.append(Path(*parts[:index], "labels", *parts[index + 1 : -1], text_name))
            break
    candidates.append(image.with_name(text_name))
    candidates += [label_path(image, dialect) for dialect in Dialect]
    candidates += [image.parent / "labels" / text_name, image.parent.parent / "labels" / text_name]
    return next((path for path in candidates if is_file(path)), None)
