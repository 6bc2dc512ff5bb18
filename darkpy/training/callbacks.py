"""Callbacks of a training: each event goes to the objects that have a method of its name."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from darkpy.data.loading.bad_files import Problem
from darkpy.errors import DarkpyError, DarkpyWarning
from darkpy.finding import Finding
from darkpy.training.reports import UpdateReport

CALLBACK_EVENTS = ("on_start", "on_update", "on_validation", "on_checkpoint", "on_finding", "on_warning")
MAX_FILE_WARNINGS = 10
"""Kinds of problems with files, of each of which the first is warned of; bad.list and bad_label.list name all."""
_PLACE_PREFIX = re.compile(r".*?: ", re.DOTALL)
_VARIABLE_WORDS = re.compile(r"'[^']*'|[-+]?\d[\w.+-]*")


class Callbacks:
    """The callbacks of a run. findings: all so far. Raises: DarkpyError for a method that no event calls."""

    def __init__(self, callbacks: Sequence[object]) -> None:
        self.callbacks, self.is_main = callbacks, True
        self.findings: list[Finding] = []
        self._problem_entries: set[str] = set()
        self._problems_of_kind: dict[str, tuple[Problem, int]] = {}  # the first, and how many
        for callback in callbacks:
            for name in dir(callback):
                if name.startswith("on_") and callable(getattr(callback, name)) and name not in CALLBACK_EVENTS:
                    near = get_close_matches(name, CALLBACK_EVENTS, 1)
                    hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(CALLBACK_EVENTS)}"
                    raise DarkpyError(f"{type(callback).__name__}.{name}: no event of a training", hint=hint)

    def emit(self, event: str, value: object) -> None:
        """Call the callbacks; on other ranks than the main one only for `on_start`."""
        for callback in self.callbacks if self.is_main or event == "on_start" else ():
            if (method := getattr(callback, event, None)) is not None:
                method(value)

    def finding(self, finding: Finding) -> None:
        self.findings.append(finding)
        self.emit("on_finding", finding)

    def report(self, finding: Finding) -> None:
        """Pass on a finding from before the run: without an `on_finding` it is a warning, unless it is a note."""
        self.finding(finding)
        if not finding.is_note and not self._has("on_finding"):
            self.warn(str(finding))

    def _has(self, event: str) -> bool:
        return any(hasattr(callback, event) for callback in self.callbacks)

    def warn(self, message: str) -> None:
        if self._has("on_warning"):
            self.emit("on_warning", message)
        elif self.is_main:
            warnings.warn(message, DarkpyWarning, stacklevel=3)

    def warn_of_files(self, report: UpdateReport) -> None:
        """Warn of the first unusable file, or wrong label line, of each kind."""
        for problem in (problem for batch in report.batches for problem in batch.problems):
            if problem.entry in self._problem_entries:
                continue
            self._problem_entries.add(problem.entry)
            kind = _VARIABLE_WORDS.sub("#", _PLACE_PREFIX.sub("", problem.message, count=1))
            first, count = self._problems_of_kind.get(kind, (problem, 0))
            self._problems_of_kind[kind] = first, count + 1
            if not count and len(self._problems_of_kind) <= MAX_FILE_WARNINGS:
                self.warn(problem.message)

    def count_files(self) -> None:
        """Warn at the end of the number of unusable files and label lines of each kind that has more than one."""
        for first, count in self._problems_of_kind.values():
            if count > 1:
                names = "bad_label.list" if first.is_label else "bad.list"
                self.warn(f"{count - 1} more like this, all of them in {names}: {first.message}")

    @contextmanager
    def python_warnings(self) -> Iterator[None]:
        """Pass darkpy's Python warnings to `on_warning` for the time of a `with` block, if a callback has it."""
        if not self._has("on_warning"):
            yield
            return
        with warnings.catch_warnings():
            warnings.simplefilter("always", DarkpyWarning)
            show_others = warnings.showwarning

            def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
                if issubclass(category, DarkpyWarning):
                    self.warn(str(message))
                else:
                    show_others(message, category, *place, **more)

            warnings.showwarning = show
            yield
