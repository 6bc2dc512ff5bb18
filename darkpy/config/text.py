"""Parser of the cfg language, as both darknets read it.

All spaces, tabs and carriage returns of a line are removed, inner ones too. `[name]` starts a section; a line that
starts with `#` or `;` is a comment; every other line is `key=value`, split at the first `=`. If a key is repeated, the
first one counts.
Source: pjreddie/darknet and AlexeyAB/darknet, src/parser.c read_cfg, src/option_list.c.
Differs: carriage returns and a byte order mark are dropped in both dialects; lines that darknet silently ignores or
crashes on are reported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from darkpy.errors import ConfigError
from darkpy.files import TEXT_FILE, identify, open_regular
from darkpy.finding import Cause, Finding, Location, Remedy, Severity

# a larger file is not a cfg: the longest that either darknet ships has 31 KB and 376 sections
MAX_SIZE = 1 << 20  # bytes
MAX_SECTIONS = 10_000
MAX_FINDINGS = 10_000
CFG_FINDING = "cfg"  # name of the findings that no check names
_JOINED_NUMBERS = re.compile(r"\d[ \t]+[-+.]?\d")
_REMOVED_CHARACTERS = str.maketrans("", "", " \t\r")


@dataclass(frozen=True, slots=True)
class Entry:
    """One `key=value` line; `value` is None if the line has no `=` (darknet then uses the key's default)."""

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


class FindingCollector:
    """Findings of one cfg, collected so that one run shows them all.

    Raises: ConfigError on the MAX_FINDINGS-th one, whatever its severity.
    """

    def __init__(self, file: str, findings: tuple[Finding, ...] = ()) -> None:
        self.file = file
        self._findings = list(findings)

    def error(
        self,
        message: str,
        section: Section | None = None,
        *,
        line: int | None = None,
        hint: str | None = None,
        remedy: Remedy | None = None,
    ) -> None:
        location = Location(self.file, line) if section is None else self._locate(section, line)
        self._add(replace(cfg_error(message, location, hint), remedies=() if remedy is None else (remedy,)))

    def warn(
        self,
        message: str,
        section: Section,
        *,
        line: int | None = None,
        hint: str | None = None,
        name: str = CFG_FINDING,
        cause: Cause = Cause.DETAILS,
        remedy: Remedy | None = None,
    ) -> None:
        finding = cfg_error(message, self._locate(section, line), hint)
        remedies = () if remedy is None else (remedy,)
        self._add(replace(finding, name=name, severity=Severity.WARNING, cause=cause, remedies=remedies))

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(self._findings)

    def replace_hint(self, hint: str, better: str) -> None:
        """Replace a hint wherever it is the only one."""
        self._findings = [
            replace(finding, hints=(better,)) if finding.hints == (hint,) else finding for finding in self._findings
        ]

    def raise_errors(self, *, strict: bool = False) -> None:
        """Raise all findings if one of them is an error, errors first; if `strict`, all are errors.

        Raises: ConfigError.
        """
        findings = deduplicate(self._findings)
        if strict:
            findings = [replace(finding, severity=Severity.ERROR) for finding in findings]
        if any(finding.severity is Severity.ERROR for finding in findings):
            is_error = [finding.severity is Severity.ERROR for finding in findings]
            lines = [finding.location.line or 0 for finding in findings]
            order = sorted(range(len(findings)), key=lambda index: (not is_error[index], lines[index]))
            raise ConfigError([findings[index] for index in order])

    def _locate(self, section: Section, line: int | None) -> Location:
        index = section.index if section.index >= 0 else None
        return Location(self.file, line or section.line, truncate(section.type), index)

    def _add(self, finding: Finding) -> None:
        self._findings.append(finding)
        if len(self._findings) >= MAX_FINDINGS:
            message = f"{MAX_FINDINGS} findings, the rest is not checked: this is not a cfg"
            raise ConfigError([*deduplicate(self._findings), cfg_error(message, Location(self.file))])


def cfg_error(message: str, location: Location, hint: str | None = None) -> Finding:
    hints = (hint,) if hint else ()
    return Finding(name=CFG_FINDING, message=message, severity=Severity.ERROR, location=location, hints=hints)


def deduplicate(findings: Iterable[Finding]) -> list[Finding]:
    """Merge findings that repeat (the same key in every layer) into one with a count, and with all their edits."""
    groups: dict[object, list[Finding]] = {}
    for finding in findings:
        hints = finding.hints[len(finding.remedies) :]
        kind = finding.severity, finding.message, hints, len(finding.remedies), finding.location.section
        groups.setdefault(kind, []).append(finding)
    return [_merge(group) if len(group) > 1 else group[0] for group in groups.values()]


def _merge(findings: Sequence[Finding]) -> Finding:
    first, *others = findings
    remedies = tuple(
        replace(remedy, edits=tuple(edit for finding in findings for edit in finding.remedies[index].edits))
        for index, remedy in enumerate(first.remedies)
    )
    message = f"{first.message} ({len(others)} more like it)"
    return replace(first, message=message, remedies=remedies, hints=first.hints[len(remedies) :])


@dataclass(frozen=True, slots=True)
class Config:
    """A parsed cfg: its sections, and the findings of its lines."""

    file: str
    sections: tuple[Section, ...]
    findings: tuple[Finding, ...] = ()


def truncate(text: str) -> str:
    """Shorten a word for a message: it may be as long as a whole file."""
    return text if len(text) <= 40 else f"{text[:37]}..."


def read(cfg: str | os.PathLike[str]) -> Config:
    """Parse a cfg file, or cfg text itself (any string with a line break in it).

    Raises: ConfigError when the file cannot be read or is recognized as something else.
    """
    if isinstance(cfg, str) and "\n" in cfg:
        return parse(cfg)
    path = Path(cfg)
    try:
        with open_regular(path) as stream:
            data = stream.read(MAX_SIZE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        hint = None
        if isinstance(error, FileNotFoundError) and not path.is_absolute():
            with suppress(OSError):
                hint = f"it was looked for in {Path.cwd()}; darkpy models lists the networks that need no file"
        raise ConfigError([cfg_error(f"cannot be read: {reason}", Location(str(path)), hint)]) from error
    kind = identify(data[:512])
    if kind is not None and kind is not TEXT_FILE:
        raise ConfigError([cfg_error(f"is {kind.description}, not a cfg", Location(str(path)), kind.hint)])
    if b"\0" in data:
        hint = "the order is CFG, then WEIGHTS"
        raise ConfigError([cfg_error("is a binary file, not a cfg", Location(str(path)), hint)])
    if b"\r" in data.rstrip() and b"\n" not in data:
        hint = "save it with line feeds: tr '\\r' '\\n' < OLD > NEW"
        raise ConfigError(
            [cfg_error("is one line for darknet: its lines end with carriage returns alone", Location(str(path)), hint)]
        )
    return parse(data.decode("utf-8-sig", errors="replace"), str(path))


def parse(text: str, file: str = "<cfg>") -> Config:
    """Split cfg text into sections; the findings of its lines are collected.

    Raises: ConfigError when the text is too large for a cfg or nothing but findings.
    """
    findings = FindingCollector(file)
    if len(text) > MAX_SIZE:
        findings.error(f"is larger than any cfg: {len(text)} characters, the limit is {MAX_SIZE}")
        findings.raise_errors()
    sections: list[Section] = []
    is_before_sections = False
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.translate(_REMOVED_CHARACTERS)
        if not line or line[0] in "#;":
            continue
        if line[0] == "[":
            name, closed, rest = line[1:].partition("]")
            sections.append(Section(name, number, len(sections) - 1))
            if closed and rest.startswith("#"):
                hint = "put the comment on a line of its own: only darknet V5 reads one behind a section's name"
                findings.warn(f"{truncate(line)!r} is read as [{truncate(name)}]", sections[-1], hint=hint)
            elif not closed or rest:
                hint = "a section line has only the name in brackets: [convolutional]"
                findings.error(f"{truncate(line)!r} is not a section name", sections[-1], hint=hint)
            if len(sections) > MAX_SECTIONS:
                findings.error(f"more than {MAX_SECTIONS} sections; the rest is not read", sections[-1])
                findings.raise_errors()
        elif sections:
            section = sections[-1]
            key, equals, value = line.partition("=")
            if equals and not value:
                findings.warn(f"'{truncate(key)}=' has no value; the line is ignored", section, line=number)
                continue
            first = section.entries.setdefault(key, Entry(key, value if equals else None, number))
            if first.line != number:
                message = f"duplicate key {truncate(key)!r} is ignored: line {first.line} already sets it"
                findings.warn(message, section, line=number)
            elif _JOINED_NUMBERS.search(raw.partition("=")[2].partition("#")[0]):
                message = f"of {truncate(raw.strip())} the blanks are dropped: it is read as {truncate(line)}"
                hint = "put a comma between two numbers"
                findings.warn(message, section, line=number, hint=hint, name="joined-numbers", cause=Cause.OPERATIONS)
        elif not is_before_sections:
            is_before_sections = True
            findings.error(
                f"{truncate(line)!r} is before the first section", line=number, hint="a cfg starts with [net]"
            )
    return Config(file, tuple(sections), findings.findings)
