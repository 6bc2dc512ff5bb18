"""The cfg language as darknet's two forks really read it.

A line loses all its blanks, tabs and carriage returns, inner ones too. `[name]` opens a section, `#` and `;` in the
first place make a comment, everything else is `key=value`, split at the first `=`. Of a repeated key the first counts.
Source: pjreddie/darknet and AlexeyAB/darknet, src/parser.c read_cfg, src/option_list.c.
Differs: carriage returns and a byte order mark are dropped in both dialects; what darknet swallows silently or
crashes on is reported.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from darkpy.errors import ConfigError, Fault, Severity
from darkpy.files import TEXT, describe

# beyond these a file is no cfg: the longest of either fork has 31 KB and 376 sections
MAX_SIZE = 1 << 20
MAX_SECTIONS = 10_000
MAX_FAULTS = 10_000
_BLANKS = str.maketrans("", "", " \t\r")


@dataclass(frozen=True, slots=True)
class Entry:
    """One `key=value` line; `value` is None where the line has no `=` (darknet then takes the key's default)."""

    key: str
    value: str | None
    line: int


@dataclass(frozen=True, slots=True)
class Section:
    """One `[type]` and its lines, in file order; `entries` holds the first line of each key.

    `index` is the layer number as darknet counts it: -1 for the first section, which is [net].
    """

    type: str
    line: int
    index: int
    entries: dict[str, Entry] = field(default_factory=dict)


class Faults:
    """Collects what is wrong with one cfg, so that one run shows it all.

    Raises: ConfigError on the MAX_FAULTS-th one, whatever its severity.
    """

    def __init__(self, file: str, found: tuple[Fault, ...] = ()) -> None:
        self.file = file
        self._found = list(found)

    def error(
        self, message: str, section: Section | None = None, *, line: int | None = None, hint: str | None = None
    ) -> None:
        self._add(Severity.ERROR, message, section, line, hint)

    def warn(self, message: str, section: Section, *, line: int | None = None, hint: str | None = None) -> None:
        self._add(Severity.WARNING, message, section, line, hint)

    @property
    def found(self) -> tuple[Fault, ...]:
        return tuple(self._found)

    def raise_errors(self, *, strict: bool = False) -> None:
        """Raises: ConfigError with all there is, warnings too, when one is an error; if `strict`, all are errors."""
        found = deduplicate(self._found)
        if strict:
            found = [replace(fault, severity=Severity.ERROR) for fault in found]
        if any(fault.severity is Severity.ERROR for fault in found):
            raise ConfigError(sorted(found, key=lambda fault: fault.line or 0))

    def _add(
        self, severity: Severity, message: str, section: Section | None, line: int | None, hint: str | None
    ) -> None:
        if section is None:
            fault = Fault(severity, message, self.file, line, hint=hint)
        else:
            index = section.index if section.index >= 0 else None
            place = (self.file, line or section.line, truncate(section.type), index)
            fault = Fault(severity, message, *place, hint=hint)
        self._found.append(fault)
        if len(self._found) >= MAX_FAULTS:
            last = Fault(Severity.ERROR, f"{MAX_FAULTS} faults, the rest is not checked: this is no cfg", self.file)
            raise ConfigError([*deduplicate(self._found), last])


def deduplicate(faults: Iterable[Fault]) -> list[Fault]:
    """Warnings that come again and again (the same key in every layer) said once, with a count."""
    groups: dict[object, list[Fault]] = {}
    for number, fault in enumerate(faults):
        is_warning = fault.severity is Severity.WARNING
        groups.setdefault((fault.message, fault.section) if is_warning else number, []).append(fault)
    return [
        replace(first, message=f"{first.message} ({len(others)} more like it)") if others else first
        for first, *others in groups.values()
    ]


@dataclass(frozen=True, slots=True)
class Config:
    """A parsed cfg: its sections, and what was odd about its lines."""

    file: str
    sections: tuple[Section, ...]
    faults: tuple[Fault, ...] = ()


def truncate(text: str) -> str:
    """What messages quote of a word that may be a whole file's length."""
    return text if len(text) <= 40 else f"{text[:37]}..."


def read(cfg: str | os.PathLike[str]) -> Config:
    """Parse a cfg file, or cfg text itself (any string with a line break in it).

    Raises: ConfigError when the file cannot be read or is plainly something else.
    """
    if isinstance(cfg, str) and "\n" in cfg:
        return parse(cfg)
    path = Path(cfg)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_SIZE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError([Fault(Severity.ERROR, f"cannot be read: {reason}", str(path))]) from error
    foreign = describe(data[:512])
    if foreign is not None and foreign is not TEXT:
        raise ConfigError([Fault(Severity.ERROR, f"is {foreign.what}, not a cfg", str(path), hint=foreign.hint)])
    if b"\0" in data:
        hint = "the order is CFG, then WEIGHTS"
        raise ConfigError([Fault(Severity.ERROR, "is a binary file, not a cfg", str(path), hint=hint)])
    return parse(data.decode("utf-8-sig", errors="replace"), str(path))


def parse(text: str, file: str = "<cfg>") -> Config:
    """Split cfg text into sections; the faults of its lines are collected.

    Raises: ConfigError when the text is too large for a cfg or nothing but faults.
    """
    faults = Faults(file)
    if len(text) > MAX_SIZE:
        faults.error(f"is larger than any cfg: {len(text)} characters, the limit is {MAX_SIZE}")
        faults.raise_errors()
    sections: list[Section] = []
    is_before_sections = False
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.translate(_BLANKS)
        if not line or line[0] in "#;":
            continue
        if line[0] == "[":
            name, closed, rest = line[1:].partition("]")
            sections.append(Section(name, number, len(sections) - 1))
            if not closed or rest:
                hint = "a section line holds nothing but its name: [convolutional]"
                faults.error(f"{truncate(line)!r} is no section name", sections[-1], hint=hint)
            if len(sections) > MAX_SECTIONS:
                faults.error(f"more than {MAX_SECTIONS} sections; the rest is not read", sections[-1])
                faults.raise_errors()
        elif sections:
            _add_entry(sections[-1], line, number, faults)
        elif not is_before_sections:
            is_before_sections = True
            faults.error(
                f"{truncate(line)!r} stands before the first section", line=number, hint="a cfg begins with [net]"
            )
    return Config(file, tuple(sections), faults.found)


def _add_entry(section: Section, line: str, number: int, faults: Faults) -> None:
    key, equals, value = line.partition("=")
    if equals and not value:
        faults.warn(f"'{truncate(key)}=' has no value; the line is dropped", section, line=number)
        return
    first = section.entries.setdefault(key, Entry(key, value if equals else None, number))
    if first.line != number:
        said = f"{truncate(key)!r} stands in line {first.line} already; the first counts, this one is ignored"
        faults.warn(said, section, line=number)
