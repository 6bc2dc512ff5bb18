"""Reader of the `tree=` file: a hierarchy of classes, one `name parent` a line.

A line's number, counted from 0, is its class; a root has parent -1. The children of one parent are a group, which
shares one softmax.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

from darkpy.config.text import cfg_error
from darkpy.errors import ConfigError, DarkpyError
from darkpy.files import read_text
from darkpy.finding import Finding, Location

MAX_SIZE = 1 << 22  # bytes; YOLO9000's 9418 classes take 140 KB
_MAX_FINDINGS = 20  # a file of another kind has one in every line
_LINE_HINT = "each line is a name without spaces and its parent's index, -1 for none"
_PARENT_INDEX = re.compile(r"-?\d{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """Class hierarchy: names, parents, ... by class; offsets and sizes by group. The roots are group 0.

    parent: class of the parent, -1 for a root; always smaller than the class itself.
    group: group of the class.
    child: group of its children, -1 for a leaf.
    leaf: True if the class has no children.
    group_offset: first class of the group, which has `group_size` consecutive classes.
    Source: pjreddie/darknet src/tree.c read_tree (AlexeyAB's has no child).
    """

    names: tuple[str, ...]
    parent: tuple[int, ...]
    group: tuple[int, ...]
    child: tuple[int, ...]
    leaf: tuple[bool, ...]
    group_offset: tuple[int, ...]
    group_size: tuple[int, ...]

    @property
    def classes(self) -> int:
        return len(self.parent)


def read_tree(path: str | os.PathLike[str]) -> Tree:
    """Read the tree of a file; cached until the file changes.

    Raises: ConfigError naming the file, and each line that is malformed or has an impossible parent.
    Differs: darknet reads a line without a number as a root, and children in separate places as several groups. Blank
             lines at the end are ignored.
    """
    path = Path(path)
    try:
        state = path.stat()
    except (OSError, ValueError) as error:
        hint = "it is relative to the working directory, or else to the cfg's folder"
        raise _error(path, f"cannot be read: {getattr(error, 'strerror', None) or error}", hint) from error
    return _read(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _read(path: Path, changed: int, size: int) -> Tree:
    try:
        text = read_text(path, max_bytes=MAX_SIZE, hint=_LINE_HINT)
    except DarkpyError as error:
        place, _, message = error.message.rpartition(f"{path}")[2].partition(": ")
        location = Location(str(path), int(place[1:]) if place else None)
        raise ConfigError([cfg_error(message, location, error.hint)]) from error
    lines = text.rstrip().split("\n")
    if findings := list(islice(_findings(lines, str(path)), _MAX_FINDINGS)):
        raise ConfigError(findings)
    fields = [line.split() for line in lines]
    parents = tuple(int(parent) for _, parent in fields)
    # a group starts where the parent changes
    offset = [index for index, parent in enumerate(parents) if index == 0 or parent != parents[index - 1]]
    sizes = [end - start for start, end in zip(offset, [*offset[1:], len(parents)], strict=True)]
    child = [-1] * len(parents)
    for group, start in enumerate(offset[1:], start=1):
        child[parents[start]] = group
    return Tree(
        names=tuple(name for name, _ in fields),
        parent=parents,
        group=tuple(group for group, count in enumerate(sizes) for _ in range(count)),
        child=tuple(child),
        leaf=tuple(group < 0 for group in child),
        group_offset=tuple(offset),
        group_size=tuple(sizes),
    )


def _error(path: Path, message: str, hint: str | None = None) -> ConfigError:
    return ConfigError([cfg_error(message, Location(str(path)), hint)])


def _findings(lines: Sequence[str], file: str) -> Iterator[Finding]:
    last = None
    seen: set[int] = set()
    for index, line in enumerate(lines):
        fields = line.split()
        if len(fields) != 2 or not _PARENT_INDEX.fullmatch(fields[1]):
            yield cfg_error(f"{line.strip()[:40]!r} is not `name parent`", Location(file, index + 1), _LINE_HINT)
            continue
        label, parent = f"class {index}, {fields[0][:40]!r},", int(fields[1])
        if not -1 <= parent < index:
            hint = "lines are counted from 0, and a root has -1"
            message = f"{label} has parent {parent}, which is not before it"
            yield cfg_error(message, Location(file, index + 1), hint)
        elif parent != last and parent in seen:
            message = f"{label} is separated from the other children of {parent}"
            yield cfg_error(message, Location(file, index + 1), "put the children of one parent on consecutive lines")
        last = parent
        seen.add(parent)
