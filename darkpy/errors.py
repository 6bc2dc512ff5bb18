"""Errors of user input, in the words of the user's own files.

Every error that darkpy raises on purpose is a `DarkpyError`: its text is written for the user of the command, names
the file (with line, section and layer if there are any) and the action that fixes it.
"""

from __future__ import annotations

import errno
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from darkpy.finding import Cause, Finding, Location, Severity, printable


class DarkpyError(Exception):
    """An error in user input, never a bug in darkpy. `hint` is the one action that fixes it.

    Both are made printable: they quote the user's files.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.message = printable(message, lines=True)
        self.hint = None if hint is None else printable(hint, lines=True)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message

    def as_finding(self, name: str, cause: Cause, location: Location) -> Finding:
        """The same as a finding, for code that collects all problems before it stops."""
        place, _, message = self.message.partition(": ")
        given = Location.parse(place)
        if location.line is None and given.line is not None and given.file == location.file:
            location = given
        return Finding(
            name=name,
            message=message if place == str(location) else self.message,
            severity=Severity.ERROR,
            cause=cause,
            location=location,
            hints=(self.hint,) if self.hint else (),
        )


class DarkpyWarning(UserWarning):
    """A problem that the user should know about and that does not stop the work."""

    def __init__(self, message: object = "") -> None:
        super().__init__(printable(message, lines=True))


class DarkpyNote(DarkpyWarning):
    """Information that is not a problem, such as an automatic decision."""


class ImageError(DarkpyError):
    """An image file that cannot be decoded; the message is one line and names the file."""


class WeightsError(DarkpyError):
    """A weight file that does not fit the network, or that is not a weight file."""


class ShapeError(DarkpyError):
    """Sizes that do not fit each other; carries both numbers and the formula."""


class ChannelsError(ShapeError):
    """An input of another number of channels than the layer's own keys ask for. channels: that they ask for."""

    def __init__(self, message: str, channels: int) -> None:
        super().__init__(message, hint=f"set filters={channels} in the convolutional before it")
        self.channels = channels


class SizeMismatchError(ShapeError):
    """Width or height of an input that another input size may fix: joined layers differ in it."""


class ConfigError(DarkpyError):
    """All findings of a cfg, raised together so that one run shows them all (up to a readable number).

    The text names severities if there are warnings, too.
    """

    SHOWN = 200

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        self.shown = self.findings[: self.SHOWN]
        self.rest = f"... and {len(findings) - self.SHOWN} more findings" if len(findings) > self.SHOWN else ""
        is_mixed = len({finding.severity for finding in self.shown}) > 1
        lines = [f"{finding.severity.value}: {finding}" if is_mixed else str(finding) for finding in self.shown]
        super().__init__("\n".join([*lines, self.rest] if self.rest else lines))

    @property
    def faults(self) -> tuple[Finding, ...]:
        warnings.warn("ConfigError.faults is now ConfigError.findings", DeprecationWarning, stacklevel=2)
        return self.findings


_OUT_OF_MEMORY_TEXTS = re.compile(
    r"out of memory|(can't|cannot|unable to) (allocate|mmap)|not enough memory|bad_alloc|_ALLOC_FAILED"
    r"|could not create a (primitive(?! descriptor)|memory)",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """True if memory could not be allocated; torch's allocators and oneDNN raise RuntimeErrors of many texts."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return isinstance(error, RuntimeError) and _OUT_OF_MEMORY_TEXTS.search(str(error)) is not None


@contextmanager
def explain_out_of_memory(work: str, hint: str) -> Iterator[None]:
    """Raise one clear error for all of those in a `with` block that `is_out_of_memory` recognizes.

    work: that needs more memory than available. Raises: DarkpyError.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        raise DarkpyError(f"not enough memory for {work}", hint=hint) from error
