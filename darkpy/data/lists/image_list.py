"""Lists of images: from a folder, a list file or a `.data` file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from darkpy.data.lists.labels import LabelTable, read_label_table
from darkpy.data.lists.paths import expand_paths, find_image, read_list_lines
from darkpy.data.lists.text_files import DataFile, read_data, read_names
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.files import is_file

LIST_SUFFIXES = (".txt", ".list")
NO_LABELS_HINT = "labels lie beside the images, or for images/a.jpg in labels/a.txt"
NO_IMAGES_MESSAGE = "file not found, nor is any other image of the list"
NO_IMAGES_HINT = "paths in a list are relative to the working directory, or else to the list's own folder"


@dataclass(frozen=True, slots=True)
class ImageList:
    """List of images.

    images: paths as the list has them. folder: base of paths that are not found from the working directory.
    names: class names, as far as known.
    """

    images: tuple[str, ...]
    folder: Path
    names: tuple[str, ...] = ()

    def read_labels(self, dialect: Dialect | None = None) -> LabelTable:
        """Read the labels of all images. Raises: DarkpyError when no image has labels."""
        table = read_label_table(self.images, self.folder, dialect)
        if len(table.missing) == len(table.files):
            require_images([self.file(index) for index in range(len(self.images))])
            raise DarkpyError(
                f"no image of the list has labels; those of the first are expected in {table.files[0]}",
                hint=NO_LABELS_HINT,
            )
        return table

    def file(self, index: int) -> Path:
        """Return the path of an image's file."""
        return find_image(Path(self.images[index]), self.folder)

    def name(self, class_id: int) -> str:
        """Return the name of a class, or its number if it has no name."""
        name = self.names[class_id] if class_id < len(self.names) else ""
        return name.strip() or str(class_id)


def require_images(files: Sequence[Path]) -> None:
    """Raises: DarkpyError that names the first file if none of them exists."""
    if files and not any(map(is_file, files)):
        raise DarkpyError(f"{files[0]}: {NO_IMAGES_MESSAGE}", hint=NO_IMAGES_HINT)


def names_from_common_folder(files: Sequence[Path]) -> list[str]:
    """Return the paths of images relative to their common folder."""
    absolute = [file.absolute() for file in files]
    common = os.path.commonpath([file.parent for file in absolute])
    return [file.relative_to(common).as_posix() for file in absolute]


def open_list(source: Path, key: str = "train") -> ImageList:
    """Open the images of a folder, of a list file, or of the list that `key` of a `.data` file names.

    Raises: DarkpyError when it cannot be read or names no image.
    """
    return open_list_and_data(source, key)[0]


def open_list_and_data(source: Path, key: str) -> tuple[ImageList, DataFile | None]:
    """Open the images as `open_list` does, reading a `.data` file once, which warns of its faults.

    Returns: also the `.data` file; None for a folder or a list file.
    """
    if source.is_dir():
        return ImageList(tuple(map(str, expand_paths([source]))), source), None
    if source.suffix.lower() in LIST_SUFFIXES:
        return ImageList(tuple(read_list_lines(source)), source.parent), None
    data = read_data(source)
    return open_key(data, key), data


def open_lists(source: Path, keys: Sequence[str]) -> dict[str, ImageList]:
    """Open the lists of these keys of a `.data` file; for another source its one list, named like its file.

    Raises: DarkpyError when there is no list, or with all that cannot be read or name no image.
    """
    if source.is_dir() or source.suffix.lower() in LIST_SUFFIXES:
        return {source.stem: open_list(source)}
    data = read_data(source)
    lists: dict[str, ImageList] = {}
    errors: list[DarkpyError] = []
    for key in (key for key in keys if key in data.entries):
        try:
            lists[key] = open_key(data, key)
        except DarkpyError as error:
            errors.append(error)
    if errors:
        raise DarkpyError("\n".join(dict.fromkeys(error.message for error in errors)), hint=errors[0].hint)
    if not lists:
        raise DarkpyError(f"{source}: names no list of images", hint="train=train.txt names one")
    return lists


def open_key(data: DataFile, key: str) -> ImageList:
    """Open the list that a key of a `.data` file names.

    Raises: DarkpyError when there is no such key, or the list cannot be read or names no image.
    """
    file = data.find(key)
    if file is None or key not in data.entries:
        raise DarkpyError(f"{data.path}: has no {key}=", hint=f"name the list of images: {key}={key}.txt")
    return ImageList(tuple(read_list_lines(file)), file.parent, known_names(data))


def known_names(data: DataFile) -> tuple[str, ...]:
    """Read the class names of a `.data` file; none if their file is not given or does not exist."""
    file = data.find("names") if "names" in data.entries else None
    return read_names(file) if file is not None and file.is_file() else ()
