"""`.data` files: which lists, names and folders belong to a task."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from darkpy.data.lists.text_files import read_lines
from darkpy.errors import DarkpyError, DarkpyWarning
from darkpy.files import locate

_HINT = "a .data file holds lines such as names=coco.names; the order is DATA, CFG, WEIGHTS"
DEFAULT_NAMES = "data/names.list"
DIFFICULT_KEYS = {"valid": "difficult", "train": "difficult_train", "test": "difficult_test"}
"""Which key names the list of what need not be found, of the list that a key names; AlexeyAB has the first."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """The lines of a `.data` file; `entries` holds the first value of each key."""

    path: Path
    entries: Mapping[str, str]

    def find(self, key: str, default: str | None = None) -> Path | None:
        """The file that a key names, from the working directory or else from the `.data` file's own folder."""
        value = self.entries.get(key, default)
        return None if value is None else locate(Path(value), self.path.parent)

    def find_names(self) -> Path | None:
        """The `.names` file; where none is given, darknet's default if it is there."""
        default = self.find("names", DEFAULT_NAMES)
        if "names" in self.entries or default is None:
            return default
        found = default if default.is_file() else None
        used = f"{found} is used" if found else f"darknet's default, {DEFAULT_NAMES}, is not there"
        warnings.warn(f"{self.path}: has no names=; {used}", DarkpyWarning, stacklevel=2)
        return found


def read_data(path: str | os.PathLike[str]) -> DataFile:
    """Parse a `.data` file; lines that say nothing are warned of.

    Raises:  DarkpyError when it cannot be read, is empty or something else.
    Source:  AlexeyAB/darknet src/option_list.c read_data_cfg
    Differs: blanks inside a value stay, so that paths may have them; darknet removes them. Carriage returns go in
             both dialects.
    """
    path = Path(path)
    lines = read_lines(path, hint=_HINT)
    entries: dict[str, str] = {}
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line[0] in "#;":
            continue
        if line[0] == "[":
            raise DarkpyError(f"{path}:{number}: {line[:40]!r} makes it a cfg, not a .data file", hint=_HINT)
        key, _, value = (part.strip() for part in line.partition("="))
        if not value:
            _warn(path, number, f"{key[:40]!r} has no value; the line is dropped")
        elif key in entries:
            _warn(path, number, f"{key[:40]!r} was given before; the first counts, this one is ignored")
        else:
            entries[key] = value
    return DataFile(path, entries)


def _warn(path: Path, number: int, message: str) -> None:
    warnings.warn(f"{path}:{number}: {message}", DarkpyWarning, stacklevel=3)
