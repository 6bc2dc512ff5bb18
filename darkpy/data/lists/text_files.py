"""Text files of a data set: lists, names and .data files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from darkpy.catalog import require_file
from darkpy.errors import DarkpyError, DarkpyNote, DarkpyWarning
from darkpy.files import find_by_tail, is_file, locate, read_text, unquote, with_slashes

MAX_LISTED_LINES = 5
MAX_SIZE_BYTES = 1 << 22  # the largest in use, the names of ImageNet's 22,000 classes, has 0.5 MB


def read_lines(path: str | os.PathLike[str], *, hint: str, keep_bytes: bool = False) -> list[str]:
    """Read the lines of a text file, without carriage returns, byte order mark and blank lines at the end.

    hint: what the file should be, for errors.
    keep_bytes: keep bytes that are not UTF-8 as surrogates: names of files are bytes.
    Raises: DarkpyError when the file cannot be read, is empty or not text.
    """
    if not is_file(path):
        require_file(path)
    lines = read_text(path, max_bytes=MAX_SIZE_BYTES, hint=hint, keep_bytes=keep_bytes).split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise DarkpyError(f"{os.fspath(path)}: is an empty file", hint=hint)
    return lines


def _split(listing: str) -> tuple[str, ...]:
    return tuple(" ".join(listing.split()).split(", "))


COCO_NAMES = _split("""
person, bicycle, car, motorbike, aeroplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag,
tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard,
tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot,
hot dog, pizza, donut, cake, chair, sofa, pottedplant, bed, diningtable, toilet, tvmonitor, laptop, mouse, remote,
keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear,
hair drier, toothbrush
""")

VOC_NAMES = _split("""
aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, diningtable, dog, horse, motorbike, person,
pottedplant, sheep, sofa, train, tvmonitor
""")

_NO_COCO_CLASS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_IDS = tuple(number for number in range(1, 91) if number not in _NO_COCO_CLASS)
"""Category id of each of the 80 classes in COCO's own files."""
_COCO_NAME_OF = {
    "motorbike": "motorcycle",
    "aeroplane": "airplane",
    "sofa": "couch",
    "tvmonitor": "tv",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
}
COCO_ORIGINAL_NAMES = tuple(_COCO_NAME_OF.get(name, name) for name in COCO_NAMES)
"""Names in COCO's own files; darknet uses VOC's names for some classes."""

_NAMES_BY_COUNT = {len(COCO_NAMES): COCO_NAMES, len(VOC_NAMES): VOC_NAMES}


def read_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read a `.names` file, one class name on a line.

    Raises:  DarkpyError when the file cannot be read, is empty or not text.
    Differs: carriage returns and blank lines at the end are ignored; in darknet the latter are classes.
    """
    return tuple(read_lines(path, hint="in a file of names, line 1 is the name of class 0, and so on"))


def blank_lines_text(names: Sequence[str]) -> str:
    """Return ` (line 2 is blank)` for names of which the second is blank, `` if none is."""
    blank = [str(number) for number, name in enumerate(names, start=1) if not name.strip()]
    return f" (line {', '.join(blank[:MAX_LISTED_LINES])} is blank)" if blank else ""


def names_for(class_count: int, file: str | os.PathLike[str] | None = None, *, stacklevel: int = 2) -> tuple[str, ...]:
    """Return a name for each class of a network.

    file: a `.names` file; without one, 80 classes are COCO's, 20 are VOC's, others are named by their numbers.
    stacklevel: of the warnings, as in `warnings.warn`.
    Raises: DarkpyError when there are fewer names than classes.
    """
    if file is not None:
        names = read_names(file)
        counted = f"{len(names)} names{blank_lines_text(names)}"
        message = f"{os.fspath(file)}: holds {counted}, the network has {class_count} classes"
        if len(names) < class_count:
            raise DarkpyError(message, hint="give the names that the network was trained with, one on a line")
        if len(names) > class_count:
            extra = len(names) - class_count
            warnings.warn(f"{message}; the last {extra} are not used", DarkpyWarning, stacklevel=stacklevel)
        return names[:class_count]
    if class_count in _NAMES_BY_COUNT:
        kind = "COCO" if class_count == len(COCO_NAMES) else "VOC"
        warnings.warn(
            f"no names are given: the {class_count} classes are named as {kind}'s", DarkpyNote, stacklevel=stacklevel
        )
        return _NAMES_BY_COUNT[class_count]
    message = f"no names are given for the {class_count} classes: their numbers are shown"
    warnings.warn(message, DarkpyWarning, stacklevel=stacklevel)
    return tuple(map(str, range(class_count)))


_DATA_FILE_HINT = (
    "a .data file holds lines such as train=train.txt and names=coco.names; the order is CFG DATA WEIGHTS for darkpy's "
    "own commands, DATA CFG WEIGHTS for darknet's"
)
DEFAULT_NAMES = "data/names.list"
DIFFICULT_KEYS = {"valid": "difficult", "train": "difficult_train", "test": "difficult_test"}
"""Key of the list of difficult objects, which need not be detected, for each list of images; AlexeyAB has `valid`'s."""


KNOWN_KEYS = frozenset({
    *("classes", "names", "labels", "backup", "results", "eval", "map", "top", "leaves", "tree", "tag"),
    *("saveweights", "savelast", "train", "valid", "test", *DIFFICULT_KEYS.values()),
})  # fmt: skip
FILE_KEYS = ("names", "labels", "map", "leaves", "tree", "train", "valid", "test", *DIFFICULT_KEYS.values())
"""Keys that name files to be read."""
KEYS_OF_OTHERS = {"val": "valid", "nc": "classes", "class": "classes"}
"""Keys of ultralytics' data.yaml, of which a likelier one has another meaning."""
MIN_KEY_LIKENESS = 0.65
"""Ratio of difflib from which a known key is suggested for an unused one."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """Content of a `.data` file; `entries` holds the first value of each key."""

    path: Path
    entries: Mapping[str, str]

    def find(self, key: str, default: str | None = None) -> Path | None:
        """Find the file that a key names: relative to the working directory, else to the `.data` file's folder."""
        value = self.entries.get(key, default)
        if value is None:
            return None
        path = locate(with_slashes(Path(value)) if value.startswith("~/") else Path(value), self.path.parent)
        if key not in self.entries or is_file(path):
            return path
        slashed = locate(Path(value.replace("\\", "/")), self.path.parent) if os.sep == "/" else path
        if is_file(slashed):
            _warn(self.path, None, f"{key}={value} has backslashes, as on Windows; {slashed} is read")
            return slashed
        if found := find_by_tail(value, self.path.parent):
            start, base = found
            path = base / value.replace("\\", "/")[len(start) :]
            _warn(self.path, None, f"{key}={value} is not on this computer; {path} is read")
        return path

    def find_folder(self, key: str, default: str) -> Path:
        """Return the folder that a key names, also with the backslashes of Windows.

        Raises: DarkpyError for a folder on a drive of Windows.
        """
        value = self.entries.get(key, default)
        path = with_slashes(Path(value))
        return Path(value.replace("\\", "/")) if os.sep == "/" and "\\" in str(path) else path

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
    if path.is_dir() or path.suffix.lower() in (".yaml", ".yml"):
        kind = "a folder" if path.is_dir() else "a YAML file"
        hint = f"darkpy dataset from-yolo {path} DIR writes one of it, with lists and labels"
        raise DarkpyError(f"{path}: is {kind}, not a .data file", hint=hint)
    lines = read_lines(path, hint=_DATA_FILE_HINT, keep_bytes=True)
    contents = [line for line in map(str.strip, lines) if line and line[0] not in "#;["]
    if contents and not any("=" in line for line in contents):
        raise DarkpyError(f"{path}: is not a .data file: no line has the form key=value", hint=_DATA_FILE_HINT)
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
            entries[key] = unquote(value)
            if entries[key] != value:
                _warn(path, number, f"{key[:40]}= is in quotes, which no darknet removes; it is read without")
    for key in entries.keys() - KNOWN_KEYS:
        meaning = KEYS_OF_OTHERS.get(key.lower(), "")
        close = [meaning] if meaning else get_close_matches(key.lower(), KNOWN_KEYS, n=1, cutoff=MIN_KEY_LIKENESS)
        close = [name for name in close if name not in entries]
        if close:
            warnings.warn(f"{path}: {key}= is ignored; did you mean {close[0]}=?", DarkpyWarning, stacklevel=2)
    _tell_folders(path, {key: entries[key] for key in FILE_KEYS if key in entries})
    return DataFile(path, entries)


def read_top(data: DataFile, default: int = 1) -> int:
    """Read k of the top-k accuracy from top= of a `.data` file. Raises: DarkpyError when it is not a number."""
    text = data.entries.get("top", str(default))
    if not text.isdecimal() or not int(text[:18]):
        raise DarkpyError(f"{data.path}: top={text[:20]} is not a number of classes", hint="top=5, for example")
    return int(text[:18])


def _tell_folders(path: Path, values: Mapping[str, str]) -> None:
    """Tell in which folder the files lie that a `.data` file names by relative paths, if it is not the obvious one."""
    beside = {key: path.parent / value for key, value in values.items() if is_file(path.parent / value)}
    here = {key for key, value in values.items() if is_file(Path(value))}
    if only_beside := [f"{key}={values[key]}" for key in beside if key not in here]:
        shown = ", ".join(only_beside)
        message = f"{path}: {shown}: read from its folder, {path.parent}; the working directory has no such file"
        warnings.warn(message, DarkpyNote, stacklevel=3)
    for key in here & beside.keys():
        if not Path(values[key]).samefile(beside[key]):
            warning = (
                f"{key}={values[key]} is read from the working directory, and not {beside[key]}, which exists, too"
            )
            _warn(path, None, warning)


def _warn(path: Path, number: int | None, message: str) -> None:
    place = str(path) if number is None else f"{path}:{number}"
    warnings.warn(f"{place}: {message}", DarkpyWarning, stacklevel=3)
