"""The `tree=` file: classes that are kinds of each other, one `name parent` a line.

A line's number, from 0, is its class; parent -1 makes a root. Children of one parent are a group, which shares one
softmax.
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
from darkpy.errors import ConfigError
from darkpy.finding import Finding, Location

MAX_SIZE = 1 << 22  # bytes; YOLO9000's 9418 classes take 140 KB
_SHOWN = 20  # faults; a file of another kind has one in every line
_NUMBER = re.compile(r"-?\d{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """Names, parents, ... by class; offsets and sizes by group, the roots being group 0.

    parent: the class above, -1 for a root; always smaller than the class itself.
    group: the group that the class is in.
    child: the group of its children, -1 for a leaf.
    leaf: whether it is nobody's parent.
    group_offset: the group's first class; `group_size` classes follow each other.
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
    """The tree of a file, which is read again only when it has changed.

    Raises: ConfigError naming the file, and each line that is none or whose class has no place in a tree.
    Differs: darknet takes a line without a number for a root, and children that stand apart for several groups.
    """
    path = Path(path)
    try:
        state = path.stat()
    except (OSError, ValueError) as error:
        hint = "it is looked for from the working directory, then from the cfg's folder"
        raise _error(path, f"cannot be read: {getattr(error, 'strerror', None) or error}", hint) from error
    return _read(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _read(path: Path, changed: int, size: int) -> Tree:
    if not path.is_file() or size > MAX_SIZE:
        raise _error(path, f"is no tree: it is larger than {MAX_SIZE} bytes, or no file")
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise _error(path, f"cannot be read: {error.strerror or error}") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise _error(path, f"holds zero bytes, first in line {line}: it is damaged or no text", "fetch it again")
    lines = text.removesuffix("\n").split("\n")
    if findings := list(islice(_findings(lines, str(path)), _SHOWN)):
        raise ConfigError(findings)
    fields = [line.split() for line in lines]
    return _tree([name for name, _ in fields], [int(parent) for _, parent in fields])


def _error(path: Path, message: str, hint: str | None = None) -> ConfigError:
    return ConfigError([cfg_error(message, Location(str(path)), hint)])


def _findings(lines: Sequence[str], file: str) -> Iterator[Finding]:
    last = None
    seen: set[int] = set()
    for number, line in enumerate(lines):
        fields = line.split()
        if len(fields) != 2 or not _NUMBER.fullmatch(fields[1]):
            hint = "each line is a name without blanks and its parent's number, -1 for none"
            yield cfg_error(f"{line.strip()[:40]!r} is no `name parent`", Location(file, number + 1), hint)
            continue
        who, parent = f"class {number}, {fields[0][:40]!r},", int(fields[1])
        if not -1 <= parent < number:
            hint = "lines are counted from 0, and -1 makes a root"
            message = f"{who} has parent {parent}, which does not come before it"
            yield cfg_error(message, Location(file, number + 1), hint)
        elif parent != last and parent in seen:
            message = f"{who} stands apart from the other children of {parent}"
            yield cfg_error(message, Location(file, number + 1), "put children of one parent side by side")
        last = parent
        seen.add(parent)


def _tree(names: Sequence[str], parents: Sequence[int]) -> Tree:
    offset = [number for number, parent in enumerate(parents) if number == 0 or parent != parents[number - 1]]
    size = [end - start for start, end in zip(offset, [*offset[1:], len(parents)], strict=True)]
    child = [-1] * len(parents)
    for number, start in enumerate(offset[1:], start=1):
        child[parents[start]] = number
    return Tree(
        names=tuple(names),
        parent=tuple(parents),
        group=tuple(number for number, count in enumerate(size) for _ in range(count)),
        child=tuple(child),
        leaf=tuple(group < 0 for group in child),
        group_offset=tuple(offset),
        group_size=tuple(size),
    )
