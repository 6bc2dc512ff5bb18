"""`.data` files: the lists, names and folders of a training or evaluation."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from darkpy.data.lists.text_files import read_lines
from darkpy.errors import DarkpyError, DarkpyWarning
from darkpy.files import locate

_DATA_FILE_HINT = "a .data file holds lines such as names=coco.names; the order is DATA, CFG, WEIGHTS"
DEFAULT_NAMES = "data/names.list"
DIFFICULT_KEYS = {"valid": "difficult", "train": "difficult_train", "test": "difficult_test"}
"""Key of the list of difficult objects, which need not be detected, for each list of images; AlexeyAB has `valid`'s."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """Content of a `.data` file; `entries` holds the first value of each key."""

    path: Path
    entries: Mapping[str, str]

    def find(self, key: str, default: str | None = None) -> Path | None:
        """Find the file that a key names: relative to the working directory, else to the `.data` file's folder."""
        value = self.entries.get(key, default)
        return None if value is None else locate(Path(value), self.path.parent)

    def find_names(self) -> Path | None:
        """Find the `.names` file; without the key, darknet's default if it exists."""
        default = self.find("names", DEFAULT_NAMES)
        if "names" in self.entries or default is None:
            return default
        names = default if default.is_file() else None
        message = f"{names} is used" if names else f"darknet's default, {DEFAULT_NAMES}, does not exist"
        warnings.warn(f"{self.path}: has no names=; {message}", DarkpyWarning, stacklevel=2)
        return names


def read_data(path: str | os.PathLike[str]) -> DataFile:
    """Parse a `.data` file; ignored lines are warned about.

    Raises:  DarkpyError when it cannot be read, is empty or not a `.data` file.
    Source:  AlexeyAB/darknet src/option_list.c read_data_cfg
    Differs: blanks inside a value are kept, so that paths may contain them; darknet removes them. Carriage returns
             are removed in both dialects.
    """
    path = Path(path)
    lines = read_lines(path, hint=_DATA_FILE_HINT, keep_bytes=True)
    entries: dict[str, str] = {}
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line[0] in "#;":
            continue
        if line[0] == "[":
            raise DarkpyError(f"{path}:{number}: {line[:40]!r} makes it a cfg, not a .data file", hint=_DATA_FILE_HINT)
        key, _, value = (part.strip() for part in line.partition("="))
        if not value:
            _warn(path, number, f"{key[:40]!r} has no value; the line is ignored")
        elif key in entries:
            _warn(path, number, f"{key[:40]!r} was given before; the first value counts, this one is ignored")
        else:
            entries[key] = value
    return DataFile(path, entries)


def _warn(path: Path, number: int, message: str) -> None:
    warnings.warn(f"{path}:{number}: {message}", DarkpyWarning, stacklevel=3)
