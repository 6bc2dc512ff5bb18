"""What the doctor says: one thing that is wrong, where it stands, and which keys to try."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any

from darkpy.errors import DarkpyError


class Cause(IntEnum):
    """Where a fault lies, in the order in which to look for it: most bad runs come of bad data."""

    DATA = 0
    RATES = 1
    OPERATIONS = 2
    DETAILS = 3


class Level(Enum):
    """An error keeps the network from training, a warning from training well; a note is no fault."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """kind: its name for programs. place: as `layer 75 [convolutional] yolov3.cfg:549` or `labels/x.txt:3`.

    tries: what may mend it, the likeliest first, in words of the cfg where it can be.
    """

    cause: Cause
    level: Level
    kind: str
    place: str
    message: str
    tries: tuple[str, ...] = ()

    @property
    def is_finding(self) -> bool:
        return self.level is not Level.NOTE

    def __str__(self) -> str:
        text = f"{self.place}: {self.message}"
        return f"{text}\n  try: {'; or '.join(self.tries)}" if self.tries else text


def in_order(found: Iterable[Diagnosis]) -> list[Diagnosis]:
    """Errors first, then data, rates, operations, details; notes last. What is said twice is left out."""
    levels = list(Level)
    return sorted(dict.fromkeys(found), key=lambda one: (levels.index(one.level), one.cause))


def of_error(error: DarkpyError, cause: Cause, kind: str, place: str) -> Diagnosis:
    """An error that another part of darkpy would stop at."""
    message = error.message.removeprefix(f"{place}: ")
    tries = (error.hint,) if error.hint else ()
    return Diagnosis(cause=cause, level=Level.ERROR, kind=kind, place=place, message=message, tries=tries)


def as_record(one: Diagnosis) -> dict[str, Any]:
    """The same for programs."""
    return {
        "level": one.level.value,
        "cause": one.cause.name.lower(),
        "kind": one.kind,
        "place": one.place,
        "message": one.message,
        "try": list(one.tries),
    }
