"""The cfg language as darknet's two forks really read it.

A line loses all its blanks, tabs and carriage returns, inner ones too. `[name]` opens a section, `#` and `;` in the
first place make a comment, everything else is `key=value`, split at the first `=`. Of a repeated key the first counts.
Source: pjreddie/darknet and AlexeyAB/darknet, src/parser.c read_cfg, src/option_list.c.
Differs: carriage returns and a byte order mark are dropped in both dialects; what darknet swallows silently or
crashes on is reported.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from darkpy.errors import ConfigError, Fault, Severity

MAX_BYTES = 1 << 24  # the largest cfg of either fork has 100 KB: anything of this size is some other file
_BLANKS = str.maketrans("", "", " \t\r")


@dataclass(frozen=True, slots=True)
class Entry:
    """One `key=value` line; `value` is None where the line has no `=` (darknet then takes the key's default)."""

    key: str
    value: str | None
    line: int


@dataclass(frozen=True, slots=True)
class Section:
    """One `[type]` and its lines, in file order; `entries` holds the first line of each key."""

    type: str
    line: int
    entries: dict[str, Entry] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Config:
    """A parsed cfg: its sections, and what was odd about its lines."""

    file: str
    sections: tuple[Section, ...]
    faults: tuple[Fault, ...] = ()


def read(cfg: str | os.PathLike[str]) -> Config:
    """Parse a cfg file, or cfg text itself (any string with a line break in it).

    Raises: ConfigError when the file cannot be read or is no text.
    """
    if isinstance(cfg, str) and "\n" in cfg:
        return parse(cfg)
    path = Path(cfg)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise ConfigError([Fault(Severity.ERROR, f"cannot be read: {reason}", str(path))]) from error
    if len(data) > MAX_BYTES or b"\0" in data:
        what = "is larger than any cfg" if len(data) > MAX_BYTES else "is a binary file, not a cfg"
        hint = "the order is CFG, then WEIGHTS"
        raise ConfigError([Fault(Severity.ERROR, what, str(path), hint=hint)])
    return parse(data.decode("utf-8-sig", errors="replace"), str(path))


def parse(text: str, file: str = "<cfg>") -> Config:
    """Split cfg text into sections; faults are collected, never raised."""
    sections: list[Section] = []
    faults: list[Fault] = []
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.translate(_BLANKS)
        if not line or line[0] in "#;":
            continue
        if line[0] == "[":
            closed = line.endswith("]")
            sections.append(Section(line[1:-1] if closed else line[1:], number))
            if not closed:
                hint = "a section line holds nothing but its name: [convolutional]"
                faults.append(Fault(Severity.ERROR, f"{line!r} is no section name", file, number, hint=hint))
        else:
            faults.extend(_add_entry(sections[-1] if sections else None, line, file, number))
    return Config(file, tuple(sections), tuple(faults))


def _add_entry(section: Section | None, line: str, file: str, number: int) -> list[Fault]:
    key, equals, value = line.partition("=")

    def fault(severity: Severity, message: str, hint: str | None = None) -> list[Fault]:
        return [Fault(severity, message, file, number, section.type if section else None, hint=hint)]

    if section is None:
        return fault(Severity.ERROR, f"{line!r} stands before the first section", "a cfg begins with [net]")
    if equals and not value:
        return fault(Severity.WARNING, f"'{key}=' has no value; the line is dropped")
    first = section.entries.setdefault(key, Entry(key, value if equals else None, number))
    if first.line != number:
        message = f"{key!r} stands in line {first.line} already; the first counts, this one is ignored"
        return fault(Severity.WARNING, message)
    if not equals:
        return fault(Severity.WARNING, f"{line!r} has no '='; darknet takes the default of that key")
    return []
