"""Finding: something wrong in a cfg, in data, in weights or in a run, with its location and the remedies to try.

Text from files, made safe to show: on a terminal, in a message, in a table, in HTML, in a file name.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, IntEnum

_UNPRINTABLE_CANDIDATES = re.compile(r"[^ -~]")
_UNPRINTABLE_IN_LINES = re.compile(r"[^ -~\n\t]")
_JOINING_CHARACTERS = "\u200c\u200d"
"""Format characters that Persian, Indic scripts and emoji need."""


def printable(text: object, *, lines: bool = False) -> str:
    r"""Replace what is not printable by its escape: `\x1b` for the escape character, `\u202e` for reversed text.

    Files of others reach the terminal through messages, and control characters there could hide, recolor or forge text.
    lines: keep line breaks and tabs.
    """
    return (_UNPRINTABLE_IN_LINES if lines else _UNPRINTABLE_CANDIDATES).sub(_escape, str(text))


def _escape(match: re.Match[str]) -> str:
    letter = match[0]
    is_space = unicodedata.category(letter) == "Zs"  # of any width
    if letter.isprintable() or letter in _JOINING_CHARACTERS or is_space:
        return letter
    return letter.encode("unicode_escape").decode("ascii")


def count_text(number: int, noun: str) -> str:
    """Return `1 finding`, `2 findings`, `3 minibatches`, `4 classes`."""
    plural = "es" if noun.endswith(("h", "s", "x")) else "s"
    return f"{number} {noun}{'' if number == 1 else plural}"


class Severity(Enum):
    """An error prevents the work, a warning spoils its result; a note is information, not a defect."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Cause(IntEnum):
    """Area of the cause, in the order in which to look for it: bad data are the most frequent cause of a bad run."""

    DATA = 0
    RATES = 1
    OPERATIONS = 2
    DETAILS = 3


@dataclass(frozen=True, slots=True)
class Location:
    """Line of a file, with the section of a cfg that it belongs to.

    line: counted from 1. index: the layer number as darknet counts it (the first section after [net] is 0).
    """

    file: str = ""
    line: int | None = None
    section: str | None = None
    index: int | None = None

    @classmethod
    def parse(cls, place: str) -> Location:
        """Location of which `place` is the text."""
        match = re.fullmatch(r"(?:layer (\d+) )?(?:\[(.*?)\] )?(.*?)(?::(\d+))?", place, re.DOTALL)
        if match is None:
            return cls(place)
        index, section, file, line = match.groups()
        return cls(file, None if line is None else int(line), section, None if index is None else int(index))

    @property
    def file_line(self) -> str:
        """`yolov3.cfg:549`."""
        file = printable(self.file)
        return file if self.line is None else f"{file}:{self.line}"

    def __str__(self) -> str:
        """`layer 75 [convolutional] yolov3.cfg:549`."""
        layer = "" if self.index is None else f"layer {self.index} "
        section = "" if self.section is None else f"[{printable(self.section)}] "
        return f"{layer}{section}{self.file_line}"


_CFG_KEY = re.compile(r"\w+")
_SETTING_PATTERN = re.compile(r"\w+=[\w.,+-]+")
_SETTING_SEPARATOR = re.compile(r" (?:with )?")


@dataclass(frozen=True, slots=True)
class CfgEdit:
    """Setting of one key of a cfg. layer: the layer number as darknet counts it; None for [net].

    Raises: ValueError for a key or a value that is not one word of printable characters.
    """

    key: str
    value: str
    layer: int | None = None

    def __post_init__(self) -> None:
        is_word = bool(self.value) and self.value.isprintable() and not set(self.value) & set("#;")
        if not _CFG_KEY.fullmatch(self.key) or not is_word:
            raise ValueError(f"{self.key!r}={self.value!r}: no line of a cfg")

    def __str__(self) -> str:
        return f"{self.key}={self.value}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Remedy:
    """Action against the cause of a finding, for programs: edits of the cfg, or a command line.

    `darkpy.config.edit.apply_remedy(cfg_text, remedy)` makes the edits and keeps all other text of the cfg. The
    training is then repeated from weights that were still healthy, or from its start.

    edits: made together. command: words of a command line (`("darkpy", "anchors", "my.data")`) for the user to run,
        where no key of the cfg is the cause. reason: for these values, in a few words; empty for none.
    text: how it is printed; by default the edits, or the command, and the reason.
    """

    edits: tuple[CfgEdit, ...] = ()
    command: tuple[str, ...] = ()
    reason: str = ""
    text: str = ""

    @classmethod
    def parse(cls, text: str, layer: int | None = None) -> Remedy | None:
        """Remedy of which `steps=8,9 with scales=.1,.1` is the text, for one section; None for other text."""
        settings = _SETTING_SEPARATOR.split(text)
        if not all(_SETTING_PATTERN.fullmatch(setting) for setting in settings):
            return None
        pairs = (setting.partition("=") for setting in settings)
        return cls(edits=tuple(CfgEdit(key, value, layer) for key, _, value in pairs))

    def __str__(self) -> str:
        """`learning_rate=0.0005: a tenth`, `batch_normalize=1 in layers 0, 1, 2`, `darkpy anchors my.data`."""
        if self.text:
            return self.text
        layers_of: dict[str, list[str]] = {}
        for edit in self.edits:
            layers_of.setdefault(str(edit), []).extend([] if edit.layer is None else [str(edit.layer)])
        parts = [
            f"{text} in layer{'s' if len(layers) > 1 else ''} {', '.join(layers)}" if layers else text
            for text, layers in layers_of.items()
        ]
        text = " with ".join(parts) or shlex.join(self.command)
        return f"{text}: {self.reason}" if self.reason else text


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something wrong, with its location and what to try.

    name: identifier for programs (`stride-beyond-size`, `NonFinite`).
    hints: keys or actions to try, the most likely first; they begin with the texts of remedies that are not among them.
    remedies: hints that programs can carry out, the most likely first. key: of the section, that the finding is about.
    batch_num: the update of a run; 0 for none. paths: images that the finding is about, the worst first.
    evidence: the folder with copies of these images, relative to the run's folder; empty for none.
    """

    name: str
    message: str
    severity: Severity = Severity.WARNING
    cause: Cause = Cause.OPERATIONS
    location: Location = Location()
    hints: tuple[str, ...] = ()
    key: str | None = None
    batch_num: int = 0
    evidence: str = ""
    paths: tuple[str, ...] = ()
    remedies: tuple[Remedy, ...] = ()

    def __post_init__(self) -> None:
        """Make the message and the hints printable: they quote the user's files."""
        object.__setattr__(self, "message", printable(self.message, lines=True))
        shown, remedies = ([printable(hint, lines=True) for hint in hints] for hints in (self.hints, self.remedies))
        hints = dict.fromkeys([*(remedy for remedy in remedies if remedy not in shown), *shown])
        object.__setattr__(self, "hints", tuple(hints))

    @property
    def place(self) -> str:
        """Text of the location: `layer 75 [convolutional] yolov3.cfg:549`, `labels/x.txt:3`; empty for none."""
        return str(self.location)

    @property
    def is_note(self) -> bool:
        return self.severity is Severity.NOTE

    @property
    def text(self) -> str:
        """One line, without the hints: `yolov3.cfg:549: [convolutional] layer 75 has no filters`."""
        location = self.location
        file = f"{location.file_line}: " if location.file else ""
        section = "" if location.section is None else f"[{printable(location.section)}] "
        layer = "" if location.index is None else f"layer {location.index} "
        update = "" if not self.batch_num else f"update {self.batch_num}: "
        comma = ", " if layer and update else ""
        return f"{file}{section}{layer.rstrip() if comma else layer}{comma}{update}{self.message}"

    def __str__(self) -> str:
        return f"{self.text}\n  hint: {'; or '.join(self.hints)}" if self.hints else self.text


def data_finding(
    name: str, location: Location, message: str, *hints: str, severity: Severity = Severity.WARNING
) -> Finding:
    """Return a finding about images, labels or lists."""
    return Finding(name=name, message=message, severity=severity, cause=Cause.DATA, location=location, hints=hints)


def sort_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first, then data, rates, operations, details; notes last. Repeated findings are left out."""
    severities = list(Severity)
    unique = dict.fromkeys(findings)
    return sorted(unique, key=lambda finding: (severities.index(finding.severity), finding.cause))
