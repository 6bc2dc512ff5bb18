"""What can go wrong, in the words of the user's own files.

Every error that darkpy raises on purpose is a `DarkpyError`: its text is written for the person who typed the
command, names the file (and line, section, layer, where there is one) and says what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class DarkpyError(Exception):
    """A fault in something the user gave us; never a bug in darkpy. `hint` is the one action that mends it."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class DarkpyWarning(UserWarning):
    """Something the user should know of and that does not stop the work."""


class ImageError(DarkpyError):
    """An image file that cannot be decoded; the message is one line and names the file."""


class WeightsError(DarkpyError):
    """A weight file that does not fit the network, or that is no weight file."""


class ShapeError(DarkpyError):
    """Sizes that do not fit each other; carries both numbers and the formula."""


class Severity(Enum):
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong in a cfg, with the place where it stands.

    `line` counts from 1, `index` is the layer number as darknet counts it (the first section after [net] is 0).
    """

    severity: Severity
    message: str
    file: str
    line: int | None = None
    section: str | None = None
    index: int | None = None
    hint: str | None = None

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        section = "" if self.section is None else f"[{self.section}] "
        layer = "" if self.index is None else f"layer {self.index} "
        text = f"{place}: {section}{layer}{self.message}"
        return f"{text}\n  hint: {self.hint}" if self.hint else text


class ConfigError(DarkpyError):
    """Every fault of a cfg, raised together so that one run shows them all (up to what a person would read)."""

    SHOWN = 200

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        self.shown = self.faults[: self.SHOWN]
        self.rest = f"... and {len(faults) - self.SHOWN} more faults" if len(faults) > self.SHOWN else ""
        super().__init__("\n".join(str(one) for one in (*self.shown, self.rest) if one))
